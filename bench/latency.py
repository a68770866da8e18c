"""How soon a ticket is somebody's: over real HTTP, with the services as `up` starts them.

    python -m bench.latency [--quiet 200] [--urgent 100] [--backlog 10000 ...]

First a quiet system: one ticket at a time, and what all services use while nothing happens. Then tickets that are urgent only by
their text, posted while a backlog of ordinary ones is worked off. From just before the POST to the commit of `ticket.assigned`
(the server's own record of it). Full size: --quiet 400 --urgent 200 --backlog 10000 100000.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml

from bench.fanout_drivers import HTTP_PORT, OK, SMTP_PORT, sink
from bench.tools import desk
from bench.tools.house import ROOT, House, house
from bench.tools.meter import Verdicts, cpu_seconds, load, percentile
from shared.ledger.process import Deps
from shared.runtime.clock import monotonic, pause
from shared.runtime.embedded import ports

KEY = "bench-administrator"
IDLE_SECONDS = 15.0
RULES = [
    {"name": "how-bad", "matches": "first", "rules": [
        {"name": "text", "when": {"text": {"contains": [desk.URGENT_WORD]}}, "then": {"priority": "urgent"}},
        {"name": "as-usual", "default": True},
    ]},
    {"name": "whose", "matches": "first", "rules": [
        *({"name": f"product-{n}", "when": {"fields.product": f"product{n}"}, "then": {"group": f"g{n % 10}"}} for n in range(20)),
        {"name": "everything-else", "default": True, "then": {"group": "g0"}},
    ]},
]  # fmt: skip


def main() -> int:
    """Measure and say whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quiet", type=int, default=200)
    parser.add_argument("--urgent", type=int, default=100)
    parser.add_argument("--backlog", type=int, nargs="*", default=[10_000])
    args = parser.parse_args()
    verdicts = Verdicts()
    with whole("latency") as (deps, door, pid):
        chance = random.Random(5)
        for _ in range(30):
            door.post(desk.ticket(chance))
            pause(0.02)
        pause(2.0)
        posted, answered = dict[int, float](), list[float]()
        for _ in range(args.quiet):
            at = time.time()
            posted[door.post(desk.ticket(chance))] = at
            answered.append((time.time() - at) * 1000)
            pause(0.03)
        found = committed(deps, posted, "ticket.assigned")
        opened = committed(deps, posted, "ticket.opened")
        print(
            f"     quiet: p50 {percentile(found, 0.5):.1f}, p99 {percentile(found, 0.99):.1f} ms;"
            f" committed p50 {percentile(opened, 0.5):.1f}, answered p50 {percentile(answered, 0.5):.1f} ms  [{load()}]",
            flush=True,
        )
        verdicts.most("quiet, POST to assigned, p50", percentile(found, 0.5), 10, "ms")
        verdicts.most("quiet, POST to assigned, p99", percentile(found, 0.99), 30, "ms")
        pause(5.0)
        before, started = cpu_seconds([pid]), monotonic()
        pause(IDLE_SECONDS)
        used = (cpu_seconds([pid]) - before) / (monotonic() - started) * 100
        verdicts.most("idle CPU of all services together", used, 3, "% of a core")
        for place, backlog in enumerate(args.backlog, start=1):
            _behind(deps, door, backlog, args.urgent, verdicts, drained=place < len(args.backlog))
    return 1 if verdicts.failed else 0


def _behind(deps: Deps, door: Door, backlog: int, urgent: int, verdicts: Verdicts, *, drained: bool) -> None:
    """Urgent tickets while so many ordinary ones wait; `drained`: see the backlog off afterwards."""
    filled = 0
    while (left := _waiting(deps)) < backlog * 0.98:  # what is worked off meanwhile is filled up again
        filled += 1
        desk.fill(deps, backlog - left, seed=backlog + filled)
    chance, posted = random.Random(9), dict[int, float]()
    for _ in range(urgent):
        at = time.time()
        posted[door.post(desk.ticket(chance, text=desk.URGENT_WORD))] = at
        pause(0.03)
    after = _waiting(deps)
    found = committed(deps, posted, "ticket.assigned")
    print(f"     backlog {left:,} -> {after:,} while {urgent} urgent ones came  [{load()}]", flush=True)
    verdicts.most(f"urgent by its text behind {backlog:,}, p50", percentile(found, 0.5), 150, "ms")
    verdicts.most(f"urgent by its text behind {backlog:,}, p99", percentile(found, 0.99), 150, "ms")
    if drained:
        while _waiting(deps):
            pause(0.5)


