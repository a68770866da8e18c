"""What fails, what kills its worker, and what is done about it: splitting, quarantine, suspects, taking over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from shared.ledger import business
from shared.ledger.audit import audit, release_stuck
from shared.ledger.errors import Permanent, Transient
from shared.ledger.lane import CRASH_LIMIT, FAILURE_LIMIT, Journal
from shared.ledger.unit import Result, Unit, Work
from shared.runtime.database import looking
from tests.support import lane_worker
from tests.support.ledger import Told, broken, engine_of, lane_of, open_some, row, scalar
from tests.support.wait import until

ROOT = Path(__file__).resolve().parents[2]
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = engine_of(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(lane_worker.TABLE)
    yield engine
    assert broken(engine, routed=False) == {}
    engine.dispose()


def freeze(engine: Engine, at: datetime) -> None:
    with engine.begin() as connection:
        business.freeze(connection, at)


# ---- failures -------------------------------------------------------------------------------------------------------------


class Failing(Told):
    """Fails whenever a culprit is in the batch, after it has written something for each item."""

    def __init__(self, culprits: set[int], error: Exception) -> None:
        super().__init__(decide=self._decide)
        self._culprits, self._error = culprits, error

    def _decide(self, unit: Unit, work: Work) -> Result:
        unit.connection.exec_driver_sql("insert into public.effect values (%s, %s)", (work.id, work.version))
        if work.id in self._culprits:
            raise self._error
        return Result(work)


def effects(engine: Engine) -> dict[int, int]:
    with engine.connect() as connection:
        return {
            found.id: found.n
            for found in connection.exec_driver_sql("select id, count(*) as n from public.effect group by 1")
        }


@pytest.mark.parametrize("count", [1, 2, 50, 200])
@pytest.mark.parametrize("culprits", [1, 3])
def test_a_failing_batch_is_split_until_only_the_culprits_are_left(engine: Engine, count: int, culprits: int) -> None:
    freeze(engine, NOON)  # or the first failure's second try may come before all are handled
    tickets = open_some(engine, count)
    bad = set(tickets[:: max(1, count // culprits)][:culprits])
    lane = lane_of(engine, Failing(bad, ValueError("odd")), cap=count)
    lane.drain()
    assert effects(engine) == dict.fromkeys(set(tickets) - bad, 1)
    for ticket in tickets:
        found = row(engine, "router", ticket)
        assert (found.failures, found.due_at is None) == ((1, False) if ticket in bad else (0, True))
        assert found.error == ("ValueError: odd" if ticket in bad else None)


@pytest.mark.parametrize(
    ("error", "rounds_until_quarantine"),
    [(ValueError("a bug"), FAILURE_LIMIT), (Permanent("never"), 1), (Transient("later"), None)],
)
def test_what_keeps_failing_is_tried_ever_later_and_then_set_aside(
    engine: Engine, error: Exception, rounds_until_quarantine: int | None
) -> None:
    freeze(engine, NOON)
    bad, good = open_some(engine, 2)
    lane, now, pauses = lane_of(engine, Failing({bad}, error)), NOON, []
    for turn in range(1, 9):
        lane.drain()
        found = row(engine, "router", bad)
        if found.quarantined_at is not None:
            assert turn == rounds_until_quarantine
            break
        pauses.append((found.due_at - now).total_seconds())
        now = found.due_at
        freeze(engine, now)
    assert pauses == sorted(pauses)
    assert all(0 < pause <= 60 for pause in pauses)
    assert (row(engine, "router", bad).quarantined_at is None) == (rounds_until_quarantine is None)
    assert effects(engine) == {good: 1}
    freeze(engine, now + timedelta(days=1))
    if rounds_until_quarantine is not None:
        assert lane.drain() == 0


def test_what_the_driver_refuses_to_send_is_the_items_own_fault(engine: Engine) -> None:
    bad, good = open_some(engine, 2)

    def write(unit: Unit, work: Work) -> Result:
        text = "a\0b" if work.id == bad else "ab"
        unit.connection.exec_driver_sql("select %s::text", (text,))
        return Result(work)

    lane_of(engine, Told(decide=write)).drain()
    assert row(engine, "router", bad).failures == 1
    assert row(engine, "router", good).due_at is None


def test_a_lost_connection_is_nobodys_fault(engine: Engine) -> None:
    tickets = open_some(engine, 3)
    cut = [True]

    def once(unit: Unit, work: Work) -> Result:
        if cut:
            cut.clear()
            unit.connection.exec_driver_sql("select pg_terminate_backend(pg_backend_pid())")
        return Result(work)

    lane = lane_of(engine, Told(decide=once))
    with pytest.raises(Exception, match="terminat"):
        lane.drain()
    assert lane.drain() == 3
    assert [row(engine, "router", ticket).failures for ticket in tickets] == [0, 0, 0]


def audited(engine: Engine) -> int:
    with looking(engine) as connection:
        return audit(engine, connection, 0)


# ---- the journal ------------------------------------------------------------------------------------------------------------


def test_items_of_a_dead_worker_are_claimed_apart_and_cleared_by_success(engine: Engine, database_url: str) -> None:
    tickets = open_some(engine, 5)
    other = engine_of(database_url, "dead")
    dead = Journal(other)
    dead.note("router.ticket.normal", "router", "ticket", tickets[:3])
    assert audited(engine) == 0  # it lives
    other.dispose()
    dead._drop()  # its session is gone, its note is not
    _until(lambda: audited(engine) == 3)
    handler = Told()
    lane = lane_of(engine, handler)
    lane.drain()
    assert sorted(handler.batches) == [tickets[:3], tickets[3:]]
    assert all(row(engine, "router", ticket).crashes == 0 for ticket in tickets)


def test_suspects_have_their_turn_although_the_lane_is_never_empty(engine: Engine) -> None:
    [suspect] = open_some(engine, 1)
    with engine.begin() as connection:
        connection.exec_driver_sql("update ledger.agenda set crashes = 1 where id = %s", (suspect,))
    handler = Told()
    lane = lane_of(engine, handler, cap=50)

    def never_empty() -> bool:
        if len(handler.batches) < 50 and (suspect, 1) not in handler.seen:
            open_some(engine, 60)
            return False
        return True

    lane.drain(never_empty)
    assert [suspect] in handler.batches[:10]


def test_services_in_one_process_keep_their_own_notes(engine: Engine) -> None:
    from shared.contracts.events import TicketReplied
    from tests.support.ledger import act

    [ticket] = open_some(engine, 1)
    act(engine, ticket, TicketReplied(author="agent"))
    journal = Journal(engine)
    for service in ("router", "sla", "notifier"):
        lane_of(engine, Told(service), journal=journal).drain()
    assert scalar(engine, "select count(distinct service) from ledger.journal") == 3
    journal.close()
    assert scalar(engine, "select count(*) from ledger.journal") == 0


def test_a_suspect_is_blamed_for_deaths_with_it_alone_and_waits_between_them(engine: Engine) -> None:
    [ticket] = open_some(engine, 1)
    pauses = []
    for death in range(1 + CRASH_LIMIT):
        assert row(engine, "router", ticket).quarantined_at is None
        dead = Journal(engine)
        dead.note("slot", "router", "ticket", [ticket])
        dead._drop()
        _until(lambda: audited(engine) == 1)
        found = row(engine, "router", ticket)
        assert found.crashes == (1, 3, 4, 5)[death]
        pauses.append((found.due_at - scalar(engine, "select ledger.now()")).total_seconds())
        with engine.begin() as connection:
            connection.exec_driver_sql("update ledger.agenda set due_at = ledger.now() where id = %s", (ticket,))
    assert row(engine, "router", ticket).quarantined_at is not None
    assert pauses[0] <= 0 < pauses[1] < pauses[2]


# ---- processes that die -------------------------------------------------------------------------------------------------------


def worker(url: str, **environment: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.lane_worker", url],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for one in started:
        one.kill()
        one.wait(10)
        assert one.stdout is not None
        one.stdout.close()


def _until(holds: Any, seconds: float = 30.0) -> float:
    """Ask again and again until it holds; returns how long it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, "it does not come true"
        time.sleep(0.01)
    return time.monotonic() - began


