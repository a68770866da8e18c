"""One run: tickets by HTTP and by a confirming producer on the stream, people who act on them, and faults all the while."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.faults.keeper import Keeper
from tests.faults.points import all_of_them
from tests.faults.world import KEY, World
from tests.support.journal import Journal
from tests.support.load import LoadResult, Plan, push_http
from tests.support.people import Acted, act_http
from tests.support.stream_load import ConfirmingProducer
from tests.support.wait import until


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """What comes in and what goes wrong.

    Attributes:
        http, stream: tickets by each door, spread over `seconds`.
        kill_every_seconds: one process, any of them, is killed so often; None: never.
        flush_every_seconds: Redis is flushed so often; None: never.
        restarts: PostgreSQL is stopped or killed, in turn, and started again so many times in the run.
        crash_points: each service dies once at each of its points, before it is only killed at random.
        people: how many act on the first tickets all the while.
    """

    http: int
    stream: int
    seconds: float
    kill_every_seconds: float | None = None
    flush_every_seconds: float | None = None
    restarts: int = 0
    crash_points: bool = False
    people: int = 2
    seed: int = 1
    give_up_seconds: float = 240.0


@dataclass(slots=True)
class Run:
    """What happened, as the load saw it."""

    journal: Path
    http: LoadResult = field(default_factory=LoadResult)
    stream: LoadResult = field(default_factory=LoadResult)
    acted: Acted = field(default_factory=Acted)
    last_fault: float = 0.0
    """Monotonic instant after which nothing was broken any more."""
    settled_after: float | None = None
    """Seconds from there until nothing was due any more."""
    faults: list[str] = field(default_factory=list)
    unsettled: int = 0
    backlog: list[Any] = field(default_factory=list)
    """What was still due ten seconds after the last fault: (service, kind, lane, suspects, items, oldest in seconds)."""


@contextmanager
def running(world: World, *, count: int = 1, seed: int = 1, crash_points: bool = False) -> Iterator[Keeper]:
    """All services, ready; with `crash_points` each process is armed with one after the other until it died at all of them."""
    points = [(service, name, _passings(name)) for service, name in all_of_them()] if crash_points else []
    with Keeper(world, count=count, points=points, seed=seed) as keeper:
        until(lambda: all(map(is_ready, keeper.urls)), seconds=60, what="the gateways are ready")
        yield keeper
    assert not keeper.strange, f"{keeper.strange}\n{keeper.log[-8_000:]}"


def is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=2).status_code == 200
    except requests.RequestException:
        return False


def play(world: World, keeper: Keeper, plan: FaultPlan) -> Run:
    """Load and faults until every ticket is settled, then health until nothing is due any more."""
    run = Run(world.home / "journal")
    over = threading.Event()
    with Journal(run.journal) as journal, ThreadPoolExecutor(3) as pool:
        http = pool.submit(push_http, keeper.urls[0], KEY, _plan(plan, "http", plan.http), journal)
        stream = pool.submit(ConfirmingProducer(world.valkey.url, _plan(plan, "stream", plan.stream), journal).run)
        people = pool.submit(_people, world, keeper, plan, over)
        try:
            more = _More(world, keeper, plan, journal)
            _break_things(world, keeper, plan, run, lambda: http.done() and stream.done(), more)
            run.http, run.stream = http.result(), stream.result()
            run.unsettled = more.unsettled
        finally:
            over.set()
        run.acted = people.result()
    run.settled_after = _settle(world, run)
    return run


def _plan(plan: FaultPlan, source: str, tickets: int) -> Plan:
    rate = tickets / plan.seconds if tickets else None
    return Plan(
        tickets=tickets, source=source, seed=plan.seed, rate_per_second=rate, give_up_seconds=plan.give_up_seconds,
        concurrency=16,
    )  # fmt: skip


def _people(world: World, keeper: Keeper, plan: FaultPlan, over: threading.Event) -> Acted:
    ids: list[str] = []
    while len(ids) < 20 and not over.wait(0.2):
        ids = _some_tickets(world)
    if over.is_set() or not plan.people:
        return Acted()
    return act_http(keeper.urls[0], KEY, ids, until=over, people=plan.people, seed=plan.seed, action=_paced)


def _some_tickets(world: World) -> list[str]:
    try:
        return [
            str(one)
            for (one,) in world.rows("select id from ledger.ticket where assignee is not null order by id limit 100")
        ]
    except Exception:  # the database is being restarted
        return []


def _paced(rng: random.Random, number: int) -> dict[str, Any]:
    """An action now and then, as people do."""
    time.sleep(rng.uniform(0.02, 0.1))
    return rng.choice(
        (
            {"action": "note", "text": f"note {number}"},
            {"action": "reply", "text": f"we are on it ({number})"},
            {"action": "customer_reply", "text": f"any news? ({number})"},
            {"action": "pause", "reason": f"waiting ({number})"},
            {"action": "resume"},
        )
    )


def _break_things(
    world: World, keeper: Keeper, plan: FaultPlan, run: Run, done: Callable[[], bool], more: Callable[[], None]
) -> None:
    """Faults by the clock of the plan, until the load is done and every crash point was hit, or the plan gives up."""
    start = time.monotonic()
    wanted = all_of_them() if plan.crash_points else []
    events = _schedule(plan, start)
    ahead = next(events)
    while time.monotonic() - start < plan.give_up_seconds:
        if done():
            keeper.patience_seconds = float("inf")  # no more shots at who is to die at a point
            if all(keeper.hits[f"{service} {name}"] for service, name in wanted):
                break
            more()  # who is armed dies of work alone
        if time.monotonic() < ahead[0]:
            time.sleep(0.05)
            continue
        _do(world, keeper, ahead[1], run)
        ahead = next(events)
    keeper.disarm()
    until(lambda: all(map(is_ready, keeper.urls)), seconds=60, what="the gateways are ready again")
    run.last_fault = time.monotonic()


class _More:
    """Some tickets more, each time it is called."""

    def __init__(self, world: World, keeper: Keeper, plan: FaultPlan, journal: Journal) -> None:
        self._world, self._keeper, self._plan, self._journal = world, keeper, plan, journal
        self._turn = 0
        self.unsettled = 0

    def __call__(self) -> None:
        self._turn += 1
        http, stream = (
            Plan(
                tickets=8, source=source, seed=self._plan.seed + 1_000 * self._turn, rate_per_second=8, concurrency=2,
                give_up_seconds=30,
            )
            for source in ("http", "stream")
        )  # fmt: skip
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(ConfirmingProducer(self._world.valkey.url, stream, self._journal).run)
            self.unsettled += push_http(self._keeper.urls[0], KEY, http, self._journal).open
            self.unsettled += sent.result().open


def _passings(name: str) -> tuple[int, int]:
    """Which passing of a point may be the last: doors pass theirs for every request, lanes for every batch.

    Not a lane's first ones: whatever a dead worker had in hand is claimed first, alone; an innocent item at which three workers
    in a row are killed has to look like one that kills them, and is set aside.
    """
    return (1, 30) if name.startswith(("intake", "delivery.called")) else (3, 6) if name.startswith("lane") else (1, 4)


def _schedule(plan: FaultPlan, start: float) -> Iterator[tuple[float, str]]:
    """(instant, fault) in order, without end."""
    turns: dict[str, float] = {}
    if plan.kill_every_seconds:
        turns["kill"] = plan.kill_every_seconds
    if plan.flush_every_seconds:
        turns["flush"] = plan.flush_every_seconds
    due = {name: start + every for name, every in turns.items()}
    restarts = [start + plan.seconds * (n + 1) / (plan.restarts + 1) for n in range(plan.restarts)]
    number = 0
    while True:
        nearest = min(due, key=lambda name: due[name], default=None)
        if restarts and (nearest is None or restarts[0] <= due[nearest]):
            number += 1
            yield restarts.pop(0), "crash PostgreSQL" if number % 2 else "restart PostgreSQL"
        elif nearest is None:
            yield float("inf"), ""
        else:
            yield due[nearest], nearest
            due[nearest] += turns[nearest]


def _do(world: World, keeper: Keeper, fault: str, run: Run) -> None:
    run.faults.append(fault)
    if fault == "kill":
        keeper.kill_one()
    elif fault == "flush":
        world.flush_redis()
    else:
        world.restart_postgres(crash=fault.startswith("crash"))


DUE = """
select count(*) from ledger.agenda
where due_at < clock_timestamp() - interval '1 second' and quarantined_at is null
"""


BACKLOG = """
select service, kind, lane, crashes > 0 as suspects, count(*), max(extract(epoch from clock_timestamp() - due_at))::integer
from ledger.agenda where due_at < clock_timestamp() - interval '1 second' and quarantined_at is null group by 1, 2, 3, 4
"""
MESSAGES = """
select id, lane, due_at, failures, crashes, error, (select row(m.channel, m.state, m.reason, m.epoch, m.attempts, m.sent_at)::text
    from notifier.message m where m.id = a.id)
