"""House-keeping of a process: what it shows of the agenda, the heartbeats of its loops, and the invariants.

Three loops, started by every worker process and by the gateway:

    agenda      each 5 s, 10 while nothing is due: lag, depth and quarantine of the process's services (the gateway shows all,
                also those that are down)
    heartbeats  each 10 s: when each loop of this process last came round, into `ledger.heartbeat`, for `signalbox doctor`
    invariants  each minute, in one process at a time (a session's advisory lock): every invariant's query, counted

What a reading costs decides how often it is taken: the agenda's no more than a five-hundredth of the time, and all invariants
together a five-hundredth, shared out by what each costs. So they are hardly seen on an idle machine, nor by clocks that fall due
meanwhile: an invariant that reads ten million events for ten seconds comes every few hours, and the cheap ones still each minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import sqrt

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from shared.ledger.invariants import INVARIANTS, LIMIT, violations
from shared.ledger.kinds import KINDS, LANES
from shared.ledger.unit import dumps
from shared.runtime import metrics
from shared.runtime.clock import monotonic
from shared.runtime.database import looking
from shared.runtime.ids import process_name
from shared.runtime.loops import Loop, beats
from shared.runtime.version import VERSION

log = structlog.get_logger()

AGENDA_SECONDS = 5.0
QUIET_AGENDA_SECONDS = 10.0
"""While nothing is due."""
ARMED_SECONDS = 60.0
HEARTBEAT_SECONDS = 10.0
FORGET_EACH = 6
"""Rounds: rows of loops that ended, and of processes that died an hour ago, go every minute."""
STARTING_ROUNDS = 10
"""Heartbeats are written each second at first, or `doctor` would miss a process that has just begun."""
INVARIANTS_SECONDS = 55.0
"""A little under a minute, so that what breaks is seen within one."""
SHARE = 500
"""A reading that took t seconds is not taken again for `SHARE` x t seconds."""
COUNT_MOST = 100_000
"""Due items are counted up to here in each lane; beyond it their age says enough."""
INVARIANTS_LOCK = 0x5167_0001

AGENDA = """
select s.service, l.lane, greatest(0, extract(epoch from (select ledger.now()) - min(k.due_at)))::double precision as age,
    sum(k.due)::bigint as due,
    (select count(*) from ledger.agenda a where a.service = s.service and a.quarantined_at is not null) as quarantined
from unnest(%(services)s::text[]) as s (service) cross join unnest(%(lanes)s::text[]) as l (lane)
cross join lateral (
    select (select min(a.due_at) from ledger.agenda a where a.service = s.service and a.kind = of.kind and a.lane = l.lane
            and a.due_at is not null and a.quarantined_at is null) as due_at,
        (select count(*) from (select from ledger.agenda a where a.service = s.service and a.kind = of.kind and a.lane = l.lane
            and a.due_at <= (select ledger.now()) and a.due_at is not null and a.quarantined_at is null limit %(most)s) d) as due
    from unnest(%(kinds)s::text[]) as of (kind)
) k group by 1, 2
"""
ROWS = "select greatest(1, reltuples) from pg_class where oid = 'ledger.agenda'::regclass"
ARMED = """
select service, lane, count(*) as armed from ledger.agenda {sample}
where service = any(%(services)s) and due_at > (select ledger.now()) and due_at is not null and quarantined_at is null group by 1, 2
"""
SAMPLE = 50_000
"""Of an agenda of more rows the armed ones are estimated from so many: counting a million takes half a second."""
BEAT = """
insert into ledger.heartbeat (worker, service, loop, period_seconds, beat_at, host, release)
select %(worker)s, service, loop, period_seconds, clock_timestamp() - make_interval(secs => age_seconds), %(host)s, %(release)s
from json_to_recordset(%(rows)s) as x (service text, loop text, period_seconds double precision, age_seconds double precision)
on conflict (worker, service, loop) do update set beat_at = excluded.beat_at, period_seconds = excluded.period_seconds
"""
FORGET = "delete from ledger.heartbeat where worker = %(worker)s or beat_at < clock_timestamp() - interval '1 hour'"
WIDE = """
set local enable_seqscan = on; set local enable_hashjoin = on; set local enable_mergejoin = on; set local enable_bitmapscan = on;
set local enable_material = on; set local max_parallel_workers_per_gather = 2; set local statement_timeout = '300s'
"""
"""Undoes the planner settings of workers' connections for a query that reads whole tables."""


@dataclass(slots=True)
class Pace:
    """When an expensive reading may be taken again."""

    period_seconds: float
    _not_before: float = 0.0

    def due(self, now: float) -> bool:
        return now >= self._not_before

    def took(self, started: float, ended: float) -> None:
        """Note a reading's start and end (monotonic seconds)."""
        self._not_before = started + max(self.period_seconds, SHARE * (ended - started))


@dataclass(slots=True)
class Paces:
    """When each of several expensive readings may be taken again: all together in no more than 1/`SHARE` of the time.

    The budget is shared out by the square root of what each costs, which makes the sum of all waits as short as it can be.
    """

    _last: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By name: when it was begun, and how long it took."""

    def due(self, name: str, now: float) -> bool:
        if name not in self._last:
            return True
        began, cost = self._last[name]
        return now >= began + SHARE * sqrt(cost) * sum(sqrt(each) for _, each in self._last.values())

    def took(self, name: str, started: float, ended: float) -> None:
        """Note a reading's start and end (monotonic seconds)."""
        self._last[name] = (started, ended - started)

    def clear(self) -> None:
        """Begin anew."""
        self._last.clear()


