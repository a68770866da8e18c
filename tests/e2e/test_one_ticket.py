"""One ticket through all services on a virtual clock: real PostgreSQL, the real handlers, a null sender."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.control import platform, publish
from services.control.replay.engine import Engine
from services.gateway import queries
from services.gateway.actions import Outcome, act
from services.gateway.intake import Answer, Intake, Submission
from shared.access.principals import SYSTEM
from shared.contracts.envelope import Actor
from shared.contracts.intake import RequesterIn, TicketIn
from shared.ledger.invariants import INVARIANTS, violations
from shared.runtime.settings import Settings
from shared.ticket import commands as c

START = datetime(2026, 3, 3, 2, 0, tzinfo=UTC)  # a Tuesday, ten in the morning in Shanghai
ASKING = RequesterIn(id="n1", name="护士", email="n1@clinic.example")


class Desk:
    """A service desk with the shipped playbook."""

    def __init__(self, database_url: str) -> None:
        settings = replace(Settings.from_environment({}), database_url=database_url, redis_url=None)
        self.database = platform.engine(settings, "test")
        self.deps = platform.deps(settings, self.database, fresh=True)
        self.engine = Engine(self.deps, self.database)
        self.engine.start_at(START)
        self.now = START
        with self.database.connect() as connection:
            checked = publish.load("selected", publish.years_around(START))
            publish.publish(self.deps, connection, checked.playbook, by="test")
        self.engine.settle()

    def open(self, **members: Any) -> Answer:
        ticket = TicketIn(**{"subject": "打印机不出纸", "source": "web", "requester": ASKING} | members)
        answer = Intake(self.deps).open_many([Submission(ticket, Actor(kind="customer", id="n1"))])[0]
        self.engine.move_to(self.now)
        return answer

    def act(self, ticket_id: int, command: Any, person: str) -> Outcome:
        with self.database.connect() as connection:
            outcome = act(self.deps, connection, ticket_id, command, Actor(kind="person", id=person), "test")
        self.engine.move_to(self.now)
        return outcome

    def wait(self, **length: int) -> None:
        self.now += timedelta(**length)
        self.engine.run_until(self.now)

    def ticket(self, ticket_id: int) -> dict[str, Any]:
        with self.database.connect() as connection:
            return queries.ticket(self.deps, connection, ticket_id, SYSTEM)

    def types(self, ticket_id: int) -> list[str]:
        with self.database.connect() as connection:
            return [row["type"] for row in queries.timeline(self.deps, connection, ticket_id, SYSTEM)]

    def explain(self, ticket_id: int) -> dict[str, Any]:
        with self.database.connect() as connection:
            return queries.explain(self.deps, connection, ticket_id, SYSTEM)


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    made = Desk(database_url)
    yield made
    with made.database.connect() as connection:
        broken = {one.name: rows for one in INVARIANTS if (rows := violations(connection, one))}
    made.database.dispose()
    assert broken == {}


def test_an_urgent_ticket_is_classified_assigned_timed_and_announced_with_reasons(desk: Desk) -> None:
    opened = desk.open(subject="全院网络瘫痪")
    assert opened.ticket is not None
    ticket = desk.ticket(opened.ticket.id)
    assert (ticket["status"], ticket["priority"], ticket["group"], ticket["lane"]) == (
        "assigned",
        "urgent",
        "network",
        "urgent",
    )
    due = {clock["metric"]: clock["due_at"] - START for clock in ticket["clocks"]}
    assert due == {"first_response": timedelta(minutes=15), "resolution": timedelta(hours=2)}
    story = desk.explain(opened.ticket.id)
    assert {one["rule"] for one in story["classification"][0]["reason"]["rules"]} >= {"network", "clinic-stands-still"}
    assert story["assignment"][0]["reason"]["chosen"] == ticket["assignee"]
    assert {(one["channel"], one["state"]) for one in story["deliveries"]} == {("inbox", "sent"), ("sms", "sent")}


def test_of_two_people_who_accept_one_succeeds_and_a_repeat_changes_nothing(desk: Desk) -> None:
    opened = desk.open()
    assert opened.ticket is not None
    owner = desk.ticket(opened.ticket.id)["assignee"]
    assert desk.act(opened.ticket.id, c.Accept(), owner).refused is None
    version = desk.ticket(opened.ticket.id)["version"]
    assert desk.act(opened.ticket.id, c.Accept(), owner).refused is None
    assert desk.ticket(opened.ticket.id)["version"] == version
    refused = desk.act(opened.ticket.id, c.Accept(), "li.na").refused
    assert refused is not None
    assert refused.code == "not_assignee"


def test_a_ticket_that_nobody_accepts_goes_up_the_chain_and_misses_its_deadline_once(desk: Desk) -> None:
    opened = desk.open()
    assert opened.ticket is not None
    desk.wait(hours=5)
    types = desk.types(opened.ticket.id)
    assert types.count("node.stalled") == 1
    assert types.count("sla.warned") == 1
    assert types.count("sla.breached") == 1
    assert types.index("escalation.stepped") > types.index("escalation.raised")
    first = next(clock for clock in desk.ticket(opened.ticket.id)["clocks"] if clock["metric"] == "first_response")
    assert first["breached_at"] == first["due_at"] == START + timedelta(hours=2)


def test_an_answer_in_time_and_a_resolution_end_the_clocks_the_chains_and_the_load(desk: Desk) -> None:
    opened = desk.open()
    assert opened.ticket is not None
    owner = desk.ticket(opened.ticket.id)["assignee"]
    desk.wait(minutes=10)
    desk.act(opened.ticket.id, c.Accept(), owner)
    desk.act(opened.ticket.id, c.Reply(text="在处理"), owner)
    desk.wait(hours=1)
    desk.act(opened.ticket.id, c.Resolve(), owner)
    desk.wait(hours=48)
    types = desk.types(opened.ticket.id)
    assert types.count("sla.met") == 2
    assert not {"sla.breached", "sla.warned", "escalation.raised"} & set(types)
    with desk.database.connect() as connection:
        assert (
            connection.exec_driver_sql("select open_count from router.load where agent = %s", (owner,)).scalar_one()
            == 0
        )


def test_a_waiting_ticket_is_given_out_when_somebody_is_free_again(desk: Desk) -> None:
    ids = [answer.ticket.id for _ in range(26) if (answer := desk.open(subject="wifi down")).ticket]
    with desk.database.connect() as connection:
        waiting = connection.exec_driver_sql("select ticket_id from router.waiting order by queued_at").scalars().all()
    assert len(ids) == 26
    held = [number for number in ids if desk.ticket(number)["assignee"] in ("zhao.lei", "huang.bo", "xu.kai")]
    assert len(held) == 24  # eight each, never more
    assert len(waiting) == 2
    for number in held[:2]:
        desk.act(number, c.Resolve(), desk.ticket(number)["assignee"])
    for number in waiting[:2]:
        assert desk.ticket(number)["status"] == "assigned"


def test_the_same_external_id_is_one_ticket_and_another_body_is_a_conflict(desk: Desk) -> None:
    first = desk.open(external_id="x-1")
    again = desk.open(external_id="x-1")
    other = desk.open(external_id="x-1", body="different")
    assert first.ticket is not None
    assert again.ticket is not None
    assert (first.new, again.new, again.ticket.id) == (True, False, first.ticket.id)
    assert other.conflict
