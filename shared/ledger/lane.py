"""One service's lane: claim a batch, hand it to the service, save what it decided, ring those it woke.

A batch that fails is split until only the culprit is left; the culprit is tried again later, and after five failures it is
quarantined: visible, replayable, and in nobody's way. What a batch holds is noted in the journal before the service sees it, so
that an item that kills its worker is found too (`audit`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from shared.contracts.envelope import Actor
from shared.ledger import sql
from shared.ledger.claim import Who, claim, claim_ids, with_events
from shared.ledger.crew import Crew, Took
from shared.ledger.errors import Permanent, Transient
from shared.ledger.handler import Handler as Handler
from shared.ledger.kinds import URGENT
from shared.ledger.unit import Unit, Work
from shared.ledger.way import LEAST, GaveWay, Way
from shared.runtime import copying, metrics
from shared.runtime.clock import monotonic
from shared.runtime.crash import crash_point
from shared.runtime.database import is_passing

log = structlog.get_logger()

FAILURE_LIMIT = 5
CRASH_LIMIT = 3
"""Deaths with an item alone in hand before it is set aside; those that made it a suspect do not count."""
SUSPECTS = 16
"""So many that were in a batch when its worker died are claimed together first; should that worker die too, each comes alone."""
SUSPECT_PAUSE_SECONDS = 1.0
"""A suspect with which its worker died waits so long, and twice as long the next time."""
SUSPECTS_SECONDS = 0.2
SMALLEST = 100
"""Items of a first claim."""
BATCH_SECONDS = 0.1
"""What a batch may take; it is the longest that a person's command waits for its ticket."""
LATE_BATCH_SECONDS = 0.3
"""The same for a backlog: what is a batch's own is shared by more items then, and all are done sooner."""
LATE_AFTER = timedelta(seconds=5)
"""Whoever waits for a ticket that is so late already waits longer for the backlog than for a batch."""
STUCK_SECONDS = 6.0
"""As long as the server lets a transaction stand idle (shared/runtime/database.py)."""
GATHER_SECONDS = 0.02
"""A lane that was just rung for an instant is rung again after this long at the earliest: at a thousand instants a second what a
batch costs by itself is shared by some ten of them. One that comes alone is rung for at once."""
ADVISORY_SPACE = 0x5162
"""Key space of the advisory locks by which a worker shows that it lives."""


Ring = Callable[[set[tuple[str, str]]], None]
PlaybookNumber = Callable[[Connection], int]


@dataclass(slots=True)
class Journal:
    """This worker's life sign and its note of what it has in hand: one connection of its own, never waited for by others."""

    engine: Engine
    worker: int = 0
    _connection: Connection | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, slot: str, service: str, kind: str, ids: list[int]) -> None:
        """Commit what slot `slot` is about to handle. A lost flush on a server crash costs nothing: then nothing was handled."""
        with self._lock:
            connection = self._alive()
            try:
                connection.exec_driver_sql(
                    sql.JOURNAL,
                    {"worker": self.worker, "slot": slot, "service": service, "kind": kind, "ids": ids},
                )
            except DBAPIError:
                self._drop()
                raise

    def close(self) -> None:
        """Forget this worker's notes: it stops in good order."""
        with self._lock:
            if self._connection is not None:
                with suppress(DBAPIError):
                    self._connection.exec_driver_sql("delete from ledger.journal where worker = %s", (self.worker,))
                self._drop()

    def _alive(self) -> Connection:
        if self._connection is None:
            connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql("set synchronous_commit = off")
            self.worker = connection.exec_driver_sql("select nextval('ledger.worker_seq')").scalar_one()
            connection.exec_driver_sql("select pg_advisory_lock(%s, %s)", (ADVISORY_SPACE, self.worker))
            self._connection = connection
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(DBAPIError):
                self._connection.invalidate()
                self._connection.close()
            self._connection = None


