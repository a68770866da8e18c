"""A hundred thousand clocks overdue at once, as after an outage: warned, breached and escalated, the most urgent first.

    python -m bench.overdue [--count 20000] [--workers 2] [--peer]

Full size: --count 100000. Each ticket's first response is past its due instant by up to three hours; the services warn, breach,
raise a chain and take its first step, and the notifier looks at it: four events of each ticket that are committed one by one in
the log, with the ticket, its clocks, its chain, its card and three services' agenda rows. The rate is that of these events; the
tickets' is beside it. Two rates show what is possible at all on the same servers: `storm.py` (bench/reference/peers) claims timers
in batches of 500 and writes two small rows for each, and the floor is a bare COPY of this run's own event rows, with their indexes,
400 tickets a commit, deciding and updating nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import psycopg

from bench.tools import desk, stock
from bench.tools.house import House, house
from bench.tools.meter import Verdicts, cpu_seconds, load, percentile, resident_bytes
from shared.ledger.process import Deps
from shared.runtime.clock import monotonic, pause

PEERS = Path(__file__).parent / "reference" / "peers"
SERVICES = ("router", "sla", "escalation", "notifier")
URGENT_SHARE = 20
FLOOR_TICKETS = 400
EFFECTS = ("sla.warned", "sla.breached", "escalation.raised", "escalation.stepped")


def main() -> int:
    """Measure and say whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    verdicts = Verdicts()
    with house() as made:
        peer = _peer(made, args.count)
        print(f"storm.py, claims of 500: {peer:,.0f}/s  [{load()}]", flush=True)
        rate = _storm(made, args.count, args.workers, verdicts)
    verdicts.least("warned, breached and escalated", rate * len(EFFECTS), 8_000, "events/s")
    print(f"     {rate * len(EFFECTS) / peer / 2:.2f} x the rows of the peer, which decides nothing")
    return 1 if verdicts.failed else 0


def _storm(made: House, count: int, workers: int, verdicts: Verdicts) -> float:
    made.fresh("overdue")
    deps = made.deps()
    desk.apply(deps)
    source = stock.original(deps)
    at = stock.now(deps)
    # due between three hours and a minute ago, in no order; every twentieth is urgent
    late = [timedelta(seconds=60 + (index * 7919 % count) / count * 12_000) for index in range(count)]
    urgent = count // URGENT_SHARE
    warned = [at - stock.WARN_BEFORE - one for one in late]
    stock.copies(deps, source, warned[:urgent], lane="urgent")
    stock.copies(deps, source, warned[urgent:])
    with deps.engine.begin() as connection:
        connection.exec_driver_sql("update ledger.agenda set due_at = null where kind = 'agent'")
        last = connection.exec_driver_sql("select last_value from ledger.position_seq").scalar_one()
    made.tidy()
    hands = [made.worker(SERVICES) for _ in range(workers)]
    before = cpu_seconds([one.pid for one in hands]), made.postgres_cpu()
    started = monotonic()
    for one in hands:
        one.tell("go")
    pause(1.0)
    memory = [sum(resident_bytes(one.pid) for one in hands)]
    while True:
        pause(0.2)
        memory.append(sum(resident_bytes(one.pid) for one in hands))
        if _done(deps, last, count):
            break
    seconds = monotonic() - started
    after = cpu_seconds([one.pid for one in hands]), made.postgres_cpu()
    workers_us, postgres_us = ((b - a) / count * 1e6 for a, b in zip(before, after, strict=True))
    print(
        f"signalbox: {count / seconds:,.0f} tickets/s, {workers_us + postgres_us:,.0f} us CPU a ticket"
        f" (workers {workers_us:,.0f}, PostgreSQL {postgres_us:,.0f})  [{load()}]",
        flush=True,
    )
    with deps.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            """select t.lane, e.type, count(*) as n, count(distinct e.id) as tickets from ledger.event e
            join ledger.ticket t on t.id = e.id where e.kind = 'ticket' and e.position > %s group by 1, 2""",
            (last,),
        ).all()
        places = connection.exec_driver_sql(
            """select t.lane, row_number() over (partition by t.lane order by e.position)
                - row_number() over (partition by t.lane order by e.happened_at) as off, e.recorded_at
            from ledger.event e join ledger.ticket t on t.id = e.id
            where e.type = 'sla.breached' and e.position > %s""",
            (last,),
        ).all()
    for kind in EFFECTS:
        told = sum(row.n for row in rows if row.type == kind)
        verdicts.least(f"{kind}, all of them", told, count)
        verdicts.most(f"{kind}, each once", told, sum(row.tickets for row in rows if row.type == kind))
    displaced = percentile([abs(row.off) for row in places if row.lane == "normal"], 0.99)
    verdicts.most("places out of order, p99 (a batch of each worker)", displaced, 2 * 400 * workers)
    urgent_end = max(row.recorded_at for row in places if row.lane == "urgent")
    begun = min(row.recorded_at for row in places)
    share = (urgent_end - begun).total_seconds() / seconds
    verdicts.most("urgent ones done after this part of the whole time", share, 0.25)
    grown = (memory[-1] - memory[len(memory) // 2]) / 1e6
    verdicts.most("memory of the workers, second half of the run", grown, 16 * workers, "MB")
    made.stop_workers()
    _floor(made, deps, last, count)
    deps.engine.dispose()
    return count / seconds


def _done(deps: Deps, last: int, count: int) -> bool:
    """Whether every ticket was escalated. Positions are looked at first: counting is work too."""
    with deps.engine.connect() as connection:
        position = connection.exec_driver_sql("select last_value from ledger.position_seq").scalar_one()
        if position < last + len(EFFECTS) * count:
            return False
        return bool(
            connection.exec_driver_sql("select count(*) >= %s from escalation.escalation", (count,)).scalar_one()
        )


def _floor(made: House, deps: Deps, last: int, count: int) -> None:
    """Say how fast this run's event rows alone go into a table like theirs."""
    with psycopg.connect(made.database_url) as connection:
        with connection.cursor().copy(
            f"copy (select * from ledger.event where position > {last} order by position) to stdout"
        ) as out:
            rows = b"".join(out).splitlines(keepends=True)
        connection.execute("create table floor (like ledger.event including all)")
        connection.commit()
        before, started, chunk = made.postgres_cpu(), monotonic(), FLOOR_TICKETS * len(EFFECTS)
        for start in range(0, len(rows), chunk):
            with connection.cursor().copy("copy floor from stdin") as into:
                into.write(b"".join(rows[start : start + chunk]))
            connection.commit()
        seconds = monotonic() - started
    spent = (made.postgres_cpu() - before) / count * 1e6
    print(
        f"floor, COPY of the events alone: {count / seconds:,.0f} tickets/s, {spent:,.0f} us CPU a ticket  [{load()}]"
    )


def _peer(made: House, count: int) -> float:
    made.make_database("storm")
    assert made.servers.postgres is not None
    home = made.servers.postgres.home
    environment = dict(
        os.environ,
        PERF_PG_URL=made.database_url,
        PERF_REDIS_URL=made.servers.redis_url + "/0",
        PERF_PG_DATA=str(home),
        PERF_OUT=str(home.parent / "perf-out"),
    )
    done = subprocess.run(
        [sys.executable, "storm.py", str(count), "1"],
        cwd=PEERS, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return float(next(one["per_s"] for one in found if one["batch"] == 500))


if __name__ == "__main__":
    sys.exit(main())
