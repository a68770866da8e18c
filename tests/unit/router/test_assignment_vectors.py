"""What other systems' tests say about assignment, answered by the router."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from services.control.evaluate.assignment import evaluate

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "assignment.json").read_text())["vectors"]
SETS = frozenset({"queue_members_after", "assigned", "not_assigned"})


def blank(value: Any) -> Any:
    """The vector without its answers: what an evaluator is really given."""
    if isinstance(value, dict):
        return {name: blank(inner) for name, inner in value.items() if not name.startswith("expected")}
    return [blank(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_the_router_assigns_as_the_vector_says(vector: dict[str, Any]) -> None:
    answer = evaluate(blank(copy.deepcopy(vector)))["expected"]
    for name, expected in vector["expected"].items():
        if name in SETS:
            assert set(answer[name]) == set(expected)
        elif name == "agents_any_of":
            assert all(given in any_of for given, any_of in zip(answer["agents"], expected, strict=True))
        else:
            assert answer[name] == expected, name


def test_the_answer_keeps_the_order_of_what_was_asked() -> None:
    vector = VECTORS[0]
    assert list(evaluate(vector)) == list(vector)
    assert list(evaluate(vector)["expected"])[: len(vector["expected"])] == list(vector["expected"])


def asked(**members: Any) -> dict[str, Any]:
    found: dict[str, Any] = evaluate({"id": "own", "kind": "assignment", **members})["expected"]
    return found


def people(*ids: str, **each: Any) -> list[dict[str, Any]]:
    return [{"id": one, "status": "online", **each} for one in ids]


def test_those_passed_over_keep_their_place() -> None:
    agents = people("a", "b", "c")
    agents[0]["status"] = "busy"
    found = asked(
        strategy="round_robin", agents=agents, queue=["a", "b", "c"],
        calls=[{"allowed": ["a", "b", "c"]}, {"allowed": ["b"]}, {"allowed": ["a", "b", "c"]}],
    )  # fmt: skip
    assert found["agents"] == ["b", "b", "c"]
    assert found["queue_after"] == ["a", "b", "c"]


def test_a_queue_of_strangers_is_that_of_the_agents_again() -> None:
    found = asked(strategy="round_robin", agents=people("a", "b"), queue=["x", "b"], calls=[{"allowed": ["a", "b"]}])
    assert set(found["queue_members_after"]) == {"a", "b"}
    assert found["agents"] == ["b"]


def test_ties_go_to_list_order_whoever_had_something_last() -> None:
    agents = people("a", "b", open_tickets=1)
    agents[0]["last_assigned_at"] = "2024-05-15T11:59:00+00:00"
    assert asked(strategy="balanced", agents=agents, calls=[{"allowed": ["a", "b"]}])["agents"] == ["a"]


def test_a_rate_window_moves_with_the_calls() -> None:
    calls = [{"allowed": ["a"], "at": f"2024-05-15T1{hour}:{minute}:00+00:00"} for hour, minute in
             ((0, "00"), (0, "30"), (0, "59"), (1, "00"), (1, "29"), (1, "30"))]  # fmt: skip
    policy = {"rate_limit": {"limit": 2, "window_seconds": 3600}}
    found = asked(strategy="round_robin", agents=people("a"), queue=["a"], policy=policy, calls=calls)
    assert found["agents"] == ["a", "a", None, "a", None, "a"]


def test_tickets_by_who_waited_longest() -> None:
    tickets = [
        {"id": "old", "status": "open", "created_at": "2024-05-15T08:00:00+00:00", "last_activity_at": "2024-05-15T11:00:00+00:00"},
        {"id": "new", "status": "open", "created_at": "2024-05-15T09:00:00+00:00", "last_activity_at": "2024-05-15T09:30:00+00:00"},
        {"id": "done", "status": "resolved", "created_at": "2024-05-15T07:00:00+00:00"},
        {"id": "had", "status": "open", "assignee": "b", "created_at": "2024-05-15T07:00:00+00:00"},
    ]  # fmt: skip
    policy = {"batch_limit": 1, "ticket_order": "longest_waiting"}
    found = asked(strategy="round_robin", agents=people("a"), queue=["a"], policy=policy, tickets=tickets)
    assert found["assignments"] == {"old": None, "new": "a", "done": None, "had": "b"}


def test_a_field_names_the_person_and_nobody_else_steps_in() -> None:
    agents = people("a", "b")
    agents[1]["status"] = "offline"
    tickets = [{"id": one, "status": "open", "created_at": "2024-05-15T08:00:00+00:00", "owner": owner}
               for one, owner in (("t1", "a"), ("t2", "b"), ("t3", "zed"), ("t4", None))]  # fmt: skip
    found = asked(strategy="by_field", agents=agents, policy={"field": "owner"}, tickets=tickets)
    assert found["assignments"] == {"t1": "a", "t2": None, "t3": None, "t4": None}


@pytest.mark.parametrize(
    "condition",
    [
        {"field": "priority", "value": "high"},
        {"priority": "high"},
        "priority == 'high'",
        [{"priority": ["high", "top"]}],
    ],
)
def test_only_tickets_that_fulfil_the_condition_are_assigned(condition: Any) -> None:
    tickets = [
        {"id": one, "status": "open", "priority": one, "created_at": "2024-05-15T08:00:00+00:00"}
        for one in ("high", "low")
    ]
    found = asked(
        strategy="round_robin", agents=people("a"), queue=["a"], policy={"condition": condition}, tickets=tickets
    )
    assert (found["assigned"], found["not_assigned"]) == (["high"], ["low"])


def test_whoever_had_something_lately_rests_where_the_policy_says_so() -> None:
    agents = people("a", "b")
    agents[0]["last_assigned_at"], agents[1]["last_assigned_at"] = (
        "2024-05-14T12:00:00+00:00",
        "2024-05-04T12:00:00+00:00",
    )
    policy = {"min_recently_assigned_days": 10}
    found = asked(
        strategy="least_recently_assigned", agents=agents, policy=policy, now="2024-05-15T12:00:00+00:00",
        calls=[{"allowed": ["a", "b"]}, {"allowed": ["a", "b"]}],
    )  # fmt: skip
    assert found["agents"] == ["b", None]


def test_weights_share_out_the_turns() -> None:
    agents = people("a", "b", "c")
    for one, weight in zip(agents, (1, 2, 3), strict=True):
        one["weight"] = weight
    found = asked(strategy="weighted_round_robin", agents=agents, calls=[{"allowed": ["a", "b", "c"]}] * 60)
    assert found["counts"] == {"a": 10, "b": 20, "c": 30}
