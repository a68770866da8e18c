"""Giving out under many hands: durable assignments a second near full capacity, and whether every counter is exact.

    python -m bench.assignment [--full] [--assignments 100000] [--workers 8,32]

200 agents in 10 groups, capacity 8 to 50, 1 to 3 of 5 skills; every worker process takes batches through the router's
own capacity lock, assigner and statements, and ends as many of its own as it opens, so that 95 to 100 % of all capacity
stays in use. Each assignment is a committed row. Beside it, in the same run and on the same server, the ways of
`bench/reference/peers/agents_bench.py` near saturation: the group's rows locked for each ticket, and (with `--full`)
rows with SKIP LOCKED.

A monitor asks all the time for agents with more open assignments than capacity. Round robin is judged on a group of its
own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Connection

from bench.tools.house import House, house
from bench.tools.meter import Verdicts, load, percentile
from services.router import store
from services.router.domain.assign import Assigner
from services.router.domain.desk import Desk, Request
from services.router.domain.outcomes import Assigned
from services.router.domain.pool import Agent, Pool, Turns
from services.router.domain.strategies import turn_taken
from services.router.store import Changes, Load
from shared.playbook.routing import Strategy
from shared.runtime import copying, memory
from shared.runtime.database import connect_engine

AGENTS, GROUPS, SKILLS = 200, 10, 5
NOW = datetime(2026, 3, 4, tzinfo=UTC)
BATCH = 200
"""As large as the router's batches are at most."""
FULL_SHARE = 0.99
"""Of all capacity: what the workers keep open together."""
REFERENCE = Path(__file__).parent / "reference" / "peers" / "agents_bench.py"


@dataclass(frozen=True, slots=True)
class Person:
    """An agent of the benchmark; `capacity` in tickets."""

    name: str
    group: str
    capacity: int
    skills: tuple[str, ...]


def staff() -> list[Person]:
    """The same people as the reference's."""
    chance = random.Random(5)
    return [
        Person(
            f"a{n}", f"g{n % GROUPS}", chance.randrange(8, 51),
            tuple(f"s{one}" for one in sorted(chance.sample(range(SKILLS), chance.choice([1, 2, 2, 3])))),
        )
        for n in range(AGENTS)
    ]  # fmt: skip


PEOPLE = staff()
CAPACITY = sum(one.capacity for one in PEOPLE)
BY_NAME = {one.name: one for one in PEOPLE}
SKILLED = {one.name: dict.fromkeys(one.skills, 1) for one in PEOPLE}
"""As the directory keeps them: read once, not with every batch."""
DESKS = {
    f"g{n}": Desk(f"g{n}", tuple(one.name for one in PEOPLE if one.group == f"g{n}"), Strategy.UTILISATION)
    for n in range(GROUPS)
}


def pool_of(loads: dict[str, Load]) -> Pool:
    """The people with their locked loads."""
    return Pool(
        {
            name: Agent(
                name,
                SKILLED[name],
                capacity=BY_NAME[name].capacity * 100,
                load=one.load,
                open_tickets=one.open_count,
                last_assigned=one.last_assigned,
            )
            for name, one in loads.items()
        }
    )


@dataclass(slots=True)
class Found:
    """What one worker did."""

    before: int = 0
    """Given out before the clock started, so that everybody is busy when it does."""
    given: int = 0
    refused: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    batches: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    """Share of all capacity in use after each batch."""


