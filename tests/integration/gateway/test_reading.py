"""What the gateway tells about tickets, and to whom."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.door import Door

ID_CARD, PHONE = "510101199001011234", "+8613912345678"


def test_a_list_is_read_page_by_page_newest_first_and_each_ticket_once(door: Door) -> None:
    source = door.name("pages")
    made = [door.open(source=source, external_id=str(n)) for n in range(7)]
    seen, cursor = [], ""
    while cursor is not None:
        page = door.get(f"/v1/tickets?source={source}&limit=3" + (f"&cursor={cursor}" if cursor else "")).json
        seen.append([one["id"] for one in page["items"]])
        cursor = page["next"]
    assert [len(ids) for ids in seen] == [3, 3, 1]
    assert [one for ids in seen for one in ids] == made[::-1]


def test_each_filter_finds_its_tickets_and_no_others(door: Door) -> None:
    source, name = door.name("filters"), door.name()
    one = door.assigned(subject="全院网络瘫痪 100%_sure", source=source, external_id=name)
    two = door.assigned(source=source)
    door.act(two["id"], "resolve")
    for query, found in (
        ("status=assigned", [one]),
        ("status=resolved", [two]),
        ("status=assigned,resolved", [two, one]),
        ("group=network", [one]),
        (f"assignee={one['assignee']}", [one]),
        ("priority=urgent", [one]),
        (f"external_id={name}", [one]),
        ("q=100%25_sure", [one]),
        ("q=100%25", [one]),
        ("q=10%25", []),
        (f"q={two['number']}", [two]),
    ):
        page = door.get(f"/v1/tickets?source={source}&{query}").json
        assert ([ticket["id"] for ticket in page["items"]], query) == ([ticket["id"] for ticket in found], query)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("cursor=!!", "cursor"),
        ("cursor=LTU", "cursor"),
        ("cursor=MV8w", "cursor"),
        ("cursor=" + "OTk5" * 300, "cursor"),
        ("cursor=%C3%A9", "cursor"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=-1", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("colour=red", "colour"),
        ("status=assigned,lost", "status"),
        ("q=a%00b", "q"),
        ("q=%ED%A0%80", "q"),
        ("group=%FF", "group"),
        ("group=a&group=b", "group"),
    ],
)
def test_a_query_that_means_nothing_is_refused_by_name(door: Door, query: str, named: str) -> None:
    answer = door.get(f"/v1/tickets?{query}")
    assert (answer.status, answer.pointers) == (400, [named])


@pytest.mark.parametrize(
    "ticket", ["0", "-1", "abc", "T-", "9" * 19, "9" * 5000, "%00", "%ED%A0%80", "1.0", "１２", "1 or 1=1"]
)
@pytest.mark.parametrize("rest", ["", "/timeline", "/explain"])
def test_an_id_that_is_none_is_not_found(door: Door, ticket: str, rest: str) -> None:
    answer = door.get(f"/v1/tickets/{ticket.replace(' ', '%20').replace('１２', '%EF%BC%91')}{rest}")
    assert (answer.status, answer.kind) == (404, "application/problem+json")


def test_a_timeline_has_every_event_with_actor_and_reason_in_order(door: Door) -> None:
    ticket = door.assigned(subject="全院网络瘫痪")
    rows = door.get(f"/v1/tickets/{ticket['id']}/timeline").json["items"]
    assert [row["version"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) == ticket["version"]
    assert [row["type"] for row in rows][:3] == ["ticket.opened", "ticket.classified", "ticket.assigned"]
    assert [row["actor"]["id"] for row in rows][:3] == ["operator", "router", "router"]
    assert [row["given"] for row in rows][:3] == [True, False, False]
    assert all(row["reason"] for row in rows[1:3])
    assert len({row["correlation"] for row in rows[:3]}) == 1


def test_a_correlation_id_of_the_caller_follows_the_ticket(door: Door) -> None:
    answer = door.post(headers={"X-Request-ID": "trace-me"})
    door.settle()
    rows = door.get(f"/v1/tickets/{answer.json['id']}/timeline").json["items"]
    assert {row["correlation"] for row in rows} == {"trace-me"}


def test_an_explanation_names_rules_candidates_clocks_and_deliveries(door: Door) -> None:
    ticket = door.assigned(subject="全院网络瘫痪")
    story = door.get(f"/v1/tickets/{ticket['id']}/explain").json
    assert "clinic-stands-still" in {one["rule"] for one in story["classification"][0]["reason"]["rules"]}
    assert story["assignment"][0]["reason"]["chosen"] == ticket["assignee"]
    assert {one["metric"] for one in story["sla"]["clocks"]} == {"first_response", "resolution"}
    assert {one["recipient"] for one in story["deliveries"]} == {ticket["assignee"]}
    assert [one["agent"] for one in story["assignments"]] == [ticket["assignee"]]


def test_a_clock_runs_on_between_two_readings(door: Door) -> None:
    ticket = door.assigned(subject="全院网络瘫痪")
    [one, *_], [two, *_] = ticket["clocks"], door.get(f"/v1/tickets/{ticket['id']}").json["clocks"]
    assert two["elapsed_seconds"] > one["elapsed_seconds"]
    assert two["remaining_seconds"] == pytest.approx(two["target_seconds"] - two["elapsed_seconds"])
    assert two["elapsed_seconds"] == round(two["elapsed_seconds"], 6)
    assert two["remaining_seconds"] == round(two["remaining_seconds"], 6)
    assert one["due_at"] == two["due_at"]


# ---- masks ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secret(door: Door) -> dict[str, Any]:
    """A ticket that has masked members in every place where a member can turn up."""
    requester = {"id": "p7", "phone": PHONE, "email": "p7@clinic.example"}
    alarm = door.name("alarm")
    ticket = door.assigned(fields={"id_card": ID_CARD, "clinic": "west"}, requester=requester, dedup_key=alarm)
    again = {"dedup_key": alarm, "external_id": door.name(), "fields": {"id_card": ID_CARD}, "requester": requester}
    assert door.post(again).json["status"] == "merged"
    door.act(ticket["id"], "set", fields={"id_card": ID_CARD[::-1]})
    door.act(ticket["id"], "set", fields={"id_card": ID_CARD})
    door.act(ticket["id"], "customer_reply", text="hm", actor={"kind": "customer", "id": "p7", "address": PHONE})
    door.act(ticket["id"], "resolve")
    door.settle()
    return ticket


def ways_out(door: Door, ticket: str, key: str) -> dict[str, str]:
    """Every answer that is about one ticket."""
    answers = {
        path: door.get(path, key=key)
        for path in (
            f"/v1/tickets/{ticket}",
            f"/v1/tickets/{ticket}/timeline",
            f"/v1/tickets/{ticket}/explain",
            "/v1/tickets?limit=500",
            f"/v1/deliveries?ticket={ticket}",
        )
    }
    answers["200"] = door.act(ticket, "note", text="x", key=key)
    answers["409"] = door.act(ticket, "note", text="x", key=key, expected_version=1)
    assert {name: one.status for name, one in answers.items() if one.status != 200} == {"409": 409}
    return {name: json.dumps(one.json, ensure_ascii=False) for name, one in answers.items()}


@pytest.mark.parametrize(
    ("key", "reads_card", "reads_phone"),
    [("door-operator", True, True), ("lead", False, True), ("agent", False, True), ("integrator", False, False)],
)
def test_no_way_out_shows_what_a_key_may_not_read(
    door: Door, secret: dict[str, Any], key: str, reads_card: bool, reads_phone: bool
) -> None:
    for name, text in ways_out(door, secret["id"], key).items():
        for value, allowed in ((ID_CARD, reads_card), (ID_CARD[::-1], reads_card), (PHONE, reads_phone)):
            assert allowed or value not in text, (name, value)
    shown = door.get(f"/v1/tickets/{secret['id']}", key=key).json
    assert shown["fields"]["id_card"] == (ID_CARD if reads_card else "*" * 14 + "1234")
    assert shown["requester"]["phone"] == (PHONE if reads_phone else "*" * 10 + "5678")
    assert shown["fields"]["clinic"] == "west"