@dataclass(slots=True)
class Lane:
    """Runs one (service, kind, lane). `run_once` handles one batch; `drain` goes on until nothing is due.

    Any number of lanes in any number of processes may run side by side; within one object only one thread drains at a time, and
    a call that comes meanwhile makes that thread look once more.
    """

    engine: Engine
    handler: Handler
    lane: str
    journal: Journal | None
    ring: Ring
    playbook: PlaybookNumber
    cap: int = 200
    crew: Crew | None = None
    """The services of this process that decide the same items; None: this one alone."""
    mates: dict[str, Lane] = field(default_factory=dict)
    """The crew's lanes of the same name, this one among them, by service."""
    way: Way | None = None
    """Shared with the process's other lanes; None: this one gives way to nobody (one thread does everything)."""
    on_armed: Callable[[Any], None] | None = None
    """Told the earliest future instant that a batch armed, so that the dispatcher need not wait for its sweep."""
    _size: int = SMALLEST
    _each: float = BATCH_SECONDS / SMALLEST
    """Seconds an item of the last batch cost."""
    _suspects_at: float = 0.0
    _calm_at: float = float("inf")
    """Since when a batch in hand is given up if urgent work comes; never, while some came not long before."""
    _busy: threading.Lock = field(default_factory=threading.Lock)
    _again: bool = False
    _emptied: bool = False
    """The last batch was all that was due then, left nothing due, and took so little time that little has fallen due since."""
    suspects: bool = True

    @property
    def name(self) -> tuple[str, str, str]:
        return self.handler.service, self.handler.kind, self.lane

    def drain(self, should_stop: Callable[[], bool] = lambda: False, *, to_the_last: bool = True) -> int:
        """Handle batches until nothing is due; returns how many items were handled by this call.

        Not `to_the_last`: until a batch was short, in items and in time. What has fallen due since is left to the next one.
        """
        handled = 0
        self._again = True
        while self._again and self._busy.acquire(blocking=False):
            try:
                while self._again and not should_stop():
                    self._again = False
                    while (count := self.run_once()) and not should_stop():
                        handled += count
                        if self._emptied and not to_the_last:
                            break
            finally:
                self._busy.release()
            if should_stop():
                break
        return handled

    def heard(self) -> bool:
        """Make a thread that drains this lane now look once more; False when there is none."""
        self._again = True
        return self._busy.locked()

    def run_once(self) -> int:
        """Claim, handle and save one batch; 0 when nothing is due here. Raises what the database says when it is away."""
        if self.way is None:
            return self._round(self._size)
        if self.lane != URGENT:
            return self._ordinary(self.way)
        with self.way.taken():
            return self._round(self._size)

    def _ordinary(self, way: Way) -> int:
        way.give()
        self._calm_at = float("inf") if way.recent else monotonic()
        try:
            return self._round(way.limit(self._size, self._each))
        except GaveWay:
            return self._ordinary(way)

    def _round(self, limit: int) -> int:
        count = self._batch(limit)
        if self.suspects and (count == 0 or monotonic() >= self._suspects_at):
            # their turn comes also while the lane is never empty
            self._suspects_at = monotonic() + SUSPECTS_SECONDS
            found = self._suspects()
            if count == 0:
                self.suspects = found > 0
                return found
        return count

    def _suspects(self) -> int:
        return self._batch(SUSPECTS, "suspects") + self._batch(1, "alone")

    def _resize(self, count: int, seconds: float, *, late: bool) -> None:
        """Claim more next time while batches are full and short: people wait for the batch that holds their ticket."""
        most = LATE_BATCH_SECONDS if late else BATCH_SECONDS
        if seconds > most and count > SMALLEST:
            self._size = max(SMALLEST, min(self._size, int(count * most / seconds)))
        elif count >= self._size and seconds < most / 2:
            self._size = min(self._size * 2, self.cap)
        elif count < self._size // 2:
            self._size = max(SMALLEST, self._size // 2)

    def _batch(self, limit: int, who: Who = "sound") -> int:
        service, kind, lane = self.name
        started = monotonic()
        self._emptied = False
        with self.engine.connect() as connection:
            work, now = claim(connection, service, kind, lane, limit, who)
            if not work or now is None:
                connection.rollback()
                return 0
            if self.way is not None and lane == URGENT:
                self.way.came()
            ids = [one.id for one in work]
            failure: Exception | None = None
            try:
                if self.journal is not None:
                    # a slot for each lane object: services that share a process must not overwrite each other's notes
                    self.journal.note(f"{service}.{kind}.{lane}", service, kind, ids)
                # what failed or crashed before is for this service alone, until it is known to be well
                alone = who != "sound" or any(one.failures for one in work)
                unit = self._handle(connection, work, now, alone=alone)
            except GaveWay:
                connection.rollback()
                raise
            except Exception as error:
                connection.rollback()
                if is_passing(error):
                    metrics.HANDLED.labels(service, "retried").inc(len(ids))
                    raise
                failure = error
        if failure is not None:
            self._split(ids, failure)
            return len(ids)
        seconds = monotonic() - started
        self._finished(unit, seconds)
        if who != "sound":
            return len(work)
        self._each = seconds / len(work)
        self._emptied = len(work) < limit and seconds < GATHER_SECONDS and (service, lane) not in unit.woken
        if limit == self._size:
            self._resize(len(work), seconds, late=now - work[0].due_at > LATE_AFTER)
        return len(work)

    def _handle(self, connection: Connection, work: list[Work], now: Any, *, alone: bool = False) -> Unit:
        service, _, _ = self.name
        unit = Unit(connection, now, Actor(kind="service", id=service), self.playbook(connection))
        crash_point("lane.claimed")
        with copying.gathering(connection):
            if self.crew is not None and not alone and not self.crew.waits(service, work):
                way = self.way if len(work) > LEAST else None
                between = None if way is None else partial(way.yield_if_came, self._calm_at)
                took = self.crew.handle(unit, service, work, between)
            else:
                took = [self._alone(unit, with_events(connection, work))]
            unit.flush()
        crash_point("lane.saved")
        connection.commit()
        crash_point("lane.committed")
        unit.committed()
        for one in took:
            self.mates.get(one.service, self).took(one, now)
        return unit

    def _alone(self, unit: Unit, work: list[Work]) -> Took:
        service, armed = self.handler.service, None
        for result in self.handler.handle(unit, work):
            unit.settle(service, result)
            if result.due_at is not None and (armed is None or result.due_at < armed):
                armed = result.due_at
        # a timer: nothing new had happened
        late = tuple((unit.now - one.due_at).total_seconds() for one in work if not one.events)
        return Took(service, len(work), armed, late)

    def took(self, took: Took, now: Any) -> None:
        """Note what this lane's service did in a batch that is committed, whichever lane claimed it."""
        if took.armed is not None and self.on_armed is not None:
            self.on_armed(took.armed - now)
        metrics.HANDLED.labels(took.service, "done").inc(took.count)
        metrics.BATCH_SIZE.labels(took.service).observe(took.count)
        lateness = metrics.TIMER_LATENESS.labels(took.service)
        for seconds in took.late:
            lateness.observe(seconds)

    def _finished(self, unit: Unit, seconds: float) -> None:
        metrics.HANDLE_SECONDS.labels(self.handler.service).observe(seconds)
        if unit.woken:
            self.ring(unit.woken)

    # ---- failures ----------------------------------------------------------------------------------------------------

    def _split(self, ids: list[int], error: Exception) -> None:
        """Halve a failed batch until the culprits stand alone; each of them is noted, all others are handled."""
        pending = [ids[: len(ids) // 2], ids[len(ids) // 2 :]]
        if self.crew is not None:
            pending = [ids]  # the failure may be another service's: this one is given its chance alone
        elif len(ids) == 1:
            self._failed(ids[0], error)
            return
        while pending:
            part = pending.pop()
            failure = self._try(part)
            if failure is None:
                continue
            if len(part) == 1:
                self._failed(part[0], failure)
            else:
                pending += [part[: len(part) // 2], part[len(part) // 2 :]]

    def _try(self, ids: list[int]) -> Exception | None:
        service, kind, _ = self.name
        started = monotonic()
        with self.engine.connect() as connection:
            work, now = claim_ids(connection, service, kind, ids)
            if not work or now is None:
                connection.rollback()
                return None
            try:
                unit = self._handle(connection, work, now, alone=True)
            except Exception as error:
                connection.rollback()
                if is_passing(error):
                    raise
                return error
        self._finished(unit, monotonic() - started)
        return None

    def _failed(self, item_id: int, error: Exception) -> None:
        service, kind, _ = self.name
        limit = 1_000 if isinstance(error, Transient) else FAILURE_LIMIT
        with self.engine.begin() as connection:
            row = connection.exec_driver_sql(
                sql.FAILED,
                {
                    "service": service,
                    "kind": kind,
                    "id": item_id,
                    "error": f"{type(error).__name__}: {error}"[:500],
                    "limit": limit,
                    "permanent": isinstance(error, Permanent),
                },
            ).one_or_none()
        quarantined = row is not None and row.quarantined
        metrics.HANDLED.labels(service, "quarantined" if quarantined else "failed").inc()
        ticket = {"ticket": str(item_id), "correlation": f"ticket-{item_id}"} if kind == "ticket" else {}
        log.error(
            "item_failed", service=service, kind=kind, item=item_id, quarantined=quarantined, exc_info=error, **ticket
        )


def team_up(lanes: Sequence[Lane], *, early: bool = False) -> None:
    """Let the services among these lanes that decide tickets do so together, lane by lane; `early`: see `Crew`."""
    for name in {lane.lane for lane in lanes}:
        mates = [lane for lane in lanes if lane.lane == name and lane.handler.kind == "ticket"]
        if len(mates) > 1:
            crew = Crew(tuple(lane.handler for lane in mates), early)
            for lane in mates:
                lane.crew, lane.mates = crew, {one.handler.service: one for one in mates}