from ledger.agenda a where kind = 'delivery' and due_at is not null and quarantined_at is null limit 20
"""
UNDER_WAY = """
select count(*) from ledger.agenda
where quarantined_at is null and due_at is not null and (kind = 'delivery' or due_at <= clock_timestamp())
"""
"""Messages without an end, and whatever is due now."""


def _settle(world: World, run: Run, seconds: float = 120.0) -> float | None:
    """Seconds from the last fault until nothing was due for more than a second; None when that did not come."""
    since = run.last_fault
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not run.backlog and time.monotonic() - since > 10:
            run.backlog = world.rows(BACKLOG)
        if world.scalar(DUE) == 0:
            seconds_taken = time.monotonic() - since
            # what was being sent when its sender died is sent again when its lease is over; that is no backlog
            # and what fell due in this very second is still to be looked at, which may make messages of its own
            quiet = 0
            while quiet < 3 and time.monotonic() < since + seconds_taken + 8:
                quiet = quiet + 1 if world.scalar(UNDER_WAY) == 0 else 0
                time.sleep(0.3)
            endless = time.monotonic() + 60
            while left := world.rows(MESSAGES):
                assert time.monotonic() < endless, f"messages without an end: {left}"
                time.sleep(0.1)
            return seconds_taken
        time.sleep(0.1)
    return None
