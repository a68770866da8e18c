"""The dispatcher: the loop in every worker process that makes sure due work is looked at, with Redis or without.

For each lane of its process it knows the next instant and rings the lane itself when that comes; a sweep each second (a little less
often while all is quiet) reads the earliest instant of every lane in one statement, which finds what lost its bell, what was busy
when it was claimed, and what other processes armed. A doorbell from Redis only makes it faster. Dead workers' journals are audited
here too, and sessions ended whose process stands still in the middle of a transaction.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared.ledger import sql
from shared.ledger.audit import audit, mend, wanted
from shared.ledger.lane import GATHER_SECONDS, Journal, Lane
from shared.runtime import arrays, metrics
from shared.runtime.broker import Bells
from shared.runtime.clock import monotonic
from shared.runtime.database import looking
from shared.runtime.loops import Loop, beat, forget

log = structlog.get_logger()

SWEEP_SECONDS = 1.0
QUIET_SWEEP_SECONDS, QUIET_AFTER_SECONDS = 1.8, 10.0
"""A process that had nothing to do for a while looks a little less often: what another one dies of is found within two seconds."""
SWEEP_WITHOUT_REDIS_SECONDS = 0.1
AUDIT_SECONDS = 1.8
TIMER_SECONDS = 5.0
"""How often the timer comes round while nothing is to ring: only to say that it lives."""
TICK_SECONDS = 0.004
"""Instants closer than this are gathered into one claim."""
AHEAD_SECONDS = 3.0
"""Instants nearer than this are held in memory."""

SWEEP = f"""
select t.stuck, t.dead, l.service, l.kind, l.lane, l.due_at, l.now
from ({sql.TROUBLE}) t left join ({sql.OLDEST_DUE}) l on l.due_at < l.now + make_interval(secs => %(ahead)s)
"""
"""Trouble and the lanes that are to ring soon in one round trip: a single row while all is quiet."""


class Dispatcher:
    """Drives the lanes of one process. `start` begins, `stop` drains and ends; `drain(service, lane)` is what a doorbell calls."""

    def __init__(self, engine: Engine, lanes: Sequence[Lane], bells: Bells, journal: Journal | None) -> None:
        self._engine = engine
        self._lanes = list(lanes)
        self._by_name = {lane.name: lane for lane in self._lanes}
        self._names = list(self._by_name)
        self._bells = bells
        self._journal = journal
        self._next: dict[tuple[str, str, str], float] = {}
        self._rung: dict[tuple[str, str, str], float] = {}
        """When each lane was last rung for an instant."""
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=max(1, len(self._lanes)), thread_name_prefix="lane")
        self._timer = threading.Thread(target=self._ring_when_due, name="dispatch", daemon=True)
        self._services = tuple(dict.fromkeys(lane.handler.service for lane in self._lanes)) or ("none",)
        service = self._services[0]
        self._sweeper = Loop(service, "dispatch", SWEEP_SECONDS, self._sweep)
        self._worked_at = self._audited_at = float("-inf")
        for lane in self._lanes:
            lane.on_armed = lambda delay, lane=lane: self._armed(lane, delay)

    def start(self) -> None:
        try:
            # before the first claim, or what killed the last worker kills this one before anybody is blamed
            with looking(self._engine) as connection:
                audit(self._engine, connection, self._worker)
        except (DBAPIError, PoolTimeout) as error:
            log.warning("audit_failed", error=f"{type(error).__name__}: {error}"[:200])
        self._timer.start()
        self._sweeper.start()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """Finish the batches in hand, claim no more, and forget the journal."""
        self._stopping.set()
        self._sweeper.stop()
        with self._changed:
            self._changed.notify_all()
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._timer.is_alive():
            self._timer.join(timeout_seconds)
        for service in self._services:
            forget(service, "dispatch")
        forget(self._services[0], "timer")
        if self._journal is not None:
            self._journal.close()

    def drain(self, service: str, lane_name: str) -> None:
        """Handle what is due in a lane, here and now: called by the doorbell's actor."""
        for lane in self._lanes:
            if lane.name[0] == service and lane.lane == lane_name:
                self._drain(lane)

    def expect_now(self, targets: set[tuple[str, str]]) -> None:
        """Look at lanes at once, without a doorbell: (service, lane) pairs."""
        at = monotonic()
        for lane in self._lanes:
            if (lane.name[0], lane.lane) in targets:
                self._expect(lane.name, at)

    @property
    def _worker(self) -> int:
        return 0 if self._journal is None else self._journal.worker

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _drain(self, lane: Lane) -> None:
        if self._stopping.is_set():
            return
        try:
            if lane.drain(self._stopping.is_set, to_the_last=False):
                self._worked_at = monotonic()
        except Exception as error:
            metrics.DATABASE_UP.set(0)
            log.warning("drain_failed", lane=lane.name, error=f"{type(error).__name__}: {error}"[:300])

    def _armed(self, lane: Lane, delay: timedelta) -> None:
        seconds = delay.total_seconds()
        if seconds <= AHEAD_SECONDS:
            self._expect(lane.name, monotonic() + seconds)

    def _expect(self, name: tuple[str, str, str], at: float) -> None:
        with self._changed:
            known = self._next.get(name)
            if known is None or at < known:
                self._next[name] = at
                self._changed.notify_all()

    def _ring_when_due(self) -> None:
        while not self._stopping.is_set():
            beat(self._services[0], "timer", TIMER_SECONDS)
            with self._changed:
                now = monotonic()
                turns = {name: max(at, self._rung.get(name, 0.0) + GATHER_SECONDS) for name, at in self._next.items()}
                due = [name for name, at in turns.items() if at <= now + TICK_SECONDS / 2]
                if not due:
                    earliest = min(turns.values(), default=now + TIMER_SECONDS)
                    self._changed.wait(max(TICK_SECONDS, earliest - now))
                    continue
                for name in due:
                    del self._next[name]
                    self._rung[name] = now
            for name in due:
                self._pool.submit(self._drain_and_look, self._by_name[name])
            self._stopping.wait(TICK_SECONDS)

    def _drain_and_look(self, lane: Lane) -> None:
        if lane.heard():
            return  # somebody drains it and looks once more before he ends; the sweep looks again in any case
        self._drain(lane)
        if not self._stopping.is_set():
            self._look([lane])

    def _sweep(self) -> float:
        now = monotonic()
        audits = now - self._audited_at >= AUDIT_SECONDS
        if not audits:
            self._look(self._lanes)
        else:
            self._audited_at = now
            if self._look_for_trouble():
                self._look(self._lanes)
        metrics.DATABASE_UP.set(1)
        for service in self._services:
            beat(service, "dispatch", SWEEP_SECONDS)
        if not self._bells.healthy:
            return SWEEP_WITHOUT_REDIS_SECONDS
        return SWEEP_SECONDS if now - self._worked_at < QUIET_AFTER_SECONDS else QUIET_SWEEP_SECONDS

    def _look_for_trouble(self) -> int:
        """Look at all lanes, and mend what dead or standing workers left. Returns how many items are due again."""
        with looking(self._engine) as connection:
            parameters = wanted(self._worker) | _parameters(self._names) | {"ahead": AHEAD_SECONDS}
            rows = connection.exec_driver_sql(SWEEP, parameters).all()
        self._found(rows)
        return mend(self._engine, self._worker, stuck=rows[0].stuck, dead=rows[0].dead)

    def _look(self, lanes: Sequence[Lane]) -> None:
        with looking(self._engine) as connection:
            rows = connection.exec_driver_sql(sql.OLDEST_DUE, _parameters([lane.name for lane in lanes])).all()
        self._found(rows)

    def _found(self, rows: Sequence[Any]) -> None:
        at = monotonic()
        for row in rows:
            if row.due_at is not None:
                ahead = (row.due_at - row.now).total_seconds()
                if ahead < 0:
                    self._by_name[row.service, row.kind, row.lane].suspects = True
                if ahead <= AHEAD_SECONDS:
                    # a busy item is looked at again soon, not at once: whoever holds it may be about to finish it
                    self._expect((row.service, row.kind, row.lane), at + (ahead if ahead > 0 else TICK_SECONDS * 5))


def _parameters(names: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    services, kinds, lanes = zip(*names, strict=True) if names else ((), (), ())
    return {"services": arrays.Texts(services), "kinds": arrays.Texts(kinds), "lanes": arrays.Texts(lanes)}
