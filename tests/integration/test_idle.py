"""A worker process that has nothing to do: what it keeps, what wakes it, how soon it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dramatiq.worker import WorkerThread
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from shared.ledger.housekeeping import WIDE
from shared.ledger.process import Deps, Parts, WorkerProcess
from shared.runtime.broker import Bells
from shared.runtime.database import looking
from shared.runtime.ids import ItemIds
from shared.runtime.settings import Settings
from tests.support.ledger import Told, engine_of, open_some, scalar
from tests.support.wait import until

SESSIONS = (
    "select count(*) from pg_stat_activity where datname = current_database() and backend_type = 'client backend'"
)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = engine_of(database_url)
    yield made
    made.dispose()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def process(engine: Engine, database_url: str, redis_url: str, told: Told) -> Iterator[WorkerProcess]:
    settings = Settings.from_environment({"SIGNALBOX_DATABASE_URL": database_url, "SIGNALBOX_REDIS_URL": redis_url})
    deps = Deps(settings, engine, Bells(redis_url), ItemIds(), playbook_number=lambda _: 1)
    made = WorkerProcess(deps, [Parts("router", (told,))])
    made.start()
    yield made
    made.stop()


def backend(engine: Engine) -> int:
    with looking(engine) as connection:
        return int(connection.exec_driver_sql("select pg_backend_pid()").scalar_one())


def threads(process: WorkerProcess) -> list[WorkerThread]:
    assert process._worker is not None
    return process._worker.workers


def wakes(thread: WorkerThread) -> int:
    """How often the system has put a thread to sleep so far."""
    lines = Path(f"/proc/self/task/{thread.native_id}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def test_threads_that_wait_for_bells_sleep_until_one_rings(
    process: WorkerProcess, engine: Engine, redis_url: str, told: Told
) -> None:
    time.sleep(0.5)
    before = [wakes(thread) for thread in threads(process)]
    time.sleep(2.5)
    assert [wakes(thread) for thread in threads(process)] == before
    [ticket] = open_some(engine, 1)
    Bells(redis_url).ring({("router", "normal")})
    until(lambda: told.batches == [[ticket]], seconds=0.5)


def test_an_idle_process_stops_at_once(process: WorkerProcess) -> None:
    time.sleep(0.5)
    began = time.monotonic()
    process.stop()
    assert time.monotonic() - began < 1.0
    assert not any(thread.is_alive() for thread in threads(process))


def test_what_lost_its_bell_is_found_by_a_process_that_has_been_idle(
    process: WorkerProcess, engine: Engine, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.ledger.dispatch.QUIET_AFTER_SECONDS", 0.0)
    time.sleep(2.5)
    [ticket] = open_some(engine, 1)
    until(lambda: told.batches == [[ticket]], seconds=2.0)


def test_looks_share_one_connection_and_simultaneous_ones_do_not(engine: Engine) -> None:
    first = backend(engine)
    assert backend(engine) == first
    with looking(engine):
        assert backend(engine) != first
    assert engine.pool.checkedout() == 1  # type: ignore[attr-defined]


def test_no_statement_of_a_worker_starts_processes_unless_it_reads_whole_tables(engine: Engine) -> None:
    cheap = "set local parallel_setup_cost = 0; set local parallel_tuple_cost = 0; set local min_parallel_index_scan_size = 0"
    found = []
    for settings in ("select", WIDE):
        with engine.connect() as connection:
            connection.exec_driver_sql(f"{cheap}; set local min_parallel_table_scan_size = 0; {settings}")
            plan = connection.exec_driver_sql("explain select count(*) from ledger.event").scalars()
            found.append("Gather" in " ".join(plan))
    assert found == [False, True]


def test_a_look_that_failed_leaves_no_broken_connection(engine: Engine) -> None:
    first = backend(engine)
    with pytest.raises(DBAPIError), looking(engine) as connection:
        connection.exec_driver_sql("select pg_terminate_backend(pg_backend_pid())")
    assert backend(engine) != first
    engine.dispose()
    until(lambda: scalar(engine, SESSIONS) == 1)
