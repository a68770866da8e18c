"""Agents, deliveries, quarantine, health."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.door import Door, personal_key

DAY_ONE, DAY_TWO = "2031-01-01T00:00:00Z", "2031-01-02T00:00:00Z"


def leave(from_at: str, to_at: str, **more: str) -> dict[str, Any]:
    return {"leave": [{"from_at": from_at, "to_at": to_at} | more]}


def agent(door: Door, who: str) -> dict[str, Any]:
    [found] = [one for one in door.get("/v1/agents").json["items"] if one["id"] == who]
    return dict(found)


def test_agents_are_listed_with_load_capacity_presence_and_skills(door: Door) -> None:
    ticket = door.assigned(subject="wifi down")
    shown = agent(door, ticket["assignee"])
    assert (shown["load"], shown["open"], shown["capacity"], shown["presence"]) == (1, 1, 8, "available")
    assert shown["groups"] == ["network"]
    assert agent(door, "zhao.lei")["skills"] == {"routing": 3}


def test_whoever_is_away_gets_no_tickets_until_back(door: Door) -> None:
    for who in ("wu.qian", "zheng.hao"):
        assert door.call("PATCH", f"/v1/agents/{who}", {"presence": "away"}, key="lead").json["presence"] == "away"
    door.settle()
    assert [door.assigned(subject="HIS 挂号慢")["assignee"] for _ in range(2)] == ["lin.xue"] * 2
    for who in ("wu.qian", "zheng.hao"):
        door.call("PATCH", f"/v1/agents/{who}", {"presence": "available"})
    door.settle()
    assert door.assigned(subject="HIS 挂号慢")["assignee"] in ("wu.qian", "zheng.hao")


def test_a_person_sets_their_own_presence_and_nobody_elses(door: Door) -> None:
    key = personal_key(door, "he.ping")
    assert door.call("PATCH", "/v1/agents/he.ping", {"presence": "offline"}, key=key).json["presence"] == "offline"
    assert door.call("PATCH", "/v1/agents/tang.wei", {"presence": "offline"}, key=key).status == 403
    assert door.call("PATCH", "/v1/agents/tang.wei", {"presence": "offline"}, key="integrator").status == 403
    door.call("PATCH", "/v1/agents/he.ping", {"presence": "available"}, key=key)


def test_somebody_who_takes_no_tickets_can_be_changed_too(door: Door) -> None:
    answer = door.call("PATCH", "/v1/agents/gao.yuan", leave(DAY_ONE, DAY_TWO, delegate="sun.li"))
    assert (answer.status, answer.json["leave"][0]["delegate"]) == (200, "sun.li")


@pytest.mark.parametrize(
    ("who", "patch", "status", "pointers"),
    [
        ("no.body", {"presence": "away"}, 404, []),
        ("%00", {"presence": "away"}, 404, []),
        ("li.na", {"presence": "asleep"}, 422, ["/presence"]),
        ("li.na", {"capacity": 99}, 422, ["/capacity"]),
        ("li.na", {"skills": {"wifi": 11}}, 422, ["/skills/wifi"]),
        ("li.na", leave("2031-01-01T00:00:00", DAY_TWO), 422, ["/leave/0/from_at"]),
        ("li.na", leave(DAY_TWO, DAY_ONE), 422, ["/leave/0/to_at"]),
        ("li.na", leave(DAY_ONE, "9999-12-31T23:59:59-12:00"), 422, ["/leave/0/to_at"]),
        ("li.na", leave(DAY_ONE, DAY_TWO, delegate="x"), 422, ["/leave/0/delegate"]),
    ],
)
def test_a_change_that_does_not_fit_is_refused(
    door: Door, who: str, patch: dict[str, Any], status: int, pointers: list[str]
) -> None:
    answer = door.call("PATCH", f"/v1/agents/{who}", patch)
    assert (answer.status, answer.pointers) == (status, pointers)


def test_deliveries_show_every_attempt_and_are_found_by_ticket_recipient_and_state(door: Door) -> None:
    ticket = door.assigned(subject="全院网络瘫痪")
    found = door.get(f"/v1/deliveries?ticket={ticket['number']}").json["items"]
    assert {(one["channel"], one["state"], one["recipient"]) for one in found} == {
        ("inbox", "sent", ticket["assignee"]),
        ("sms", "sent", ticket["assignee"]),
    }
    assert [attempt["outcome"] for one in found for attempt in one["attempts"]] == ["accepted", "accepted"]
    for query, count in (
        (f"ticket={ticket['id']}&recipient={ticket['assignee']}&state=sent", 2),
        (f"ticket={ticket['id']}&state=failed", 0),
        (f"ticket={ticket['id']}&recipient=somebody", 0),
    ):
        assert len(door.get(f"/v1/deliveries?{query}").json["items"]) == count
    first = door.get(f"/v1/deliveries?ticket={ticket['id']}&limit=1").json
    rest = door.get(f"/v1/deliveries?ticket={ticket['id']}&limit=1&cursor={first['next']}").json
    assert [one["id"] for one in first["items"] + rest["items"]] == [one["id"] for one in found]
    assert rest["next"] is None


@pytest.mark.parametrize(("query", "named"), [("ticket=x", "ticket"), ("state=lost", "state"), ("who=x", "who")])
def test_deliveries_refuse_queries_that_mean_nothing(door: Door, query: str, named: str) -> None:
    answer = door.get(f"/v1/deliveries?{query}")
    assert (answer.status, answer.pointers) == (400, [named])


def test_what_is_in_quarantine_is_listed_and_tried_again_on_request(door: Door) -> None:
    ticket = door.assigned()
    with door.database.begin() as connection:
        connection.exec_driver_sql(
            """update ledger.agenda set quarantined_at = ledger.now(), failures = 5, error = 'ValueError: no', due_at = null
            where service = 'router' and kind = 'ticket' and id = %s""",
            (int(ticket["id"]),),
        )
    [shown] = door.get("/v1/quarantine").json["items"]
    assert (shown["service"], shown["kind"], shown["item"], shown["error"]) == (
        "router", "ticket", ticket["id"], "ValueError: no",
    )  # fmt: skip
    assert door.call("POST", f"/v1/quarantine/{shown['id']}/retry", key="agent").status == 403
    assert door.call("POST", f"/v1/quarantine/{shown['id']}/retry").status == 202
    assert door.call("POST", f"/v1/quarantine/{shown['id']}/retry").status == 404
    door.settle()
    assert door.get("/v1/quarantine").json["items"] == []


@pytest.mark.parametrize(
    "item", ["x", "router:ticket:", "router:ticket:%D9%A3", "router:ticket:" + "9" * 30, "router:moon:1"]
)
def test_nothing_else_is_in_quarantine(door: Door, item: str) -> None:
    assert door.call("POST", f"/v1/quarantine/{item}/retry").status == 404


def test_health_readiness_and_metrics_need_no_key_and_everything_else_does(door: Door) -> None:
    assert door.get("/healthz", key=None).json == {"status": "ok"}
    assert door.get("/readyz", key=None).json["playbook_version"] == 1
    assert b"signalbox_tickets_total" in door.get("/metrics", key=None).body
    for path in ("/v1/tickets", "/v1/agents", "/v1/deliveries", "/v1/quarantine"):
        assert (door.get(path, key=None).status, door.get(path, key="wrong").status) == (401, 401)
        assert door.get(path, key="customer").status == 403


def test_time_cannot_be_moved_on_a_live_system(door: Door) -> None:
    assert door.call("POST", "/internal/advance", {}).status == 404
    assert door.get("/internal/idle").status == 404
