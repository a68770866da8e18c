"""The services' processes: one each, started again whenever they die, as a supervisor of processes does on any host.

A process may be armed with a crash point, so that it dies at a place instead of at a time; how each death came about is kept.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from shared.runtime.embedded import ports
from tests.faults.world import World
from tests.support.door import free_port
from tests.support.wait import until

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("gateway", "router", "sla", "escalation", "notifier")


@dataclass
class Kept:
    """One process, and what it is armed with. `pid` None: it is being started, or was not yet."""

    service: str
    http: int
    metrics: int
    pid: int | None = None
    armed: str = ""
    since: float = 0.0
    shot: bool = False
    """We killed it."""


@dataclass
class Keeper:
    """Keeps `count` processes of each service running until the end of the block.

    Attributes:
        services: which.
        points: crash points (service, name, range of passings) to arm newly started processes with, in turn.
        patience_seconds: how long a process has to get to its crash point before it may be killed like any other.
        hits: how often a process died at each point, by "service point". killed: how often we killed one, by service.
        strange: deaths that nobody ordered, as text.
    """

    world: World
    count: int = 1
    points: list[tuple[str, str, tuple[int, int]]] = field(default_factory=list)
    seed: int = 1
    services: tuple[str, ...] = SERVICES
    patience_seconds: float = 10.0
    hits: Counter[str] = field(default_factory=Counter)
    killed: Counter[str] = field(default_factory=Counter)
    strange: list[str] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    _stopping: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._random = random.Random(self.seed)
        self._log: IO[bytes] = (self.world.home / "services.log").open("ab")
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery"],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("SIGNALBOX_")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._thread = threading.Thread(target=self._listen, name="keeper", daemon=True)
        self._thread.start()
        for _ in range(self.count):
            base = ports.block(len(SERVICES))
            self.kept += [Kept(service, free_port(), base) for service in self.services]
        with self._lock:
            for one in self.kept:
                self._start(one)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._stopping = True
            for pid in self.pids:
                os.kill(pid, signal.SIGTERM)
        try:
            until(lambda: not self.pids, seconds=20, what="every service stops")
        finally:
            assert self._nursery.stdin is not None
            self._nursery.stdin.close()  # kills who is left
            self._nursery.wait(20)
            self._thread.join(10)
            self._log.close()

    @property
    def urls(self) -> list[str]:
        """The gateways."""
        return [f"http://127.0.0.1:{one.http}" for one in self.kept if one.service == "gateway"]

    @property
    def pids(self) -> list[int]:
        return [one.pid for one in self.kept if one.pid is not None]

    @property
    def log(self) -> str:
        """What the processes said."""
        return (self.world.home / "services.log").read_text(errors="replace")

    def kill_one(self, service: str | None = None) -> None:
        """SIGKILL to a process, any or of a service; one that is to die at a crash point has a while to get there."""
        with self._lock:
            alive = [
                one
                for one in self.kept
                if one.pid is not None
                and service in (None, one.service)
                and (not one.armed or time.monotonic() - one.since > self.patience_seconds)
            ]
            if alive:
                one = self._random.choice(alive)
                self.killed[one.service] += 1
                if one.armed:  # its turn comes again, sooner after its start
                    self.points.append((one.service, one.armed.partition(":")[0], (3, 3)))
                self._shoot(one)

    def disarm(self) -> None:
        """No more crash points; processes that are armed still are killed, so that nobody dies later."""
        with self._lock:
            self.points.clear()
            for one in self.kept:
                if one.armed and one.pid is not None:
                    self._shoot(one)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _shoot(self, one: Kept) -> None:
        assert one.pid is not None
        one.shot = True
        with suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGKILL)

    def _start(self, one: Kept) -> None:
        one.armed, one.shot, one.since = self._next_point(one.service), False, time.monotonic()
        environment = self.world.environment | {
            "SIGNALBOX_HTTP": f"127.0.0.1:{one.http}",
            "SIGNALBOX_METRICS": f"127.0.0.1:{one.metrics}",
            "SIGNALBOX_CRASH": one.armed,
        }
        request = {"number": self.kept.index(one), "service": one.service, "env": environment}
        assert self._nursery.stdin is not None
        self._nursery.stdin.write(json.dumps(request).encode() + b"\n")
        self._nursery.stdin.flush()

    def _next_point(self, service: str) -> str:
        for index, (whose, name, passings) in enumerate(self.points):
            if whose == service:
                del self.points[index]
                return f"{name}:{self._random.randint(*passings)}"
        return ""

    def _listen(self) -> None:
        assert self._nursery.stdout is not None
        for line in self._nursery.stdout:
            told = json.loads(line)
            with self._lock:
                one = self.kept[told["number"]]
                if "pid" in told:
                    one.pid = told["pid"]
                    continue
                one.pid = None
                self._note(one, told["code"])
                if not self._stopping:
                    self._start(one)

    def _note(self, one: Kept, code: int) -> None:
        if code == -signal.SIGKILL and one.armed and not one.shot:
            self.hits[f"{one.service} {one.armed.partition(':')[0]}"] += 1
        elif not one.shot and not (self._stopping and code == 0):
            self.strange.append(f"{one.service} ended with {code}, unordered")
