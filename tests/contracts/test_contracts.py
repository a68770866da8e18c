"""Wire formats against golden files: what was written once is read for ever, and no member is removed or changed.

A file holds an example with every member, one with only the required ones, and each member's schema. Members may be added with
a default; `python -m tests.contracts.samples` notes what is new. A file is never edited to make a test pass: that would forget
a promise somebody's data relies on.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine

from services.gateway.api.base import problem
from services.gateway.errors import Problem, unavailable
from shared.contracts import events as e
from shared.contracts import intake
from shared.contracts.envelope import Actor
from shared.contracts.strict import Fault, Unacceptable, decode
from shared.contracts.views import VIEWS
from shared.ledger.claim import events_after
from shared.ledger.kinds import SERVICES, WAKES
from shared.ticket.projection import evolve
from shared.ticket.state import Ticket
from tests.contracts.samples import GOLDEN, contract, full
from tests.support.ledger import engine_of, open_some

AT = datetime(2026, 3, 3, 2, 0, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2]


def golden(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / name).read_text())


def of_event(name: str) -> dict[str, Any]:
    return golden(f"events/{name}.v1.json")


def broken_promises(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What a reader or writer of the golden format would stumble over today."""
    found = []
    for name, member in then["members"].items():
        today = now["members"].get(name)
        if today is None:
            found.append(f"{name}: removed")
        elif not keeps(member["schema"], today["schema"]):
            found.append(f"{name}: changed from {member['schema']} to {today['schema']}")
        elif today["required"] and not member["required"]:
            found.append(f"{name}: required now")
    new = now["members"].keys() - then["members"].keys()
    found += [f"{name}: new and without a default" for name in new if now["members"][name]["required"]]
    return found


def keeps(then: Any, now: Any) -> bool:
    """Whether a schema still says what it said: nothing changed, and nested objects grew by members with a default at most."""
    if isinstance(then, dict) and isinstance(now, dict):
        grown, needed = {"properties", "required"}, set(then.get("required", ()))
        return (
            then.keys() | grown == now.keys() | grown
            and all(keeps(then[key], now[key]) for key in then.keys() - grown)
            and all(
                name in now.get("properties", {}) and keeps(member, now["properties"][name])
                for name, member in then.get("properties", {}).items()
            )
            and set(now.get("required", ())) == needed
        )
    if isinstance(then, list) and isinstance(now, list):
        return len(then) == len(now) and all(map(keeps, then, now))
    return bool(then == now)


ITEM = {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}}


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda item: item["properties"].update(b={"type": "boolean", "default": False}), True),
        (lambda item: item["properties"].update(b={"type": "boolean"}) or item["required"].append("b"), False),
        (lambda item: item["properties"].pop("a"), False),
        (lambda item: item["properties"].update(a={"type": "integer"}), False),
        (lambda item: item["required"].clear(), False),
        (lambda item: item.update(minProperties=2), False),
    ],
)
def test_a_nested_object_grows_by_members_with_a_default_and_in_no_other_way(
    change: Callable[[dict[str, Any]], object], kept: bool
) -> None:
    today = copy.deepcopy(ITEM)
    change(today["items"])  # type: ignore[arg-type]
    assert keeps(ITEM, today) is kept


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = engine_of(database_url)
    yield made
    made.dispose()


# ---- events ----------------------------------------------------------------------------------------------------------------


def test_every_event_type_has_a_golden_file_and_no_event_type_is_ever_taken_back() -> None:
    written = {path.name.removesuffix(".v1.json") for path in (GOLDEN / "events").glob("*.json")}
    assert written - e.CATALOGUE.keys() == set(), "event types were removed"
    assert e.CATALOGUE.keys() - written == set(), "new event types: run `python -m tests.contracts.samples`"
    assert e.topic_type("ticket.opened") == "io.signalbox.ticket.opened.v1"


@pytest.mark.parametrize("name", sorted(e.CATALOGUE))
def test_an_event_keeps_its_members(name: str) -> None:
    assert broken_promises(of_event(name), contract(e.CATALOGUE[name])) == []


@pytest.mark.parametrize("name", sorted(e.CATALOGUE))
def test_the_producer_writes_an_event_as_its_golden_file_has_it(name: str) -> None:
    there = of_event(name)
    for example in ("full", "least"):
        data = msgspec.convert(there[example], e.CATALOGUE[name])
        assert json.loads(msgspec.json.encode(data)) == there[example]


def test_every_subscriber_is_handed_each_event_as_its_golden_file_has_it(engine: Engine) -> None:
    (ticket,) = open_some(engine, 1)
    actor = msgspec.json.encode(Actor(kind="service", id="router")).decode()
    names = sorted(e.CATALOGUE)
    with engine.begin() as connection:
        for version, name in enumerate(names, start=2):
            connection.exec_driver_sql(
                """insert into ledger.event (kind, id, version, type, happened_at, recorded_at, actor, given, playbook,
                correlation, data) values ('ticket', %s, %s, %s, now(), now(), %s, false, 1, 'c', %s)""",
                (ticket, version, name, actor, json.dumps(of_event(name)["full"])),
            )
    with engine.connect() as connection:
        read = events_after(connection, "ticket", {ticket: 1})[ticket]
    assert [one.type for one in read] == names
    for one in read:
        assert type(one.data) is e.CATALOGUE[one.type]
        assert json.loads(msgspec.json.encode(one.data)) == of_event(one.type)["full"]


