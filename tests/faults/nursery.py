"""Starts services quickly: a process that has everything imported and forks a new one for each start.

A service's process costs two CPU seconds of imports, which a run that kills hundreds cannot spend. What is forked then runs
`signalbox run SERVICE` as the command line does, in a session of its own, and dies as any process dies.

    python -m tests.faults.nursery      stdin: {"number", "service", "env"}   stdout: {"number", "pid"} and {"number", "code"}

When its standard input ends, everything that it started is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import traceback
from typing import Any, NoReturn

import services.escalation.bootstrap
import services.gateway.server
import services.notifier.bootstrap
import services.router.bootstrap
import services.sla.bootstrap  # noqa: F401 - imported once, here, instead of in each child
from services.control import cli
from services.control.commands import run as run_command
from shared.runtime import crash

assert run_command


def main() -> None:
    """Serve until the standard input ends."""
    numbers: dict[int, int] = {}
    pending = b""
    try:
        while True:
            readable, _, _ = select.select([0], [], [], 0.02)
            if readable:
                data = os.read(0, 65_536)
                if not data:
                    break
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    request = json.loads(line)
                    pid = _start(request)
                    numbers[pid] = request["number"]
                    _say({"number": request["number"], "pid": pid})
            _reap(numbers)
    finally:  # also when nobody reads what we say any more
        for pid in numbers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _say(what: dict[str, Any]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _reap(numbers: dict[int, int]) -> None:
    while numbers:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        _say({"number": numbers.pop(pid), "code": os.waitstatus_to_exitcode(status)})


def _start(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        _child(request)
    return pid


def _child(request: dict[str, Any]) -> NoReturn:
    code = 70
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(2, 1)
        os.environ.update(request["env"])
        crash._armed = crash.read_environment(os.environ)
        code = cli.main(["run", request["service"]])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
