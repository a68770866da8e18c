"""`signalbox doctor`: what is wrong: servers, versions, lag, silent loops, orphans, invariants. Exit 1 when unhealthy."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import redis
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from services.control import platform
from services.control.cli import Failure
from shared.ledger.invariants import INVARIANTS, violations
from shared.runtime.settings import Settings

LATE_SECONDS = 60.0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser("doctor", help="what is wrong", description=__doc__)
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    healthy = True
    with platform.servers(Settings.from_environment()) as settings:
        for ok, what in _findings(settings):
            print(f"{'ok  ' if ok else 'BAD '} {what}")
            healthy &= ok
    return 0 if healthy else 1


def _findings(settings: Settings) -> Iterator[tuple[bool, str]]:
    try:
        engine = platform.engine(settings, "doctor", worker=False)
        with engine.connect() as connection:
            yield from _database(connection)
    except DBAPIError as error:
        yield False, f"database: {error.orig}"
    try:
        client = redis.Redis.from_url(str(settings.redis_url), socket_timeout=2)
        info = client.info()
        yield True, f"redis: answers, version {info.get('valkey_version', info.get('redis_version'))}"
    except redis.RedisError as error:
        yield False, f"redis: {error} (routing goes on, more slowly)"


def _database(connection: Connection) -> Iterator[tuple[bool, str]]:
    version = connection.exec_driver_sql("show server_version").scalar_one()
    yield True, f"database: answers, PostgreSQL {version}"
    present = connection.exec_driver_sql("select to_regclass('public.migration')").scalar_one()
    if present is None:
        raise Failure("doctor: the database has no schema yet: run `signalbox migrate`")
    revision = connection.exec_driver_sql("select version_num from public.migration").scalar_one()
    yield True, f"schema: revision {revision}"
    published = connection.exec_driver_sql("select max(number) from playbook.version").scalar_one()
    yield published is not None, f"playbook: version {published}" if published else "playbook: none is published"
    rows = connection.exec_driver_sql(
        """select service, lane, count(*) as depth, extract(epoch from ledger.now() - min(due_at)) as age from ledger.agenda
        where due_at <= ledger.now() and quarantined_at is null group by 1, 2 order by 1, 2"""
    ).all()
    for row in rows:
        yield (
            float(row.age) < LATE_SECONDS,
            f"agenda: {row.service}.{row.lane}: {row.depth} due, oldest {row.age:.1f} s",
        )
    if not rows:
        yield True, "agenda: nothing is due"
    waiting = connection.exec_driver_sql(
        "select service, count(*) as n from ledger.agenda where quarantined_at is not null group by 1"
    ).all()
    for row in waiting:
        yield False, f"quarantine: {row.n} items of {row.service} (GET /v1/quarantine)"
    silent = connection.exec_driver_sql(
        """select service, loop, extract(epoch from clock_timestamp() - max(beat_at)) as age, max(period_seconds) as period
        from ledger.heartbeat group by 1, 2 order by 1, 2"""
    ).all()
    for row in silent:
        yield (
            float(row.age) < max(30.0, 5 * row.period),
            f"loop: {row.service}.{row.loop}: last beat {row.age:.0f} s ago",
        )
    for invariant in INVARIANTS:
        found = violations(connection, invariant)
        yield (
            not found,
            f"invariant: {invariant.name}: " + ("holds" if not found else f"{len(found)} rows, first {found[0]}"),
        )