class Hand:
    """One worker: its tickets, and which of them are open."""

    def __init__(self, number: int, workers: int, wanted: int) -> None:
        self._chance = random.Random(number)
        self._next = number * 10_000_000 + 1
        self._keep = max(4, int(CAPACITY * FULL_SHARE / workers))
        self._size = min(BATCH, max(4, self._keep * 3 // 4))
        self._open: list[tuple[int, str]] = []
        self._pairs = sorted({(one.group, skill) for one in PEOPLE for skill in one.skills})
        self.wanted, self.found = wanted, Found()

    def run(self, url: str, ready: Any, go: Event) -> Found:
        """Batches until the wanted number is given out."""
        engine = connect_engine(url, name="bench", pool_size=1)
        times: list[float] = []
        shares: list[float] = []
        with engine.connect() as connection:
            wanted, self.wanted = self.wanted, self._keep
            while self.found.given < self._keep - 5:  # everybody has work before it begins
                self._batch(connection)
            self.wanted, self.found = wanted, Found(before=self.found.given)
            memory.settle()  # as a worker process does
            ready.put(None)
            go.wait()
            started, cpu = time.perf_counter(), time.process_time()
            while self.found.given < self.wanted:
                at = time.perf_counter()
                share = self._batch(connection)
                times.append(time.perf_counter() - at)
                shares.append(share)
            self.found.seconds = time.perf_counter() - started
            self.found.cpu = time.process_time() - cpu
        engine.dispose()
        self.found.batches, self.found.shares = tuple(times), tuple(shares)
        return self.found

    def _batch(self, connection: Connection) -> float:
        kept = min(len(self._open), self._keep - self._size)
        room = min(self._size, self.wanted - self.found.given, self._keep - kept)
        asked = self._fresh(room)  # what is asked for is known before anybody's load is locked
        loads = store.lock_loads(connection, BY_NAME, in_line=True)
        changes = Changes()
        self._end(changes, loads, room)
        assigner = Assigner(DESKS, pool_of(loads), NOW, {}, 100)
        for _ in range(4):  # where a demand finds nobody, others are asked for: the queue never runs dry
            wanted = room - len(changes.opened)
            if wanted <= 0:
                break
            for outcome in assigner.assign_all(asked or self._fresh(wanted)):
                if isinstance(outcome, Assigned):
                    outcome.as_dict()  # the reason is part of the work
                    self._take(changes, loads, outcome)
                else:
                    self.found.refused += 1
            asked = []
        _save(connection, changes, {})
        return sum(one.load for one in loads.values()) / (CAPACITY * 100)

    def _fresh(self, count: int) -> list[Request]:
        found = []
        for _ in range(count):
            group, skill = self._chance.choice(self._pairs)
            found.append(Request(self._next, group, NOW + timedelta(microseconds=self._next), skills=((skill, 1),)))
            self._next += 1
        return found

    def _end(self, changes: Changes, loads: dict[str, Load], room: int) -> None:
        over = len(self._open) + room - self._keep
        ending, self._open = self._open[: max(0, over)], self._open[max(0, over) :]
        for ticket, agent in ending:
            before = loads[agent]
            loads[agent] = Load(before.load - 100, before.open_count - 1, before.last_assigned)
            changes.ended.append({"ticket_id": ticket, "assignment": 1, "ended_at": NOW})
            changes.loads[agent] = loads[agent]

    def _take(self, changes: Changes, loads: dict[str, Load], outcome: Assigned) -> None:
        before = loads[outcome.agent]
        loads[outcome.agent] = Load(before.load + 100, before.open_count + 1, outcome.at)
        changes.loads[outcome.agent] = loads[outcome.agent]
        changes.opened.append(_opened(int(outcome.ticket), outcome.group, outcome.agent))
        self._open.append((int(outcome.ticket), outcome.agent))
        self.found.given += 1


def _save(connection: Connection, changes: Changes, turns: dict[str, Turns]) -> None:
    """As a lane does: gathered, sent together, committed."""
    with copying.gathering(connection):
        store.save(connection, changes, turns)
        copying.send(connection)
    connection.commit()


def _opened(ticket: int, group: str, agent: str) -> dict[str, Any]:
    return {
        "ticket_id": ticket, "assignment": 1, "node": "main", "visit": 1, "group_name": group, "agent": agent, "base": 100,
        "weight": 100, "offer": False, "over_capacity": False, "assigned_at": NOW,
    }  # fmt: skip


def _work(number: int, workers: int, wanted: int, url: str, ready: Any, go: Event, answers: Any) -> None:
    answers.put(Hand(number, workers, wanted).run(url, ready, go))


def _turns(number: int, count: int, url: str, ready: Any, go: Event, answers: Any) -> None:
    """Give out `count` tickets of the round robin group, 50 a batch."""
    members = tuple(f"r{n}" for n in range(7))
    desk = Desk("rr", members, Strategy.ROUND_ROBIN)
    engine = connect_engine(url, name="bench", pool_size=1)
    with engine.connect() as connection:
        ready.put(None)
        go.wait()
        for start in range(0, count, 50):
            loads = store.lock_loads(connection, members, in_line=True)
            turns = store.turns(connection, ["rr"]).get("rr") or Turns()
            pool = Pool(
                {one: Agent(one, load=loads[one].load) for one in members}, {"rr": Turns(turns.clock, dict(turns.of))}
            )
            assigner, changes = Assigner({"rr": desk}, pool, NOW), Changes()
            ids = range(number * 10_000_000 + start, number * 10_000_000 + min(start + 50, count))
            for outcome in assigner.assign_all([Request(one, "rr", NOW) for one in ids]):
                assert isinstance(outcome, Assigned)
                turn_taken(desk, turns, outcome.agent)
                before = loads[outcome.agent]
                loads[outcome.agent] = Load(before.load + 100, before.open_count + 1, outcome.at)
                changes.loads[outcome.agent] = loads[outcome.agent]
                changes.opened.append(_opened(int(outcome.ticket), "rr", outcome.agent))
            _save(connection, changes, {"rr": turns})
    engine.dispose()
    answers.put(None)


def _monitor(url: str, stop: Event, answers: Any) -> None:
    """Agents that were ever seen with more than they can carry."""
    over: set[tuple[str, int]] = set()
    with psycopg.connect(url, autocommit=True) as connection:
        while not stop.is_set():
            rows = connection.execute(
                "select agent, count(*) from router.assignment where ended_at is null group by 1"
            ).fetchall()
            over |= {(agent, n) for agent, n in rows if n > BY_NAME[agent].capacity}
            stop.wait(0.1)
    answers.put(over)


def together(target: Any, arguments: Sequence[tuple[Any, ...]]) -> tuple[list[Any], float]:
    """Run so many processes that begin at one moment; their answers, and the seconds from there to the last one's end."""
    context = mp.get_context("fork")
    go, ready, answers = context.Event(), context.Queue(), context.Queue()
    processes = [context.Process(target=target, args=(*one, ready, go, answers)) for one in arguments]
    for one in processes:
        one.start()
    for _ in processes:
        ready.get(timeout=600)
    started = time.perf_counter()
    go.set()
    found = [answers.get(timeout=600) for _ in processes]
    seconds = time.perf_counter() - started
    for one in processes:
        one.join()
    return found, seconds


def measure(place: House, workers: int, total: int, verdicts: Verdicts) -> float:
    """One run with so many workers; assignments a second."""
    place.fresh(f"hands{workers}")
    context = mp.get_context("fork")
    stop, seen = context.Event(), context.Queue()
    monitor = context.Process(target=_monitor, args=(place.database_url, stop, seen))
    monitor.start()
    before = place.postgres_cpu()
    hands = [(n, workers, total // workers, place.database_url) for n in range(workers)]
    found, seconds = together(_work, hands)
    server = (place.postgres_cpu() - before) / total * 1e6
    stop.set()
    over = seen.get(timeout=30)
    monitor.join()
    rate = sum(one.given for one in found) / seconds
    shares = [share for one in found for share in one.shares] or [0.0]
    times = [seconds for one in found for seconds in one.batches]
    print(
        f"{workers} workers: {rate:,.0f} assignments/s, {sum(one.refused for one in found):,} times nobody fitted, capacity in use "
        f"{percentile(shares, 0.05):.1%} to {max(shares):.1%} (median {percentile(shares, 0.5):.1%}), batch p50 "
        f"{percentile(times, 0.5) * 1e3:.0f} ms p99 {percentile(times, 0.99) * 1e3:.0f} ms, CPU us each: PostgreSQL {server:.0f}, "
        f"workers {sum(one.cpu for one in found) / total * 1e6:.0f}; {load()}"
    )  # fmt: skip
    with psycopg.connect(place.database_url) as connection:
        wrong = _one(connection, """select count(*) from router.load l full join (select agent, count(*) n, sum(weight) w
            from router.assignment where ended_at is null group by 1) a using (agent)
            where l.open_count <> coalesce(a.n, 0) or l.load <> coalesce(a.w, 0)""")  # fmt: skip
        doubled = _one(
            connection,
            "select count(*) from (select 1 from router.assignment group by ticket_id having count(*) > 1) x",
        )
        rows = _one(connection, "select count(*) from router.assignment")
    verdicts.least(f"{workers} workers, durable assignments/s", rate, 10_000)
    verdicts.least(f"{workers} workers, capacity in use at the median", percentile(shares, 0.5), 0.95)
    verdicts.most(f"{workers} workers, over capacity seen", len(over), 0)
    verdicts.most(f"{workers} workers, tickets given out twice", doubled, 0)
    verdicts.most(f"{workers} workers, counters that are not exact", wrong, 0)
    verdicts.most(f"{workers} workers, rows missing", abs(rows - sum(one.given + one.before for one in found)), 0)
    return rate


def round_robin(place: House, workers: int, verdicts: Verdicts) -> None:
    """Every member of the group is there throughout: nobody may be ahead by more than one."""
    place.fresh(f"turns{workers}")
    together(_turns, [(n, 500, place.database_url) for n in range(workers)])
    with psycopg.connect(place.database_url) as connection:
        counts = [
            n for _, n in connection.execute("select agent, count(*) from router.assignment group by 1").fetchall()
        ]
    verdicts.most(f"{workers} workers, round robin spread over {sum(counts):,}", max(counts) - min(counts), 1)


def _one(connection: psycopg.Connection[Any], statement: str) -> int:
    row = connection.execute(statement).fetchone()
    assert row is not None
    return int(row[0])


def reference(place: House, mode: str, total: int) -> float:
    """Assignments a second of one of the reference's ways, near saturation."""
    place.make_database("reference")
    with tempfile.TemporaryDirectory() as out:
        environment = dict(
            os.environ, PERF_PG_URL=place.database_url, PERF_REDIS_URL=place.servers.redis_url + "/1", PERF_OUT=out, KEEP="680",
            only=mode, PERF_PG_DATA="/nowhere",
        )  # fmt: skip
        command = [sys.executable, str(REFERENCE), "1", str(total)]
        done = subprocess.run(
            command, env=environment, cwd=REFERENCE.parent, capture_output=True, text=True, timeout=900
        )
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:])
    return float(json.loads(done.stdout.splitlines()[-1])["assigns_per_s"])


def main() -> int:
    """Print the figures, each with its verdict; 0 when all hold."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--full", action="store_true", help="100,000 assignments, and the way with SKIP LOCKED too")
    options.add_argument("--assignments", type=int)
    options.add_argument("--workers", default="8,32")
    chosen = options.parse_args()
    total = chosen.assignments or (100_000 if chosen.full else 40_000)
    verdicts = Verdicts()
    with house() as place:
        locked = reference(place, "pg count, group for update", 10_000)
        print(f"row locks, a transaction a ticket, 8 workers: {locked:,.0f} assignments/s, {load()}")
        if chosen.full:
            skipped = reference(place, "pg counter, skip locked", 10_000)
            print(f"SKIP LOCKED, a transaction a ticket, 8 workers: {skipped:,.0f} assignments/s, {load()}")
        for workers in map(int, chosen.workers.split(",")):
            rate = measure(place, workers, total, verdicts)
            print(f"{workers} workers: {rate / locked:.1f} times the way with row locks")
            round_robin(place, workers, verdicts)
    return 1 if verdicts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