def test_a_poisonous_ticket_kills_three_workers_alone_and_is_set_aside(
    engine: Engine, database_url: str, processes: list[subprocess.Popen[str]]
) -> None:
    tickets = open_some(engine, 40)
    poison = tickets[17]
    deaths = 0
    while row(engine, "router", poison).quarantined_at is None:
        assert deaths <= CRASH_LIMIT + 2
        processes.append(worker(database_url, EFFECT_POISON=str(poison)))
        _until(lambda: processes[-1].poll() is not None or row(engine, "router", poison).quarantined_at is not None)
        deaths += processes[-1].poll() is not None
    _until(lambda: len(effects(engine)) == 39)
    assert deaths == 2 + CRASH_LIMIT  # the first made suspects of all, the second of those it was claimed with
    assert effects(engine) == dict.fromkeys(set(tickets) - {poison}, 1)
    assert "died 3 times" in row(engine, "router", poison).error


@pytest.mark.parametrize(("how", "most_seconds"), [(signal.SIGKILL, 2.0), (signal.SIGSTOP, 20.0)])
def test_work_of_a_killed_or_stopped_worker_is_taken_over(
    engine: Engine,
    database_url: str,
    processes: list[subprocess.Popen[str]],
    tmp_path: Path,
    how: signal.Signals,
    most_seconds: float,
) -> None:
    flag = tmp_path / "holding"
    processes.append(worker(database_url, EFFECT_HOLD=str(flag)))
    tickets = open_some(engine, 20)
    _until(flag.exists)
    processes.append(worker(database_url))
    processes[0].send_signal(how)
    with ExitStack() as stack:
        if how is signal.SIGSTOP:
            stack.callback(processes[0].send_signal, signal.SIGCONT)
        taken = _until(lambda: len(effects(engine)) == 20)
    assert taken <= most_seconds
    assert effects(engine) == dict.fromkeys(tickets, 1)


