"""The claim: nothing twice, nothing missed, whatever happens beside it; and a cost that does not grow with what is done."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine

from shared.contracts.envelope import New
from shared.contracts.events import TicketClosed, TicketNoted
from shared.ledger import sql
from shared.ledger.kinds import KINDS
from shared.ledger.lane import Journal
from shared.ledger.unit import Result, Unit, Work
from tests.support.ledger import (
    Told,
    act,
    act_on,
    arm,
    broken,
    engine_of,
    lane_of,
    open_some,
    row,
    scalar,
)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = engine_of(database_url)
    yield engine
    assert broken(engine, routed=False) == {}
    engine.dispose()


def test_an_opening_wakes_the_router_and_its_handling_is_seen_once(engine: Engine) -> None:
    [ticket] = open_some(engine, 1)
    handler = Told()
    lane = lane_of(engine, handler)
    assert (lane.drain(), lane.drain()) == (1, 0)
    assert handler.seen == [(ticket, 1)]
    after = row(engine, "router", ticket)
    assert (after.due_at, after.seen_version, after.failures) == (None, 1, 0)


def test_own_events_count_as_seen_and_wake_only_the_others(engine: Engine) -> None:
    [ticket] = open_some(engine, 1)

    def reply(_: Unit, work: Work) -> Result:
        return Result(work, (New(TicketNoted(text="noted")), New(TicketNoted(text="twice"))))

    woken: set[tuple[str, str]] = set()
    lane = lane_of(engine, Told(decide=reply), ring=woken.update)
    assert (lane.drain(), lane.drain()) == (1, 0)
    assert woken == {("notifier", "normal")}
    assert row(engine, "router", ticket).seen_version == 3
    assert row(engine, "notifier", ticket).due_at is not None
    assert scalar(engine, "select version from ledger.ticket where id = %s", (ticket,)) == 3


def test_looking_for_suspects_reads_their_index_and_not_what_is_due(engine: Engine) -> None:
    open_some(engine, 50)
    with engine.connect() as connection:
        for who in ("= 1 and a.crashes > 0", "> 1 and a.crashes > 0"):
            claim = sql.CLAIM.format(table="ledger.ticket", state="i.state::text", crashes=who)
            values = {"service": "router", "kind": "ticket", "lane": "normal", "limit": 16}
            plan = "\n".join(connection.exec_driver_sql("explain " + claim, values).scalars())
            assert "agenda_suspects" in plan
            assert "agenda_due" not in plan


def test_concurrent_workers_never_handle_one_wake_up_twice(engine: Engine) -> None:
    tickets = open_some(engine, 1_500)
    handlers = [Told() for _ in range(4)]
    start = threading.Barrier(4)

    def work(handler: Told) -> None:
        lane = lane_of(engine, handler, journal=Journal(engine), cap=50)
        start.wait()
        while scalar(engine, "select count(*) from ledger.agenda where due_at is not null"):
            lane.drain()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, handlers))
    handled = Counter(ticket for handler in handlers for ticket, _ in handler.seen)
    assert handled == Counter(tickets)
    assert sum(bool(handler.seen) for handler in handlers) > 1


def test_the_earliest_due_come_first_and_a_batch_grows_with_what_waits(engine: Engine) -> None:
    tickets = open_some(engine, 300)
    order = list(range(300))
    random.Random(3).shuffle(order)
    arm(engine, "router", tickets, [-1_000.0 + place for place in order])
    handler = Told()
    lane_of(engine, handler, cap=200).drain()
    expected = [ticket for _, ticket in sorted(zip(order, tickets, strict=True))]
    assert [ticket for batch in handler.batches for ticket in batch] == expected
    sizes = [len(batch) for batch in handler.batches]
    assert sizes[0] == 100
    assert sizes == sorted(sizes[:-1]) + sizes[-1:]


@pytest.mark.parametrize("lane", ["urgent", "bulk"])
def test_a_lane_claims_only_what_is_its_own(engine: Engine, lane: str) -> None:
    open_some(engine, 5)
    own = open_some(engine, 3, lane=lane)
    handler = Told()
    assert lane_of(engine, handler, lane).drain() == 3
    assert {ticket for ticket, _ in handler.seen} == set(own)


# ---- no wake-up is missed ---------------------------------------------------------------------------------------------------


def test_a_person_who_acts_in_the_middle_of_a_claim_is_seen_by_the_next_one(engine: Engine) -> None:
    [ticket] = open_some(engine, 1)
    act(engine, ticket)
    claimed, go_on, acting = threading.Event(), threading.Event(), threading.Event()

    def wait(_: Unit, work: Work) -> Result:
        claimed.set()
        assert go_on.wait(10)
        return Result(work)

    handler = Told("notifier", wait)
    lane = lane_of(engine, handler)

    def person() -> None:
        acting.set()
        act(engine, ticket)  # waits for the batch that holds the ticket

    with ThreadPoolExecutor(2) as pool:
        draining = pool.submit(lane.drain)
        assert claimed.wait(10)
        person_acts = pool.submit(person)
        assert acting.wait(10)
        _until_somebody_waits_for_a_lock(engine)
        go_on.set()
        person_acts.result(10)
        handled = draining.result(10) + lane.drain()
    assert handled == 2
    assert handler.seen == [(ticket, 1), (ticket, 2), (ticket, 3)]


def test_an_item_that_a_person_holds_is_passed_over_and_found_when_it_is_free(engine: Engine) -> None:
    held, free = open_some(engine, 2)
    arm(engine, "notifier", [held, free], [-1.0, -1.0])
    handler = Told("notifier")
    lane = lane_of(engine, handler)
    with engine.connect() as person:
        act_on(person, held)
        assert lane.drain() == 1
        person.commit()
    assert lane.drain() == 1
    assert handler.batches == [[free], [held]]
    assert (held, 2) in handler.seen


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_event_reaches_a_service_exactly_once_while_people_act_all_the_time(engine: Engine, seed: int) -> None:
    tickets = open_some(engine, 12)
    handlers = [Told("notifier"), Told("notifier"), Told("sla"), Told("sla")]
    acted = threading.Event()

    def person(number: int) -> None:
        rng = random.Random(f"{seed}/{number}")
        for _ in range(60):
            act(engine, rng.choice(tickets))

    def worker(handler: Told) -> None:
        lane = lane_of(engine, handler, cap=5)
        while not acted.is_set():
            lane.drain()
        lane.drain()

    with ThreadPoolExecutor(7) as pool:
        workers = [pool.submit(worker, handler) for handler in handlers]
        for one in [pool.submit(person, number) for number in range(3)]:
            one.result(60)
        acted.set()
        for one in workers:
            one.result(60)
    for service in ("notifier", "sla"):
        lane_of(engine, last := Told(service)).drain()
        seen = [pair for one in (*handlers, last) if one.service == service for pair in one.seen]
        versions = scalar(engine, "select count(*) from ledger.event where kind = 'ticket'")
        assert len(seen) == len(set(seen)) == versions == 12 + 180


def _until_somebody_waits_for_a_lock(engine: Engine) -> None:
    for _ in range(2_000):
        if scalar(
            engine,
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
        ):
            return
    raise AssertionError("nobody waits")


# ---- what a claim costs ---------------------------------------------------------------------------------------------------

CLOSED = 200_000


def _touched(engine: Engine) -> tuple[int, set[str]]:
    """Blocks that a claim of 50 touches, and the relations that its plan reads by a scan of the whole."""
    statement = sql.CLAIM.format(table=KINDS["ticket"].table, state="i.state::text", crashes="= 0")
    values = {"service": "sla", "kind": "ticket", "lane": "normal", "limit": 50}
    with engine.connect() as connection:
        explain = "explain (analyze, buffers, timing off, format json) "
        found = connection.exec_driver_sql(explain + statement, values).scalar_one()
        connection.rollback()
    top = found[0]["Plan"]
    scans: set[str] = set()

    def walk(node: dict[str, Any]) -> None:
        if node["Node Type"] == "Seq Scan":
            scans.add(node["Relation Name"])
        for child in node.get("Plans", ()):
            walk(child)

    walk(top)
    return top["Shared Hit Blocks"] + top["Shared Read Blocks"], scans


def test_closed_tickets_cost_a_claim_nothing(engine: Engine) -> None:
    tickets = open_some(engine, 100)
    arm(engine, "sla", tickets, [-1.0] * 100)
    before, _ = _touched(engine)
    with engine.begin() as connection:
        for statement in (
            """insert into ledger.ticket (id, version, status, source, lane, opened_at, updated_at, state)
            select n, 1, 'closed', 'old', 'normal', now(), now(), '{"status": "closed", "version": 1}'
            from generate_series(1000000, 999999 + %s) n""",
            """insert into ledger.agenda (service, kind, id, lane, due_at, seen_version)
            select 'sla', 'ticket', n, 'normal', null, 1 from generate_series(1000000, 999999 + %s) n""",
        ):
            connection.exec_driver_sql(statement, (CLOSED,))
    after, scanned = _touched(engine)
    assert scanned <= {"clock"}  # the one row of business time
    assert after <= before + 60, (
        before,
        after,
    )  # a deeper index may cost each look-up a block, the number of rows nothing
    with engine.begin() as connection:
        connection.exec_driver_sql("delete from ledger.agenda where id >= 1000000")
        connection.exec_driver_sql("delete from ledger.ticket where id >= 1000000")


def test_a_ticket_with_nothing_to_wait_for_leaves_the_index_of_what_is_due(engine: Engine) -> None:
    [ticket] = open_some(engine, 1)
    lane_of(engine, Told()).drain()
    act(engine, ticket, TicketClosed())
    for service in ("router", "sla", "escalation", "notifier"):
        lane_of(engine, Told(service)).drain()
    assert scalar(engine, "select count(*) from ledger.agenda where due_at is not null") == 0
