"""A worker process: the lanes of one or more services, their doorbells (Dramatiq), the dispatcher and the services' own loops.

    build Parts of each service (its bootstrap) -> `WorkerProcess(deps, parts)` -> `start()` … `stop()`

Doorbells are Dramatiq actors on the queues `<service>.<lane>`, one thread a lane, so that a flood in one lane never keeps another
from being heard. With Redis away the dispatcher's sweep drives the same lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import dramatiq
import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared.ledger.dispatch import Dispatcher
from shared.ledger.housekeeping import Housekeeping
from shared.ledger.kinds import LANES
from shared.ledger.lane import Handler, Journal, Lane, team_up
from shared.ledger.way import Way
from shared.runtime import memory
from shared.runtime.broker import Bells, DoorbellBroker, Heard, queue_name
from shared.runtime.ids import ItemIds
from shared.runtime.loops import Loop
from shared.runtime.settings import Settings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Deps:
    """What a service's bootstrap is given. Nothing else is reached for."""

    settings: Settings
    engine: Engine
    bells: Bells
    ids: ItemIds
    playbook_number: Callable[[Connection], int]
    playbooks: Any = None
    """`shared.playbook.store.Playbooks`."""
    directory: Any = None
    """`shared.directory.store.DirectoryCache`."""


class Background:
    """Something a service runs besides its lanes (the notifier's sender): started and stopped with the process."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End; work in hand is finished or left to its lease."""

    def inline(self) -> None:
        """Do the work in the caller's thread from now on: for a virtual clock, which would not wait."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A service as its bootstrap hands it over."""

    service: str
    handlers: Sequence[Handler]
    loops: Sequence[Loop] = ()
    background: Sequence[Background] = ()
    cap: int = 200
    warm: Callable[[Any], object] | None = None
    """Compiles a playbook version for this service."""


@dataclass(slots=True)
class WorkerProcess:
    """Runs services in this process until `stop`."""

    deps: Deps
    parts: Sequence[Parts]
    lanes: Sequence[str] = LANES
    _dispatcher: Dispatcher | None = None
    _worker: dramatiq.Worker | None = None
    _broker: DoorbellBroker | None = None
    _journal: Journal | None = None
    _housekeeping: Housekeeping | None = None
    _heard: Heard = field(default_factory=Heard)
    _built: list[Lane] = field(default_factory=list)

    def build(self) -> list[Lane]:
        """The lanes of all services in this process."""
        self._journal = Journal(self.deps.engine)
        self._built = [
            Lane(
                engine=self.deps.engine,
                handler=handler,
                lane=lane,
                journal=self._journal,
                ring=self.ring,
                playbook=self.deps.playbook_number,
                cap=part.cap,
            )
            for part in self.parts
            for handler in part.handlers
            for lane in self.lanes
        ]
        team_up(self._built, early=True)
        return self._built

    def start(self) -> None:
        self._warm()
        lanes = self.build()
        way = Way()
        for lane in lanes:
            lane.way = way
        self._dispatcher = Dispatcher(self.deps.engine, lanes, self.deps.bells, self._journal)
        self._dispatcher.start()
        self._listen()
        services = [part.service for part in self.parts]
        self._housekeeping = Housekeeping(self.deps.engine, services, services)
        self._housekeeping.start()
        for part in self.parts:
            for loop in part.loops:
                loop.start()
            for background in part.background:
                background.start()
        memory.settle()

    def _warm(self) -> None:
        """Compile the playbook and read the directory before anything is in hand: a first batch that takes a second is one in
        whose middle a process is easily killed."""
        if self.deps.playbooks is None:
            return
        try:
            with self.deps.engine.connect() as connection:
                current = self.deps.playbooks.current(connection)
                self.deps.directory.get(connection)
            for part in self.parts:
                if part.warm is not None:
                    part.warm(current)
        except (DBAPIError, PoolTimeout, LookupError) as error:
            log.warning("starts_cold", error=f"{type(error).__name__}: {error}"[:200])

    def stop(self) -> None:
        """Drain: finish batches in hand, claim no more."""
        if self._worker is not None and self._broker is not None:
            with suppress(Exception):
                for consumer in self._worker.consumers.values():
                    consumer.stop()
                self._broker.hang_up()
                for thread in self._worker.workers:
                    thread.stop()
                self._heard.close()
                self._worker.stop(timeout=5_000)
        if self._housekeeping is not None:
            self._housekeeping.stop()
        for part in self.parts:
            for background in part.background:
                background.stop()
            for loop in part.loops:
                loop.stop()
        if self._dispatcher is not None:
            self._dispatcher.stop()

    def ring(self, targets: set[tuple[str, str]]) -> None:
        """Wake lanes elsewhere; those of this process are woken directly when Redis is away."""
        if self.deps.bells.ring(targets) or self._dispatcher is None:
            return
        here = {(lane.name[0], lane.lane) for lane in self._built}
        self._dispatcher.expect_now(targets & here)

    def _listen(self) -> None:
        url = self.deps.settings.redis_url
        if url is None:
            return
        broker = self._broker = DoorbellBroker(url)
        dispatcher = self._dispatcher
        assert dispatcher is not None
        for part in self.parts:
            for lane in self.lanes:
                name = queue_name(part.service, lane)

                def heard(service: str = part.service, lane: str = lane) -> None:
                    dispatcher.drain(service, lane)

                dramatiq.actor(broker=broker, actor_name=name, queue_name=name)(heard)
        self._worker = dramatiq.Worker(broker, worker_threads=len(self.lanes) * len(self.parts), worker_timeout=1000)
        self._worker.work_queue = self._heard
        self._worker.start()