@pytest.mark.parametrize("name", sorted(e.CATALOGUE))
def test_a_ticket_takes_in_every_event_of_its_own_and_stays_writable(name: str) -> None:
    opened = e.TicketOpened(subject="x")
    from shared.ticket import projection

    ticket = projection.opened(7, opened, AT, 1)
    if name == "ticket.opened":
        return
    after = evolve(ticket, msgspec.convert(of_event(name)["full"], e.CATALOGUE[name]), AT, 2)
    assert after.version == 2
    assert msgspec.json.decode(msgspec.json.encode(after), type=Ticket) == after


def test_whoever_is_woken_is_a_service_and_every_event_says_whom_it_wakes() -> None:
    assert WAKES.keys() == e.CATALOGUE.keys()
    assert {service for services in WAKES.values() for service in services} <= set(SERVICES)


def test_a_reader_of_yesterday_ignores_a_member_that_was_added() -> None:
    data = of_event("ticket.assigned")["full"] | {"invented_tomorrow": 1}
    assert isinstance(msgspec.convert(data, e.TicketAssigned), e.TicketAssigned)


# ---- the judge of compatibility itself ----------------------------------------------------------------------------------------


def test_a_removed_a_changed_and_a_newly_required_member_are_each_found() -> None:
    class Was(msgspec.Struct, kw_only=True):
        a: int
        b: str = ""

    class Removed(msgspec.Struct, kw_only=True):
        a: int

    class Changed(msgspec.Struct, kw_only=True):
        a: int
        b: int = 0

    class Required(msgspec.Struct, kw_only=True):
        a: int
        b: str

    class Added(msgspec.Struct, kw_only=True):
        a: int
        b: str = ""
        c: str = ""

    class Demanding(msgspec.Struct, kw_only=True):
        a: int
        c: str
        b: str = ""

    then = contract(Was)
    assert broken_promises(then, contract(Removed)) == ["b: removed"]
    assert broken_promises(then, contract(Changed))[0].startswith("b: changed")
    assert broken_promises(then, contract(Required))[0].startswith("b: changed")  # its default is gone
    assert broken_promises(then, contract(Added)) == []
    assert broken_promises(then, contract(Demanding)) == ["c: new and without a default"]


# ---- intake, views, problems ---------------------------------------------------------------------------------------------------


def test_the_intake_message_keeps_its_members_and_both_examples_are_taken() -> None:
    there = golden("intake.json")
    assert broken_promises(there, contract(intake.TicketIn)) == []
    for example in ("full", "least"):
        taken = decode(json.dumps(there[example]).encode(), intake.TicketIn)
        intake.check(taken, AT)
        opened = json.loads(msgspec.json.encode(intake.opened(taken, "normal")))
        assert opened["subject"] == there[example]["subject"]
        assert opened.get("requester", {}) == there[example].get("requester", {})
    with pytest.raises(Unacceptable, match="unknown"):
        decode(json.dumps(there["least"] | {"invented": 1}).encode(), intake.TicketIn)


@pytest.mark.parametrize("view", sorted(VIEWS))
def test_a_view_keeps_its_columns_and_has_exactly_those_of_its_struct(engine: Engine, view: str) -> None:
    assert broken_promises(golden(f"views/{view}.json"), contract(VIEWS[view])) == []
    with engine.connect() as connection:
        described = connection.exec_driver_sql(f"select * from {view} limit 0")
        assert set(described.keys()) == set(full(VIEWS[view]))


PROBLEMS = {
    "invalid": Problem(
        422, "invalid", "/labels/impact: unknown value", errors=[Fault("/labels/impact", "unknown value")]
    ),
    "conflict": Problem(409, "not_assignee", "another person has it", extra={"ticket": {"id": "7", "version": 3}}),
    "unavailable": unavailable(),
}


@pytest.mark.parametrize("case", sorted(PROBLEMS))
def test_a_problem_document_is_as_its_golden_file_has_it(case: str) -> None:
    answer = problem(PROBLEMS[case])
    there = golden("problems.json")["documents"][case]
    assert json.loads(bytes(answer.body)) == there["body"]
    assert answer.status_code == there["status"]
    assert answer.media_type == "application/problem+json"
    assert {name: answer.headers[name] for name in there["headers"]} == there["headers"]


def test_no_code_of_a_problem_is_taken_back() -> None:
    used = set()
    for path in (ROOT / "services" / "gateway").rglob("*.py"):
        used |= set(re.findall(r'Problem\(\s*\d+,\s*"(\w+)"', path.read_text()))
    assert set(golden("problems.json")["codes"]) <= used
