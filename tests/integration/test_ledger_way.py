"""Ordinary work of a process gives way to its urgent work, and never stands still for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from shared.ledger import way
from shared.ledger.lane import team_up
from shared.ledger.unit import Result, Unit, Work
from shared.ledger.way import LEAST, Way
from tests.support.ledger import Told, broken, engine_of, lane_of, open_some


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = engine_of(database_url)
    yield engine
    assert broken(engine, routed=False) == {}
    engine.dispose()


def test_batches_are_small_from_when_urgent_work_came_until_a_while_after_the_last(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_some(engine, 400)
    open_some(engine, 1, lane="urgent")
    shared = Way()
    urgent, normal = lane_of(engine, Told(), "urgent"), lane_of(engine, Told(), cap=200)
    urgent.way = normal.way = shared
    assert normal.run_once() == 100
    assert urgent.run_once() == 1
    monkeypatch.setattr(way, "BATCH_SECONDS", 0.0)
    assert [normal.run_once(), normal.run_once()] == [LEAST] * 2
    monkeypatch.setattr(way, "RECENT_SECONDS", 0.0)
    assert normal.run_once() >= 100


def test_a_long_batch_in_hand_is_given_up_for_the_first_urgent_work_and_a_short_one_is_not(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(way, "BATCH_SECONDS", 0.0)
    shared, rare = Way(), Told()
    urgent = lane_of(engine, rare, "urgent")
    urgent.way = shared

    def urgent_work_comes(_: Unit, work: Work) -> Result:
        if work.id == first[0] and not rare.batches:
            open_some(engine, 1, lane="urgent")
            assert urgent.run_once() == 1
        return Result(work)

    router, sla = Told("router", urgent_work_comes), Told("sla")
    lanes = [lane_of(engine, router), lane_of(engine, sla)]
    for lane in lanes:
        lane.way = shared
    team_up(lanes)
    first = open_some(engine, 100)
    with engine.begin() as connection:  # both services have something to decide
        connection.exec_driver_sql(
            """insert into ledger.agenda (service, kind, id, lane, due_at)
            select 'sla', kind, id, lane, due_at from ledger.agenda where service = 'router'"""
        )
    assert lanes[0].run_once() == LEAST
    assert [len(batch) for batch in router.batches] == [100, LEAST]
    assert [len(batch) for batch in sla.batches] == [LEAST]
    assert lanes[0].run_once() == LEAST
    assert len(router.batches) == 3


def test_an_urgent_lane_that_finds_nothing_keeps_nobody_small(engine: Engine) -> None:
    open_some(engine, 200)
    shared = Way()
    urgent, normal = lane_of(engine, Told(), "urgent"), lane_of(engine, Told())
    urgent.way = normal.way = shared
    assert urgent.run_once() == 0
    assert normal.run_once() == 100


def test_an_ordinary_batch_begins_when_the_urgent_one_in_hand_is_done(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(way, "WAIT_SECONDS", 20.0)
    open_some(engine, 10)
    shared, handler, asked = Way(), Told(), threading.Event()
    normal = lane_of(engine, handler)
    normal.way = shared

    def run() -> int:
        asked.set()
        return normal.run_once()

    with ThreadPoolExecutor(1) as pool:
        with shared.taken():
            running = pool.submit(run)
            assert asked.wait(10)
            assert threading.Event().wait(0.05) is False
            assert handler.seen == []
        assert running.result(10) == 10


def test_urgent_work_that_never_ends_holds_nobody_up_for_long(engine: Engine) -> None:
    open_some(engine, 10)
    shared = Way()
    normal = lane_of(engine, Told())
    normal.way = shared
    with shared.taken():
        assert normal.run_once() == 10
