"""Services of one process decide an item together, and each stands alone where one of them fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from shared.contracts.envelope import New
from shared.contracts.events import SlaWarned, TicketAssigned, TicketClassified
from shared.ledger.lane import FAILURE_LIMIT, Lane, team_up
from shared.ledger.unit import Result, Unit, Work
from tests.support.ledger import Told, act, arm, broken, engine_of, lane_of, open_some, row, scalar

SERVICES = ("router", "sla", "escalation", "notifier")


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = engine_of(database_url)
    yield engine
    assert broken(engine, routed=False) == {}
    engine.dispose()


def give_out(_: Unit, work: Work) -> Result:
    if work.ticket.status != "new":
        return Result(work)
    label = TicketClassified(labels={}, priority="normal", group="g", kind="general", lane="normal")
    given = TicketAssigned(group="g", agent="anna", assignment=1)
    return Result(work, (New(label), New(given)))


def crew_of(engine: Engine, *, early: bool = False, **handlers: Told) -> dict[str, Lane]:
    """Lanes of the four services, teamed up; a service without a handler here looks and goes."""
    told = {"router": Told("router", give_out)} | handlers
    lanes = {name: lane_of(engine, told.get(name) or Told(name)) for name in SERVICES}
    team_up(list(lanes.values()), early=early)
    return lanes


def told(lane: Lane) -> Told:
    assert isinstance(lane.handler, Told)
    return lane.handler


def test_one_claim_lets_every_service_decide_and_nothing_is_due_afterwards(engine: Engine) -> None:
    tickets = open_some(engine, 120)
    lanes = crew_of(engine)
    lanes["router"].drain()
    for name in SERVICES:
        assert [number for batch in told(lanes[name]).batches for number in batch] == tickets
    assert scalar(engine, "select count(*) from ledger.agenda where due_at is not null") == 0
    assert scalar(engine, "select count(*) from ledger.agenda") == 4 * len(tickets)


def test_each_service_sees_each_event_once_also_when_another_appended_it_in_the_same_batch(engine: Engine) -> None:
    (ticket,) = open_some(engine, 1)
    lanes = crew_of(engine)
    lanes["router"].drain()
    act(engine, ticket)
    for name in ("sla", "escalation", "notifier"):
        lanes[name].drain()
        assert told(lanes[name]).seen == [(ticket, version) for version in (1, 2, 3, 4)]
    assert told(lanes["router"]).seen == [(ticket, 1)]
    act(engine, ticket)
    lanes["sla"].drain()
    assert told(lanes["notifier"]).seen[-1] == (ticket, 5)


def test_a_timer_of_one_service_is_answered_by_those_it_wakes_in_the_same_batch(engine: Engine) -> None:
    tickets = open_some(engine, 3)
    warned = Told("sla", lambda unit, work: Result(work, (New(_warning(unit)),) if not work.events else ()))
    lanes = crew_of(engine, sla=warned)
    lanes["router"].drain()
    arm(engine, "sla", tickets, [-1.0] * 3)
    lanes["sla"].drain()
    assert [number for number, version in told(lanes["notifier"]).seen if version == 4] == tickets
    assert scalar(engine, "select count(*) from ledger.event where type = 'sla.warned'") == 3


def test_a_ticket_that_one_service_cannot_stand_is_set_aside_for_that_service_alone(engine: Engine) -> None:
    tickets = open_some(engine, 40)
    bad = tickets[17]

    def poisoned(_: Unit, work: Work) -> Result:
        if work.id == bad:
            raise ValueError("odd")
        return Result(work)

    lanes = crew_of(engine, sla=Told("sla", poisoned))
    for _ in range(FAILURE_LIMIT):
        for lane in lanes.values():
            lane.drain()
        with engine.begin() as connection:
            connection.exec_driver_sql("update ledger.agenda set due_at = ledger.now() where failures > 0")
    assert row(engine, "sla", bad).quarantined_at is not None
    assert row(engine, "sla", bad).error == "ValueError: odd"
    assert scalar(engine, "select count(*) from ledger.agenda where failures > 0") == 1
    for name in SERVICES:
        seen = {number for number, version in told(lanes[name]).seen if version == 1}
        assert seen == set(tickets) - ({bad} if name == "sla" else set())
    asked = len(told(lanes["sla"]).batches)
    act(engine, bad)
    for name in ("escalation", "notifier"):
        lanes[name].drain()
        assert (bad, 4) in told(lanes[name]).seen
    assert len(told(lanes["sla"]).batches) == asked


def test_a_ticket_that_kills_its_worker_in_one_service_is_alone_when_it_is_claimed_again(engine: Engine) -> None:
    first, second = open_some(engine, 2)
    lanes = crew_of(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("update ledger.agenda set crashes = 1 where id = %s", (first,))
    lanes["router"].run_once()
    assert sorted(told(lanes["router"]).batches) == [[first], [second]]
    assert [number for batch in told(lanes["sla"]).batches for number in batch] == [second]
    lanes["sla"].drain()
    assert [number for batch in told(lanes["sla"]).batches for number in batch] == [second, first]


def test_services_that_wake_each_other_without_end_are_stopped_and_go_on_in_the_next_claim(engine: Engine) -> None:
    (ticket,) = open_some(engine, 1)
    again = TicketAssigned(group="g", agent="b", assignment=2)
    echo = Told("escalation", lambda _, work: Result(work, (New(again),) if work.version < 40 else ()))
    back = Told("sla", lambda _, work: Result(work, (New(again),)))
    lanes = crew_of(engine, escalation=echo, sla=back)
    lanes["router"].run_once()
    version = scalar(engine, "select version from ledger.ticket where id = %s", (ticket,))
    assert 4 < version < 40
    assert scalar(engine, "select count(*) from ledger.agenda where due_at <= ledger.now()") > 0


def _warning(unit: Unit) -> SlaWarned:
    return SlaWarned(metric="resolution", threshold="30m", due_at=unit.now)


def test_a_new_ticket_alone_is_somebodys_before_the_others_decide(engine: Engine) -> None:
    (ticket,) = open_some(engine, 1)
    lanes = crew_of(engine, early=True)
    assert lanes["router"].run_once() == 1
    assert scalar(engine, "select assignee from ledger.ticket") == "anna"
    assert [told(lanes[name]).seen for name in SERVICES] == [[(ticket, 1)], [], [], []]
    assert lanes["sla"].run_once() == 1
    for name in ("sla", "escalation", "notifier"):
        assert told(lanes[name]).seen == [(ticket, version) for version in (1, 2, 3)]
    act(engine, ticket)
    lanes["router"].drain()
    lanes["sla"].drain()
    assert told(lanes["notifier"]).seen[-1] == (ticket, 4)
    assert scalar(engine, "select count(*) from ledger.agenda where due_at is not null") == 0


def test_new_tickets_that_come_together_are_decided_together(engine: Engine) -> None:
    tickets = open_some(engine, 2)
    lanes = crew_of(engine, early=True)
    assert lanes["router"].run_once() == 2
    assert [number for number, version in told(lanes["notifier"]).seen if version == 1] == tickets
