"""People's actions over HTTP: decided under the ticket's lock, refused with the state that refuses them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.door import Door, personal_key


def test_of_two_people_who_accept_at_once_one_gets_200_and_one_409_with_the_state(door: Door) -> None:
    keys = [personal_key(door, person) for person in ("li.na", "wang.fang")]
    for _ in range(10):
        ticket = door.open()  # nobody has it yet
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda key, t=ticket: door.act(t, "accept", key=key), keys))
        assert sorted(one.status for one in answers) == [200, 409]
        won, lost = sorted(answers, key=lambda one: one.status)
        assert lost.kind == "application/problem+json"
        assert lost.json["ticket"] == won.json
        assert won.json["status"] == "in_progress"
        assert won.json["assignee"] in ("li.na", "wang.fang")


def test_repeating_an_action_answers_its_person_the_same_version_and_others_409(door: Door) -> None:
    ticket = door.assigned()
    person = {"kind": "person", "id": ticket["assignee"]}
    first = door.act(ticket["id"], "accept", actor=person)
    again = door.act(ticket["id"], "accept", actor=person)
    assert (first.status, again.status) == (200, 200)
    assert again.json["version"] == first.json["version"]
    other = door.act(ticket["id"], "accept", actor={"kind": "person", "id": "gao.yuan"})
    assert (other.status, other.json["ticket"]["assignee"]) == (409, ticket["assignee"])


def test_an_action_with_the_version_it_saw_is_refused_once_the_ticket_moved_on(door: Door) -> None:
    ticket = door.assigned()
    seen = ticket["version"]
    assert door.act(ticket["id"], "note", text="one", expected_version=seen).status == 200
    late = door.act(ticket["id"], "note", text="two", expected_version=seen)
    assert (late.status, late.json["ticket"]["version"]) == (409, seen + 1)
    texts = [row["data"].get("text") for row in door.get(f"/v1/tickets/{ticket['id']}/timeline").json["items"]]
    assert "two" not in texts


def test_a_personal_key_acts_as_its_person_and_a_key_that_acts_for_others_is_recorded_too(door: Door) -> None:
    ticket = door.open()
    door.act(ticket, "note", text="mine", key=personal_key(door, "li.na"))
    door.act(ticket, "customer_reply", text="yours", actor={"kind": "customer", "id": "c1", "address": "c1@x.example"})
    door.act(ticket, "note", text="the key's own")
    actors = [
        row["actor"]
        for row in door.get(f"/v1/tickets/{ticket}/timeline").json["items"]
        if row["type"] in ("ticket.noted", "ticket.replied")
    ]
    operator = f"key-{door.scalar('select id from access.api_key where name = %s', 'operator')}"
    assert actors == [
        {"kind": "person", "id": "li.na"},
        {"kind": "customer", "id": "c1", "address": "c1@x.example", "via": operator},
        {"kind": "automation", "id": "operator", "via": operator},
    ]


@pytest.mark.parametrize(
    ("key", "members", "status"),
    [
        ("agent", {"action": "note", "text": "x", "actor": {"kind": "person", "id": "li.na"}}, 403),
        ("integrator", {"action": "accept"}, 403),
        ("customer", {"action": "resolve"}, 403),
        ("nobody's", {"action": "note", "text": "x"}, 401),
    ],
)
def test_who_may_not_do_something_is_told_so(door: Door, key: str, members: dict[str, Any], status: int) -> None:
    answer = door.call("POST", f"/v1/tickets/{door.open()}/actions", members, key=key)
    assert (answer.status, answer.kind) == (status, "application/problem+json")


@pytest.mark.parametrize(
    ("members", "status", "pointers"),
    [
        ({"action": "dance"}, 422, ["/action"]),
        ({}, 422, ["/action"]),
        ({"action": "note"}, 422, ["/text"]),
        ({"action": "note", "text": "x", "colour": 1}, 422, ["/colour"]),
        ({"action": "note", "text": "x", "actor": {"kind": "person", "id": "a", "via": "b"}}, 422, ["/actor/via"]),
        ({"action": "note", "text": "x", "actor": {"kind": "god", "id": "a"}}, 422, ["/actor/kind"]),
        ({"action": "note", "text": "x", "actor": {"kind": "person", "id": ""}}, 422, ["/actor/id"]),
        ({"action": "set", "labels": {"impact": "enormous"}}, 422, ["/labels/impact"]),
        ({"action": "set", "fields": {"amount": "much"}}, 422, ["/fields/amount"]),
        ({"action": "set", "priority": "sky-high"}, 422, []),
        ({"action": "transfer", "group": "no such"}, 422, []),
        ({"action": "transfer", "agent": "no.body"}, 422, []),
        ({"action": "transfer"}, 422, []),
        ({"action": "rate", "score": 11}, 422, []),
        ({"action": "rate", "score": 5}, 409, []),
        ({"action": "merge", "into": "x"}, 422, []),
        ({"action": "complete_node", "node": "no such"}, 409, []),
        ({"action": "acknowledge"}, 409, []),
        ({"action": "reopen"}, 409, []),
    ],
)
def test_what_cannot_be_done_is_a_problem(
    door: Door, members: dict[str, Any], status: int, pointers: list[str]
) -> None:
    answer = door.call("POST", f"/v1/tickets/{door.open()}/actions", members)
    assert (answer.status, answer.pointers) == (status, pointers)


def test_the_whole_life_of_a_ticket_through_actions(door: Door) -> None:
    ticket = door.assigned()
    who = {"kind": "person", "id": ticket["assignee"]}
    seen = [
        door.act(ticket["id"], name, **members).json["status"]
        for name, members in (
            ("accept", {"actor": who}),
            ("reply", {"text": "on it", "actor": who}),
            ("pause", {"reason": "waits for a part"}),
            ("customer_reply", {"text": "any news?", "actor": {"kind": "customer", "id": "c"}}),
            ("resolve", {}),
            ("rate", {"score": 9}),
            ("reopen", {"reason": "again"}),
            ("resolve", {}),
            ("close", {}),
        )
    ]
    assert seen == [
        "in_progress", "in_progress", "pending", "in_progress", "resolved", "resolved", "new", "resolved", "closed"
    ]  # fmt: skip
    assert door.act(ticket["id"], "note", text="after all").status == 200
    assert door.act(ticket["id"], "transfer", group="desk").status == 409


def test_nobody_can_act_on_a_ticket_that_is_not_there(door: Door) -> None:
    assert door.act("999999999999", "note", text="x").status == 404