def _waiting(deps: Deps) -> int:
    with deps.engine.connect() as connection:
        return int(
            connection.exec_driver_sql(
                "select count(*) from ledger.agenda where service = 'router' and lane = 'normal' and due_at <= ledger.now()"
            ).scalar_one()
        )


def committed(deps: Deps, posted: dict[int, float], what: str) -> list[float]:
    """Milliseconds from each POST to the commit of the ticket's event of this type."""
    deadline = monotonic() + 60
    while True:
        with deps.engine.connect() as connection:
            rows: Sequence[Any] = connection.exec_driver_sql(
                """select id, extract(epoch from pg_xact_commit_timestamp(txid::xid))::double precision as at from ledger.event
                where kind = 'ticket' and id = any(%s) and type = %s""",
                (list(posted), what),
            ).all()
        if len(rows) >= len(posted):
            return [(row.at - posted[row.id]) * 1000 for row in rows]
        if monotonic() > deadline:
            raise RuntimeError(f"{len(posted) - len(rows)} tickets have no {what} after a minute")
        pause(0.2)


class Door:
    """The gateway over one kept connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self._used = 0.0

    def again(self) -> Door:
        """Another connection to the same gateway."""
        return Door(self._connection.port)

    def post(self, ticket: Any) -> int:
        """Open a ticket; its id."""
        body = msgspec.json.encode(
            {name: value for name, value in msgspec.to_builtins(ticket).items() if value is not None}
        )
        if monotonic() - self._used > 2:
            self._connection.close()  # the gateway may have closed it meanwhile; the next request opens it again
        self._used = monotonic()
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        self._connection.request("POST", "/v1/tickets", body, headers)
        answer = self._connection.getresponse()
        found = answer.read()
        if answer.status != 202:
            raise RuntimeError(f"POST: {answer.status} {found[:300]!r}")
        return int(msgspec.json.decode(found)["id"])


@contextmanager
def whole(name: str) -> Iterator[tuple[Deps, Door, int]]:
    """All services with `RULES` over servers that know when each transaction was committed, and providers that take everything."""
    with (
        sink("http", HTTP_PORT, "--body", OK),
        sink("smtp", SMTP_PORT),
        house(track_commit_timestamp="on") as made,
        up(made, name, rules=RULES) as (door, pid),
    ):
        deps = made.deps()
        yield deps, door, pid
        deps.engine.dispose()


@contextmanager
def up(made: House, name: str, **sections: Any) -> Iterator[tuple[Door, int]]:
    """`signalbox up` on the house's servers with a desk of these sections: the door and the process id, ready."""
    made.fresh(name)
    http_port, first = ports.block(1), ports.block(5)
    with tempfile.TemporaryDirectory() as folder:
        channels = desk.channels(SMTP_PORT, HTTP_PORT)
        (Path(folder) / "desk.yaml").write_text(yaml.safe_dump(desk.sections(channels=channels, **sections)))
        environment = dict(
            os.environ, SIGNALBOX_DATABASE_URL=made.database_url, SIGNALBOX_REDIS_URL=made.servers.redis_url + "/0",
            SIGNALBOX_HTTP=f"127.0.0.1:{http_port}", SIGNALBOX_METRICS=f"127.0.0.1:{first}", SIGNALBOX_ADMIN_KEY=KEY,
            SIGNALBOX_HOME=folder, SIGNALBOX_LOG="warning", BENCH_SECRET="whsec_YmVuY2g=",
        )  # fmt: skip
        command = [sys.executable, "-m", "services.control.cli", "up", "--playbook", folder]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            while "Ctrl-C" not in (line := process.stdout.readline()):
                if not line:
                    raise RuntimeError(f"up ended: {process.wait()}")
            yield Door(http_port), process.pid
        finally:
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    sys.exit(main())