@pytest.mark.parametrize("point", ["lane.claimed", "lane.saved", "lane.committed"])
def test_dying_at_a_named_point_neither_loses_nor_repeats(
    engine: Engine, database_url: str, processes: list[subprocess.Popen[str]], point: str
) -> None:
    tickets = open_some(engine, 30)
    processes.append(worker(database_url, SIGNALBOX_TEST_MODE="1", SIGNALBOX_CRASH=point))
    assert processes[0].wait(20) == -signal.SIGKILL
    processes.append(worker(database_url))
    _until(lambda: len(effects(engine)) == 30)
    assert effects(engine) == dict.fromkeys(tickets, 1)


def in_a_copy(connection: psycopg.Connection[Any]) -> None:
    connection.pgconn.send_query(b"copy ledger.event (kind) from stdin")
    while connection.pgconn.is_busy():
        connection.pgconn.consume_input()
    assert connection.pgconn.get_result().status == psycopg.pq.ExecStatus.COPY_IN  # type: ignore[union-attr]


def in_a_pipeline(connection: psycopg.Connection[Any]) -> None:
    pgconn = connection.pgconn
    pgconn.enter_pipeline_mode()
    pgconn.send_query_params(b"select 1", [])
    pgconn.send_flush_request()
    pgconn.flush()
    assert pgconn.get_result().status == psycopg.pq.ExecStatus.TUPLES_OK  # type: ignore[union-attr]


def after_a_pipeline(connection: psycopg.Connection[Any]) -> None:
    """Idle in a transaction, and the server's time-out for that is stopped by the flush request that follows the pipeline."""
    with connection.pipeline():
        connection.execute("select 1")


def between_two_statements(connection: psycopg.Connection[Any]) -> None:
    connection.execute("select 1")


@pytest.mark.parametrize("stand_still", [in_a_copy, in_a_pipeline, after_a_pipeline, between_two_statements])
def test_who_stands_still_in_a_transaction_loses_its_locks(
    engine: Engine, stand_still: Callable[[psycopg.Connection[Any]], None]
) -> None:
    [ticket] = open_some(engine, 1)
    stopped = engine.raw_connection()
    raw = stopped.driver_connection
    assert isinstance(raw, psycopg.Connection)
    raw.execute("select from ledger.ticket where id = %s for update", (ticket,))
    stand_still(raw)
    handler = Told()
    lane = lane_of(engine, handler)
    assert lane.drain() == 0
    assert release_stuck(engine, seconds=60) == 0
    until(lambda: release_stuck(engine, seconds=0.2) == 1, seconds=5)
    until(lambda: lane.drain() == 1, seconds=5)
    assert handler.seen == [(ticket, 1)]
    stopped.invalidate()
