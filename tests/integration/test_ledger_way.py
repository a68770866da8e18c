"""Ordinary work of a process gives way to its urgent work, and never stands still for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from shared.ledger import way
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
