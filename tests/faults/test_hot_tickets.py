"""A thousand tickets that everybody wants: workers of every service and people on the same ones all the while."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import Engine

from services.control import platform, publish
from services.gateway.actions import act
from services.gateway.intake import Intake, Submission
from services.notifier.bootstrap import build_silent
from shared.contracts.envelope import Actor
from shared.contracts.intake import TicketIn
from shared.ledger.process import Deps, WorkerProcess
from shared.runtime.clock import monotonic, utc_now
from shared.runtime.settings import Settings
from shared.ticket import commands as c
from tests.support.ledger import broken, scalar
from tests.support.waiting import wait_for

TICKETS, PEOPLE, SECONDS = 300, 3, 6.0
WORKERS = ("router", "sla", "escalation", "notifier")


@pytest.fixture
def deps(database_url: str, redis_url: str) -> Iterator[Deps]:
    made = _deps(database_url, redis_url, "people")
    with made.engine.connect() as connection:
        publish.publish(made, connection, publish.load("selected", publish.years_around(utc_now())).playbook, by="test")
    yield made
    made.engine.dispose()


def _deps(database_url: str, redis_url: str, name: str) -> Deps:
    settings = replace(Settings.from_environment({}), database_url=database_url, redis_url=redis_url)
    return platform.deps(settings, platform.engine(settings, name, pool_size=16))


@pytest.mark.parametrize(
    "layout", [[WORKERS, WORKERS], [(one,) for one in WORKERS for _ in range(2)]], ids=["together", "each_alone"]
)
def test_workers_and_people_on_the_same_tickets_never_lock_each_other_out_and_nothing_is_missed(
    deps: Deps, database_url: str, redis_url: str, layout: list[tuple[str, ...]]
) -> None:
    opened = Intake(deps).open_many(
        [
            Submission(TicketIn(subject=f"打印机 {n}", source="web"), Actor(kind="customer", id="n1"))
            for n in range(TICKETS)
        ]
    )
    ids = [one.ticket.id for one in opened if one.ticket is not None]
    processes = []
    for number, services in enumerate(layout):
        own = _deps(database_url, redis_url, f"worker-{number}")
        parts = [build_silent(own) if name == "notifier" else platform.parts(name, own) for name in services]
        processes.append((own, WorkerProcess(own, parts)))
    try:
        for _, process in processes:
            process.start()
        stop = threading.Event()
        with ThreadPoolExecutor(PEOPLE) as people:
            acted = [
                people.submit(_act, deps, ids, random.Random(n), monotonic() + SECONDS, stop) for n in range(PEOPLE)
            ]
            assert sum(one.result() for one in acted) > 20
        wait_for(lambda: _due(deps.engine) == 0, seconds=60)
    finally:
        for own, process in processes:
            process.stop()
            own.engine.dispose()
    assert scalar(deps.engine, "select deadlocks from pg_stat_database where datname = current_database()") == 0
    assert (
        scalar(deps.engine, "select count(*) from ledger.agenda where failures > 0 or quarantined_at is not null") == 0
    )
    assert _unseen(deps.engine) == 0
    assert broken(deps.engine) == {}


def _act(deps: Deps, ids: list[int], chance: random.Random, until: float, stop: threading.Event) -> int:
    """A person who notes, answers and changes tickets, one after the other."""
    done, who = 0, Actor(kind="person", id="chen.jie")
    commands = (
        c.Note(text="seen"),
        c.Reply(text="on it"),
        c.Set(labels={"impact": "high"}),
        c.Set(labels={"impact": "low"}),
    )
    while monotonic() < until and not stop.is_set():
        with deps.engine.connect() as connection:
            outcome = act(deps, connection, chance.choice(ids), chance.choice(commands), who, "hot")
        done += outcome.refused is None
    return done


def _due(engine: Engine) -> int:
    return int(
        scalar(engine, "select count(*) from ledger.agenda where due_at <= ledger.now() and quarantined_at is null")
        or 0
    )


def _unseen(engine: Engine) -> int:
    """Events that wake a service, later than what it has seen, with nothing due: a missed wake-up."""
    return int(
        scalar(
            engine,
            """select count(*) from ledger.event e join ledger.agenda a on a.kind = 'ticket' and a.id = e.id
            where e.kind = 'ticket' and a.service = any(array['sla', 'escalation']) and e.version > a.seen_version
            and e.type = any(array['ticket.classified', 'ticket.set', 'ticket.assigned']) and e.actor ->> 'id' <> a.service
            and (a.due_at is null or a.due_at > ledger.now())""",
        )
    )
