"""The same work by one message and one transaction a ticket (the reference), and by Signalbox, in turns in one run.

    python -m bench.reference_pipeline [--tickets 20000] [--reference 1500] [--rounds 3] [--processes 1]

The work: 100 rules, 10 groups of 50 agents, the least loaded one, three clocks, an event, two deliveries to a null sink (it
answers without ids of its own, as the desk's signed webhook does, so that what it took is recorded in one statement). The
reference (bench/reference/peers/naive: dramatiq, SQLAlchemy) writes no delivery; we write the state of each, watch the assignment
and record every reason. Counted from committed ticket to the last delivery's outcome, intake apart, CPU of workers, PostgreSQL and
Redis together. Quote the ratios and the CPU a ticket; the rates are the machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from bench.tools import desk
from bench.tools.house import House, house
from bench.tools.meter import Verdicts, cpu_seconds, load
from shared.runtime.clock import monotonic, pause

PEERS = Path(__file__).parent / "reference" / "peers"
SERVICES = ("router", "sla", "escalation", "notifier")
WAIT_SECONDS = 900.0
EVENTS = 5
"""What is recorded of a ticket after its opening: classified, assigned, clocks started, two deliveries."""
WARM = 0.05
"""Part of all events that is recorded before the measurement begins."""


PARTS = 5
"""A long round is told part by part: it shows what grows with the tickets before, and what only a short round does not see, which
ends before any vacuum begins."""


@dataclass(frozen=True, slots=True)
class Run:
    """One side's measurement; CPU in microseconds a ticket."""

    tickets: int
    seconds: float
    workers: float
    postgres: float
    redis: float
    rows: float = 0.0
    statements: float = 0.0
    parts: tuple[float, ...] = ()
    """CPU a ticket of each fifth, in order."""

    @property
    def rate(self) -> float:
        return self.tickets / self.seconds

    @property
    def cpu(self) -> float:
        return self.workers + self.postgres + self.redis

    def __str__(self) -> str:
        more = f", {self.rows:.1f} rows written, {self.statements:.2f} statements a ticket" if self.rows else ""
        return (
            f"{self.rate:8,.0f} tickets/s, {self.cpu:7,.0f} us CPU a ticket"
            f" (workers {self.workers:,.0f}, PostgreSQL {self.postgres:,.0f}, Redis {self.redis:,.1f}){more}"
        )