@dataclass(slots=True)
class Housekeeping:
    """The house-keeping loops of one process, which runs `services`; `sampled` are those whose agenda it shows."""

    engine: Engine
    services: Sequence[str]
    sampled: Sequence[str]
    _worker: int = 0
    _written: int = 0
    _loops: list[Loop] = field(default_factory=list)
    _armed: Pace = field(default_factory=lambda: Pace(ARMED_SECONDS))
    _paces: Paces = field(default_factory=Paces)
    _leading: Connection | None = None

    def __post_init__(self) -> None:
        name = self.services[0]
        self._loops = [
            Loop(name, "agenda", AGENDA_SECONDS, self.sample),
            Loop(name, "heartbeats", HEARTBEAT_SECONDS, self.write_heartbeats),
            Loop(name, "invariants", INVARIANTS_SECONDS, self.check_invariants),
        ]

    def start(self) -> None:
        for loop in self._loops:
            loop.start()

    def stop(self) -> None:
        """End; this process's heartbeats are taken back, because it stops in good order."""
        for loop in self._loops:
            loop.stop()
        self._abdicate()
        with suppress(DBAPIError), self.engine.begin() as connection:
            connection.exec_driver_sql(FORGET, {"worker": self._worker})

    # ---- rounds --------------------------------------------------------------------------------------------------------

    def sample(self) -> float:
        """Show lag, depth and quarantine as they are now; returns how long to wait, longer where counting a backlog takes long."""
        began = monotonic()
        services = {"services": list(self.sampled)}
        with looking(self.engine) as connection:
            agenda = connection.exec_driver_sql(
                AGENDA, services | {"lanes": list(LANES), "kinds": list(KINDS), "most": COUNT_MOST}
            ).all()
            if self._armed.due(started := monotonic()):
                self._show_armed(connection)
                self._armed.took(started, monotonic())
        for row in agenda:
            metrics.AGENDA_OLDEST.labels(row.service, row.lane).set(row.age or 0.0)
            metrics.AGENDA_DEPTH.labels(row.service, row.lane, "due").set(row.due)
            metrics.QUARANTINE.labels(row.service).set(row.quarantined)
        least = AGENDA_SECONDS if any(row.due for row in agenda) else QUIET_AGENDA_SECONDS
        return min(3 * AGENDA_SECONDS, max(least, SHARE * (monotonic() - began)))

    def _show_armed(self, connection: Connection) -> None:
        share = min(1.0, SAMPLE / connection.exec_driver_sql(ROWS).scalar_one())
        sample = "" if share == 1.0 else f"tablesample system ({share * 100:.6f})"
        found = {
            (row.service, row.lane): round(row.armed / share)
            for row in connection.exec_driver_sql(ARMED.format(sample=sample), {"services": list(self.sampled)})
        }
        for service in self.sampled:
            for lane in LANES:
                metrics.AGENDA_DEPTH.labels(service, lane, "armed").set(found.get((service, lane), 0))

    def write_heartbeats(self) -> float:
        """Write when each loop of this process last came round; rows of processes that died an hour ago go. Returns the wait."""
        rows = [
            {
                "service": one.service,
                "loop": one.loop,
                "period_seconds": one.period_seconds,
                "age_seconds": one.age_seconds,
            }
            for one in beats()
        ]
        with looking(self.engine) as connection:
            if not self._worker:
                self._worker = connection.exec_driver_sql("select nextval('ledger.worker_seq')").scalar_one()
            if self._written % FORGET_EACH == 0:
                connection.exec_driver_sql(FORGET, {"worker": self._worker})
            connection.exec_driver_sql(
                BEAT, {"worker": self._worker, "rows": dumps(rows), "host": process_name(), "release": VERSION}
            )
        self._written += 1
        return 1.0 if self._written < STARTING_ROUNDS else HEARTBEAT_SECONDS

    def check_invariants(self) -> None:
        """Run what is due of the invariants, if this is the process whose turn it is."""
        try:
            if not self._lead():
                return
        except DBAPIError:
            self._abdicate()
            raise
        for invariant in INVARIANTS:
            started = monotonic()
            if not self._paces.due(invariant.name, started):
                continue
            with self.engine.connect() as connection:
                connection.exec_driver_sql(WIDE)
                rows = violations(connection, invariant)
            self._paces.took(invariant.name, started, monotonic())
            metrics.INVARIANT_VIOLATIONS.labels(invariant.name).set(len(rows))
            if rows:
                log.error("invariant_broken", invariant=invariant.name, at_least=len(rows), most=LIMIT, first=rows[0])

    # ---- whose turn it is ------------------------------------------------------------------------------------------------

    def _lead(self) -> bool:
        """Whether this process holds the lock; it keeps it, and one connection, until it stops or loses that."""
        if self._leading is not None:
            self._leading.exec_driver_sql("select 1")
            return True
        connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        if connection.exec_driver_sql("select pg_try_advisory_lock(%s)", (INVARIANTS_LOCK,)).scalar_one():
            self._leading = connection
            return True
        connection.close()
        return False

    def _abdicate(self) -> None:
        if self._leading is None:
            return
        with suppress(DBAPIError):
            self._leading.invalidate()
            self._leading.close()
        self._leading = None
        self._paces.clear()
        for invariant in INVARIANTS:  # services may show more, of their own
            with suppress(KeyError):
                metrics.INVARIANT_VIOLATIONS.remove(invariant.name)
