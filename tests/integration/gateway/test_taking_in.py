"""Intake by HTTP: a 2xx means committed, once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from services.gateway.intake import Intake, Submission
from shared.contracts.envelope import Actor
from shared.contracts.intake import TicketIn
from tests.support.door import Door
from tests.support.wait import until


def count(door: Door, external_id: str) -> int:
    return int(door.scalar("select count(*) from ledger.ticket where external_id = %s", external_id))


def test_a_ticket_is_taken_with_its_id_number_status_and_version_and_is_there_at_once(door: Door) -> None:
    answer = door.post({"subject": "wifi down", "external_id": door.name(), "labels": {"impact": "high"}})
    assert answer.status == 202
    taken = answer.json
    assert taken == {"id": taken["id"], "number": f"T-{taken['id']}", "status": "new", "version": 1}
    assert answer.headers["location"] == f"/v1/tickets/{taken['id']}"
    shown = door.get(answer.headers["location"]).json
    assert (shown["subject"], shown["labels"]["impact"]["value"]) == ("wifi down", "high")
    assert door.get(f"/v1/tickets/{taken['number']}").json == shown


def test_the_same_external_id_with_the_same_body_answers_the_same_and_with_another_conflicts(door: Door) -> None:
    name = door.name()
    first = door.post({"external_id": name})
    assert door.post({"external_id": name}).json == first.json
    other = door.post({"external_id": name, "body": "more"})
    assert (other.status, other.json["id"]) == (409, first.json["id"])
    assert door.post({"external_id": name, "source": "phone"}).json["id"] != first.json["id"]
    assert count(door, name) == 2


def test_the_same_idempotency_key_answers_the_same_ticket_for_its_own_caller_only(door: Door) -> None:
    headers = {"Idempotency-Key": door.name("key")}
    first = door.post(headers=headers)
    again = door.post(headers=headers)
    other = door.post({"subject": "else"}, headers=headers)
    assert (again.status, again.json["id"]) == (202, first.json["id"])
    assert (other.status, other.json["id"]) == (409, first.json["id"])
    assert door.post(headers=headers, key="integrator").json["id"] != first.json["id"]


def test_members_in_another_order_or_left_out_at_their_defaults_are_the_same_body(door: Door) -> None:
    name = door.name()
    first = door.call("POST", "/v1/tickets", {"subject": "a", "source": "web", "external_id": name})
    again = door.call("POST", "/v1/tickets", {"external_id": name, "body": "", "source": "web", "subject": "a"})
    assert again.json == first.json


def test_of_many_at_once_with_one_key_there_is_one_ticket(door: Door) -> None:
    for headers, members in (
        ({"Idempotency-Key": door.name("key")}, {"subject": "at once"}),
        ({}, {"external_id": door.name()}),
    ):
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _, h=headers, m=members: door.post(m, headers=h), range(32)))
        assert {one.status for one in answers} == {202}
        assert len({one.json["id"] for one in answers}) == 1
    with ThreadPoolExecutor(16) as pool:
        headers = {"Idempotency-Key": door.name("key")}
        answers = list(pool.map(lambda n: door.post({"subject": f"other {n % 2}"}, headers=headers), range(32)))
    assert sorted(one.status for one in answers) == [202] * 16 + [409] * 16
    assert len({one.json["id"] for one in answers}) == 1


@pytest.mark.parametrize("by", ["idempotency", "external_id", "dedup_key"])
def test_a_second_intake_of_one_ticket_waits_for_the_first_and_finds_what_it_did(door: Door, by: str) -> None:
    intake, name = Intake(door.workers.deps), door.name()
    ticket = TicketIn(
        subject="twice",
        external_id=name if by == "external_id" else None,
        dedup_key=name if by == "dedup_key" else None,
    )
    one = Submission(ticket, Actor(kind="automation", id="a"), idempotency=(-7, name) if by == "idempotency" else None)
    with door.database.connect() as connection, ThreadPoolExecutor(1) as pool:
        _, [first] = intake.open_on(connection, [one])
        second = pool.submit(intake.open_many, [one])
        waiting = (
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        )
        until(lambda: second.done() or door.scalar(waiting), what="the second waits")
        assert not second.done()
        connection.commit()
        [again] = second.result(10)
    assert first.ticket is not None
    assert again.ticket is not None
    assert (first.new, again.new) == (True, False)
    if by == "dedup_key":
        assert again.ticket.merged_into == first.ticket.id
    else:
        assert again.ticket.id == first.ticket.id


def test_a_repeated_alarm_is_noted_on_the_ticket_that_is_open(door: Door) -> None:
    key = door.name("alarm")
    first = door.open(dedup_key=key, external_id=door.name())
    again = door.post({"dedup_key": key, "external_id": door.name(), "subject": "still"})
    assert (again.status, again.json["status"]) == (202, "merged")
    assert door.get(f"/v1/tickets/{again.json['id']}").json["merged_into"] == first
    assert [row["type"] for row in door.get(f"/v1/tickets/{first}/timeline").json["items"]].count("ticket.noted") == 1


def test_a_batch_answers_a_line_each_in_order_and_commits_the_good_ones(door: Door) -> None:
    one, two = door.name(), door.name()
    lines = [
        b'{"subject": "first", "external_id": "%s"}' % one.encode(),
        b'{"subject": ""}',
        b"not json",
        b'{"subject": "first", "external_id": "%s"}' % one.encode(),
        b"",
        b'{"subject": "other", "external_id": "%s"}' % one.encode(),
        b'{"subject": "labels", "labels": {"impact": "no such"}}',
        b'{"subject": "last", "external_id": "%s"}' % two.encode(),
    ]
    answer = door.call("POST", "/v1/tickets/batch", b"\n".join(lines), headers={"Content-Type": "application/x-ndjson"})
    assert (answer.status, answer.kind) == (200, "application/x-ndjson")
    outcomes = answer.lines()
    assert [one["status"] for one in outcomes] == [202, 422, 422, 202, 409, 422, 202]
    assert outcomes[0]["id"] == outcomes[3]["id"] == outcomes[4]["id"]
    assert [outcomes[n]["errors"][0]["pointer"] for n in (1, 2, 5)] == ["/subject", "", "/labels/impact"]
    assert (count(door, one), count(door, two)) == (1, 1)


def test_a_batch_of_ten_thousand_is_taken_and_a_longer_one_refused_whole(door: Door) -> None:
    source = door.name("bulk")
    line = [json.dumps({"subject": "wifi", "source": source, "external_id": str(n)}).encode() for n in range(10_001)]
    refused = door.call("POST", "/v1/tickets/batch", b"\n".join(line))
    assert refused.status == 413
    assert door.scalar("select count(*) from ledger.ticket where source = %s", source) == 0
    taken = door.call("POST", "/v1/tickets/batch", b"\n".join(line[:10_000]))
    assert {one["status"] for one in taken.lines()} == {202}
    assert len(taken.lines()) == door.scalar("select count(*) from ledger.ticket where source = %s", source) == 10_000
    with door.database.begin() as connection:  # nobody needs to route these
        for table in ("agenda", "event", "ticket"):
            ids = f"select id from ledger.ticket where source = '{source}'"
            connection.exec_driver_sql(f"delete from ledger.{table} where id in ({ids})")


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"subject": "  "}, "/subject"),
        ({"subject": "a" * 501}, "/subject"),
        ({"source": ""}, "/source"),
        ({"requester": {"id": "a", "mail": "x"}}, "/requester/mail"),
        ({"opened_at": "2999-01-01T00:00:00Z"}, "/opened_at"),
        ({"opened_at": "2026-01-01T00:00:00"}, "/opened_at"),
        ({"opened_at": "0001-01-01T00:00:00+14:00"}, "/opened_at"),
        ({"opened_at": "9999-12-31T23:59:59-12:00"}, "/opened_at"),
        ({"opened_at": "yesterday"}, "/opened_at"),
        ({"labels": {"impact": "enormous"}}, "/labels/impact"),
        ({"labels": {"colour": "red"}}, "/labels/colour"),
        ({"labels": {"a/b~c": "red"}}, "/labels/a~1b~0c"),
        ({"labels": {"impact": 1.5}}, "/labels/impact"),
        ({"fields": {"amount": "much"}}, "/fields/amount"),
        ({"fields": {"amount": True}}, "/fields/amount"),
        ({"fields": {"f": [{"x": "a\0b"}]}}, "/fields/f/0/x"),
        ({"urgent": True}, "/urgent"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(door: Door, members: dict[str, Any], pointer: str) -> None:
    answer = door.post(members)
    assert (answer.status, answer.pointers) == (422, [pointer])


def test_an_import_keeps_its_own_instant_however_long_ago(door: Door) -> None:
    ticket = door.open(opened_at="1971-06-01T08:00:00+08:00")
    door.settle()
    assert door.get(f"/v1/tickets/{ticket}").json["opened_at"] == "1971-06-01T00:00:00Z"
    assert door.scalar("select count(*) from ledger.agenda where quarantined_at is not null") == 0


def test_the_first_lane_is_given_at_intake(door: Door) -> None:
    lanes = {
        door.get(f"/v1/tickets/{door.open(**members)}").json["lane"]
        for members in ({"subject": "全院网络瘫痪"}, {"source": "monitoring"}, {})
    }
    assert lanes == {"urgent", "bulk", "normal"}