def reference(house: House, count: int, number: int) -> Run:
    """The naive reference on the same servers, one round of its FIFO variant."""
    house.make_database(f"naive{number}")
    assert house.servers.postgres is not None
    home = house.servers.postgres.home
    environment = dict(
        os.environ,
        PERF_PG_URL=house.database_url,
        PERF_REDIS_URL=house.servers.redis_url + "/0",
        PERF_PG_DATA=str(home),
        PERF_TMP=str(home.parent / "perf-tmp"),
        PERF_OUT=str(home.parent / "perf-out"),
    )
    done = subprocess.run(
        [sys.executable, "naive_bench.py", str(count), "1", "dramatiq fifo"],
        cwd=PEERS, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    if "error" in found:
        raise RuntimeError(found["error"])
    cpu = (found[f"{name}_cpu_us_per_ticket"] for name in ("worker", "pg", "redis"))
    return Run(found["routed"], found["routed"] / found["e2e_tickets_per_s"], *cpu)


def ours(house: House, count: int, number: int, layout: Sequence[Sequence[str]], profile: str | None = None) -> Run:
    """One round of the real services over a backlog of `count` committed tickets."""
    house.fresh(f"ours{number}")
    deps = house.deps()
    desk.apply(deps)
    workers = [
        house.worker(services, *(["--profile", f"{profile}.{index}"] if profile else []))
        for index, services in enumerate(layout)
    ]
    _settle_people(deps.engine, workers)
    desk.fill(deps, count)
    first, started = _position(deps.engine), monotonic()
    for one in workers:
        one.tell("go")
    # from when it runs, as with the reference: interpreters and the first look at a playbook are no part of a ticket
    while _position(deps.engine) - first < WARM * EVENTS * count and monotonic() - started < WAIT_SECONDS:
        pause(0.01)
    _count_statements(deps.engine)
    rows, calls = _written(deps.engine), _calls(deps.engine)
    done, started = (_position(deps.engine) - first) / EVENTS, monotonic()
    before = [cpu_seconds([one.pid for one in workers]), house.postgres_cpu(), house.redis_cpu()]

    def spent() -> float:
        return cpu_seconds([one.pid for one in workers]) + house.postgres_cpu() + house.redis_cpu()

    course = [(0.0, sum(before))]
    ended = _drain(
        deps.engine, count, started, lambda position: course.append(((position - first) / EVENTS - done, spent()))
    )
    after = [cpu_seconds([one.pid for one in workers]), house.postgres_cpu(), house.redis_cpu()]
    pause(1.2)  # a backend tells its figures at most once a second
    left = round(count - done)
    used = [(b - a) / left * 1e6 for a, b in zip(before, after, strict=True)]
    run = Run(
        left,
        ended - started,
        *used,
        rows=(_written(deps.engine) - rows) / left,
        statements=(_calls(deps.engine) - calls) / left,
        parts=_parts(course, left),
    )
    house.stop_workers()
    deps.engine.dispose()
    return run


def _settle_people(engine: Engine, workers: Sequence[Any]) -> None:
    """The directory's own wake-ups are no part of the work: they are taken off before it begins."""
    with engine.begin() as connection:
        connection.exec_driver_sql("update ledger.agenda set due_at = null where kind = 'agent'")


def _parts(course: Sequence[tuple[float, float]], count: int) -> tuple[float, ...]:
    """CPU a ticket of each fifth of a round, from (tickets done, CPU seconds) as it went; none of a round too short to tell."""
    if len(course) < 20 * PARTS:
        return ()
    marks = [min(course, key=lambda one: abs(one[0] - count * part / PARTS)) for part in range(PARTS + 1)]
    return tuple((b[1] - a[1]) / (b[0] - a[0]) * 1e6 for a, b in pairwise(marks))


def _drain(engine: Engine, count: int, started: float, look: Callable[[int], None]) -> float:
    while True:
        pause(0.2)  # looking costs the server too, and is counted
        look(_position(engine))
        with engine.connect() as connection:
            if not _reached(connection, "last_value from ledger.position_seq", count * EVENTS):
                continue
            left = connection.exec_driver_sql(
                "select exists (select from ledger.agenda where kind = 'delivery' and due_at is not null)"
            ).scalar_one()
            if left:
                continue
            sent = connection.exec_driver_sql("select count(*) from notifier.message").scalar_one()
        if sent == 2 * count:
            return monotonic()
        if monotonic() - started > WAIT_SECONDS:
            raise RuntimeError(f"not done after {WAIT_SECONDS:.0f} s: {sent} messages of {2 * count}")


def _position(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.exec_driver_sql("select last_value from ledger.position_seq").scalar_one())


def _reached(connection: Any, what: str, least: int) -> bool:
    """A cheap look first: most of the time nobody needs to count rows."""
    return bool(connection.exec_driver_sql(f"select {what}").scalar_one() >= least)


def _written(engine: Engine) -> int:
    """Rows inserted, updated and deleted in this database so far, as the server's statistics have it."""
    with engine.connect() as connection:
        return int(
            connection.exec_driver_sql(
                "select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) from pg_stat_user_tables"
            ).scalar_one()
        )


def _count_statements(engine: Engine) -> None:
    with engine.begin() as connection:
        if "pg_stat_statements" in connection.exec_driver_sql("show shared_preload_libraries").scalar_one():
            connection.exec_driver_sql("create extension if not exists pg_stat_statements")
            connection.exec_driver_sql("select pg_stat_statements_reset()")


def _calls(engine: Engine) -> int:
    with engine.connect() as connection:
        known = connection.exec_driver_sql(
            "select count(*) from pg_extension where extname = 'pg_stat_statements'"
        ).scalar_one()
        if not known:
            return 0
        return int(
            connection.exec_driver_sql(
                """select coalesce(sum(calls), 0) from pg_stat_statements
                where dbid = (select oid from pg_database where datname = current_database())"""
            ).scalar_one()
        )


def _show_statements(engine: Engine, count: int) -> None:
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            """select total_exec_time * 1000 / %s as us, calls, rows, (shared_blks_hit + shared_blks_read) / %s::float as blocks,
            wal_bytes / %s as wal, regexp_replace(left(query, 5000), '\\s+', ' ', 'g') as query
            from pg_stat_statements where dbid = (select oid from pg_database where datname = current_database())
            order by 1 desc limit 22""",
            (count, count, count),
        ).all()
    for row in rows:
        cost = f"{row.us:7.1f} us {row.calls:6} calls {row.rows:8} rows {row.blocks:7.1f} blocks {row.wal:6.0f} B"
        print(f"  {cost}  {row.query[:120]}")


def main() -> int:
    """Measure both sides in turns; the exit code says whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tickets", type=int, default=20_000)
    parser.add_argument("--reference", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1, help="worker processes, each with all four services")
    parser.add_argument("--only-ours", action="store_true")
    parser.add_argument("--profile", help="write a cProfile of each worker process to FILE.N")
    parser.add_argument(
        "--grow", type=int, metavar="N", help="then one round over N tickets (200000): the cost of each may not grow"
    )
    parser.add_argument("--statements", action="store_true", help="count statements, show the dearest")
    args = parser.parse_args()
    layout = [SERVICES] * args.processes
    theirs: list[Run] = []
    mine: list[Run] = []
    settings = {"shared_preload_libraries": "pg_stat_statements"} if args.statements else {}
    with house(**settings) as made:
        for number in range(args.rounds):
            if not args.only_ours:
                theirs.append(reference(made, args.reference, number))
                print(f"reference {theirs[-1]}  [{load()}]", flush=True)
            mine.append(ours(made, args.tickets, number, layout, args.profile))
            print(f"signalbox {mine[-1]}  [{load()}]", flush=True)
            if args.statements:
                _show_statements(made.deps().engine, args.tickets)
        grown = ours(made, args.grow, args.rounds, layout) if args.grow else None
    verdicts = Verdicts()
    if grown is not None:
        print(f"signalbox {grown}  [{load()}]", flush=True)
        print(f"  CPU a ticket, fifth by fifth: {', '.join(f'{one:,.0f}' for one in grown.parts)} us")
        usual = statistics.median(one.cpu for one in mine)
        verdicts.most(f"CPU a ticket over {args.grow:,}, times that over {args.tickets:,}", grown.cpu / usual, 1.1)
    if args.only_ours:
        return 1 if verdicts.failed else 0
    rates = [a.rate / b.rate for a, b in zip(mine, theirs, strict=True)]
    cpus = [b.cpu / a.cpu for a, b in zip(mine, theirs, strict=True)]
    verdicts.least("tickets/s, times the reference's (median of pairs)", statistics.median(rates), 20)
    verdicts.least("CPU a ticket, fraction of the reference's 1/x", statistics.median(cpus), 20)
    verdicts.most("CPU a ticket", statistics.median(one.cpu for one in mine), 500, "us")
    return 1 if verdicts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
