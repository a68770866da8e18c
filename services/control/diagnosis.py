"""What is wrong with a system: one finding for each thing looked at. What `signalbox doctor` prints.

Each look is bounded and reads only; one that fails is a finding itself, and the next goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import redis
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from services.control import platform
from shared.directory.store import load
from shared.ledger import business
from shared.ledger.housekeeping import WIDE
from shared.ledger.invariants import INVARIANTS, LIMIT, Invariant, violations
from shared.oncall.changes import schedules
from shared.oncall.conflicts import Absence, Outlook, outlook, uncovered
from shared.playbook.store import NothingPublished, Playbooks
from shared.runtime import migrate
from shared.runtime.settings import Settings
from shared.runtime.version import VERSION

OLDEST_POSTGRESQL = 150_000
LATE_SECONDS = 60.0
"""Due work older than this means that a service does not keep up, or that none runs."""
SILENT_PERIODS = 5
SILENT_SECONDS = 30.0
"""A loop is silent after this many of its periods, and never before this many seconds (heartbeats are written each ten)."""
ORPHANS = ("every_open_ticket_has_a_next_mover", "open_ticket_is_watched")


@dataclass(frozen=True, slots=True)
class Finding:
    """`level`: ok, note (worth knowing, nothing to do) or bad (unhealthy; the text says what to do)."""

    level: str
    text: str

    @property
    def bad(self) -> bool:
        return self.level == "bad"


def ok(text: str) -> Finding:
    return Finding("ok", text)


def note(text: str) -> Finding:
    return Finding("note", text)


def bad(text: str) -> Finding:
    return Finding("bad", text)


def judge(is_ok: bool, good: str, wrong: str) -> Finding:
    """`ok(good)`, or `bad(wrong)`."""
    return ok(good) if is_ok else bad(wrong)


def diagnose(settings: Settings) -> Iterator[Finding]:
    """Look at everything; findings in the order of what an operator would ask first."""
    yield from _redis(settings)
    engine = platform.engine(settings, "doctor", worker=False)
    try:
        with engine.connect() as connection:
            yield from _server(connection)
            behind = yield from _schema(connection)
            if behind:
                return
            for look in LOOKS:
                yield from _guarded(look, connection)
    except DBAPIError as error:
        yield bad(f"database: does not answer: {_short(error)}")
    finally:
        engine.dispose()


def _guarded(look: Callable[[Connection], Iterator[Finding]], connection: Connection) -> Iterator[Finding]:
    try:
        yield from look(connection)
        connection.rollback()
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        connection.rollback()
        yield bad(f"{look.__name__.strip('_')}: could not be looked at: {_short(error)}")


def _short(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0][:200]


# ---- servers and versions --------------------------------------------------------------------------------------------------


def _redis(settings: Settings) -> Iterator[Finding]:
    try:
        with redis.Redis.from_url(str(settings.redis_url), socket_timeout=2, socket_connect_timeout=2) as client:
            info = client.info()
            policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
    except redis.RedisError as error:
        yield bad(f"redis: does not answer: {error} (nothing is lost; routing goes on by polling, more slowly)")
        return
    name = "valkey" if "valkey_version" in info else "redis"
    yield ok(f"redis: answers, {name} {info.get('valkey_version', info.get('redis_version'))}")
    if policy != "noeviction":
        yield note(f"redis: maxmemory-policy is {policy}; with noeviction a full Redis refuses instead of forgetting")


def _server(connection: Connection) -> Iterator[Finding]:
    version, number = connection.exec_driver_sql(
        "select current_setting('server_version'), current_setting('server_version_num')::integer"
    ).one()
    yield judge(
        number >= OLDEST_POSTGRESQL,
        f"database: answers, PostgreSQL {version}",
        f"database: PostgreSQL {version} is too old: 15 or newer is needed",
    )
    if connection.exec_driver_sql("select pg_is_in_recovery()").scalar_one():
        yield bad("database: this is a standby, it takes no writes: point SIGNALBOX_DATABASE_URL at the primary")


def _schema(connection: Connection) -> Generator[Finding, None, bool]:
    """Yields what the schema is; returns True when it is too old to look further."""
    wanted = migrate.head()
    if connection.exec_driver_sql("select to_regclass('public.migration')").scalar_one() is None:
        yield bad("schema: there is none yet: run `signalbox migrate`")
        return True
    found = connection.exec_driver_sql("select version_num from public.migration").scalar_one()
    if found == wanted:
        yield ok(f"schema: revision {found}")
    elif found > wanted:
        yield note(f"schema: revision {found} is newer than this version's {wanted}: an upgrade is under way")
    else:
        yield bad(f"schema: revision {found} is older than this version's {wanted}: run `signalbox migrate`")
        return True
    return False


def playbook(connection: Connection) -> Iterator[Finding]:
    row = connection.exec_driver_sql(
        "select number, name, published_at from playbook.version order by number desc limit 1"
    ).one_or_none()
    if row is None:
        yield bad("playbook: none is published: run `signalbox apply DIR`")
    else:
        yield ok(f"playbook: {row.name}, version {row.number}, published {row.published_at:%Y-%m-%d %H:%M} UTC")
    held = connection.exec_driver_sql("select at from ledger.clock").scalar_one_or_none()
    if held is not None:
        yield note(f"time: business time is in hand and stands at {held.isoformat()}: timers wait until it is moved")


# ---- what runs -------------------------------------------------------------------------------------------------------------


def services(connection: Connection) -> Iterator[Finding]:
    """Each service has a process whose loops come round."""
    rows = connection.exec_driver_sql(
        """select service, loop, min(extract(epoch from clock_timestamp() - beat_at))::float as age,
            max(period_seconds) as period, max(beat_at) as last from ledger.heartbeat group by 1, 2 order by 1, 2"""
    ).all()
    silent = {(row.service, row.loop) for row in rows if row.age > max(SILENT_SECONDS, SILENT_PERIODS * row.period)}
    for service in platform.RUN_ORDER:
        known = [row for row in rows if row.service == service]
        quiet = [row for row in known if (service, row.loop) in silent]
        if not known:
            yield bad(f"service {service}: runs nowhere: start it with `signalbox run {service}`")
        elif len(quiet) == len(known):
            last = max(row.last for row in known)
            yield bad(f"service {service}: stopped without saying so; last sign of life {last:%Y-%m-%d %H:%M:%S} UTC")
        else:
            for row in quiet:
                yield bad(
                    f"loop {service}.{row.loop}: silent for {row.age:.0f} s (it comes round each {row.period:g} s): "
                    "see that process's log"
                )
            if not quiet:
                yield ok(f"service {service}: runs, {len(known)} loops beat")
    releases = connection.exec_driver_sql(
        """select coalesce(release, 'unknown') as release, count(distinct worker) as processes from ledger.heartbeat
        where beat_at > clock_timestamp() - interval '1 minute' group by 1 order by 1"""
    ).all()
    if len(releases) > 1:
        mixed = ", ".join(f"{row.processes} of {row.release}" for row in releases)
        yield note(f"versions: processes of several versions run ({mixed}): an upgrade is under way")
    elif releases and releases[0].release != VERSION:
        yield note(f"versions: all processes run {releases[0].release}, this command is {VERSION}")


def agenda(connection: Connection) -> Iterator[Finding]:
    """Lag by service and lane."""
    rows = connection.exec_driver_sql(
        """select service, lane, count(*) as depth, extract(epoch from ledger.now() - min(due_at))::float as age
        from ledger.agenda where due_at <= ledger.now() and due_at is not null and quarantined_at is null
        group by 1, 2 order by 1, 2"""
    ).all()
    for row in rows:
        text = f"agenda: {row.service}.{row.lane}: {row.depth:,} due, the oldest for {row.age:.1f} s"
        yield judge(
            row.age < LATE_SECONDS, text, f"{text}: the service does not keep up; see docs/runbooks/agenda-lag.md"
        )
    if not rows:
        yield ok("agenda: nothing is due")


def quarantine(connection: Connection) -> Iterator[Finding]:
    rows = connection.exec_driver_sql(
        """select service, count(*) as items, min(kind || ' ' || id) as first, max(error) as error from ledger.agenda
        where quarantined_at is not null group by 1 order by 1"""
    ).all()
    for row in rows:
        yield bad(
            f"quarantine: {row.items} of {row.service}, among them {row.first}: {row.error or 'no reason kept'} "
            "(GET /v1/quarantine; POST /v1/quarantine/{id}/retry)"
        )
    if not rows:
        yield ok("quarantine: empty")


# ---- what must be true -----------------------------------------------------------------------------------------------------


def orphans(connection: Connection) -> Iterator[Finding]:
    found = {row[0] for one in INVARIANTS if one.name in ORPHANS for row in violations(connection, one)}
    if found:
        yield bad(f"orphans: {len(found)} open tickets that nobody will move, among them ticket {min(found)}")
    late = connection.exec_driver_sql(
        """select ticket_id, mover, next_at from escalation.v_mover
        where next_at < ledger.now() - make_interval(secs => %s) order by next_at limit %s""",
        (LATE_SECONDS, LIMIT),
    ).all()
    if late:
        first = late[0]
        yield bad(
            f"orphans: {_many(late)} open tickets were to be looked at and were not, first ticket {first.ticket_id} "
            f"({first.mover}, {first.next_at.isoformat(timespec='seconds')})"
        )
    if not found and not late:
        yield ok("orphans: every open ticket has a next mover and an instant")


def invariants(connection: Connection) -> Iterator[Finding]:
    connection.exec_driver_sql(WIDE)
    broken = 0
    for one in INVARIANTS:
        if one.name not in ORPHANS and (rows := violations(connection, one)):
            broken += 1
            yield bad(f"invariant {one.name}: broken by {_many(rows)} rows, first {_shown(one, rows[0])}")
    if not broken:
        yield ok(f"invariants: all {len(INVARIANTS) - len(ORPHANS)} hold")


def _many(rows: Sequence[object]) -> str:
    return f"{len(rows)}{' or more' if len(rows) >= LIMIT else ''}"


def _shown(_: Invariant, row: tuple[object, ...]) -> str:
    return "(" + ", ".join(str(value) for value in row) + ")"


def on_call(connection: Connection) -> Iterator[Finding]:
    """Schedules of the published playbook, thirty days ahead: gaps, and people on duty who are away."""
    try:
        current = Playbooks().current(connection)
    except NothingPublished:
        return
    now = business.now(connection)
    absences = [
        Absence(person.id, leave.from_at, leave.to_at, leave.delegate)
        for person in load(connection).people.values()
        for leave in person.leave
    ]
    outlooks = {name: outlook(one, absences, now) for name, one in schedules(connection, current).items()}
    for name, one in sorted(outlooks.items()):
        if one.sound:
            yield ok(f"on call: schedule {name} is covered for the next 30 days")
    for line in uncovered({name: _uncovered_only(one) for name, one in outlooks.items() if not one.sound}):
        yield bad(f"on call: {line}")


def _uncovered_only(one: Outlook) -> Outlook:
    return Outlook(one.gaps, tuple(conflict for conflict in one.conflicts if not conflict.covered))


LOOKS: tuple[Callable[[Connection], Iterator[Finding]], ...] = (
    playbook,
    services,
    agenda,
    quarantine,
    orphans,
    invariants,
    on_call,
)
