"""Policies on a timeline, beyond what the peers' cases show: rounds, maintenance, empty steps, rules of people."""

from __future__ import annotations

from typing import Any

import pytest

from services.control.evaluate.escalation import evaluate

TWO_STEPS = {
    "steps": [{"delay_seconds": 600, "targets": ["a"]}, {"delay_seconds": 1200, "targets": ["b"]}],
    "repeat": 0,
}


def event(minute: int, kind: str, **more: Any) -> dict[str, Any]:
    return {"at": clock(minute), "type": kind, **more}


def clock(minute: int) -> str:
    return f"2024-05-15T{8 + minute // 60:02d}:{minute % 60:02d}:00+00:00"


def told(policy: dict[str, Any], events: list[dict[str, Any]], until: int = 120) -> list[tuple[str, str]]:
    answered = evaluate({"policy": policy, "events": events, "until": clock(until)})
    return [(one["at"][11:16], one["user"]) for one in answered["expected_notifications"]]


CASES: list[tuple[str, dict[str, Any], list[dict[str, Any]], list[tuple[str, str]]]] = [
    ("the next step comes after the delay", TWO_STEPS, [event(0, "created")], [("08:00", "a"), ("08:10", "b")]),
    ("created acknowledged tells nobody", TWO_STEPS, [event(0, "created", acknowledged=True)], []),
    (
        "escalating an acknowledged alert goes on from where it stopped",
        TWO_STEPS,
        [event(0, "created"), event(1, "ack", user="a"), event(30, "escalate")],
        [("08:00", "a"), ("08:30", "b")],
    ),
    (
        "an acknowledgement at the very instant of a step is in time",
        TWO_STEPS,
        [event(0, "created"), event(10, "ack", user="a")],
        [("08:00", "a")],
    ),
    (
        "nothing restarts a resolved alert",
        TWO_STEPS,
        [event(0, "created"), event(1, "resolve"), event(2, "escalate"), event(3, "policy", policy=TWO_STEPS)],
        [("08:00", "a")],
    ),
    (
        "escalating from the last step goes back to the first",
        TWO_STEPS,
        [event(0, "created"), event(11, "escalate")],
        [("08:00", "a"), ("08:10", "b"), ("08:11", "a"), ("08:21", "b")],
    ),
    (
        "repeat 1 goes round once more",
        {**TWO_STEPS, "repeat": 1},
        [event(0, "created")],
        [("08:00", "a"), ("08:10", "b"), ("08:30", "a"), ("08:40", "b")],
    ),
    (
        "repeat -1 goes on until somebody acknowledges",
        {"steps": [{"delay_seconds": 600, "targets": ["a"]}], "repeat": -1},
        [event(0, "created"), event(25, "ack", user="a")],
        [("08:00", "a"), ("08:10", "a"), ("08:20", "a")],
    ),
    (
        "an alert created in maintenance is told when it ends",
        TWO_STEPS,
        [event(0, "maintenance_start"), event(1, "created"), event(40, "maintenance_end")],
        [("08:40", "a"), ("08:50", "b")],
    ),
    (
        "a step due in maintenance comes when it ends",
        TWO_STEPS,
        [event(0, "created"), event(5, "maintenance_start"), event(40, "maintenance_end")],
        [("08:00", "a"), ("08:40", "b")],
    ),
    (
        "an acknowledgement in maintenance counts",
        TWO_STEPS,
        [event(0, "maintenance_start"), event(1, "created"), event(2, "ack", user="a"), event(40, "maintenance_end")],
        [],
    ),
    (
        "a step with nobody on call is passed at once",
        {"steps": [{"delay_seconds": 600, "targets": ["duty"]}, {"delay_seconds": 600, "targets": ["b"]}], "repeat": 0},
        [event(0, "created", on_call={"duty": []})],
        [("08:00", "b")],
    ),
    (
        "a policy that never finds anybody ends, also with repeat for ever",
        {"steps": [{"delay_seconds": 60, "targets": ["duty"]}], "repeat": -1},
        [event(0, "created", on_call={"duty": []})],
        [],
    ),
    (
        "somebody named twice in a step is told once",
        {"steps": [{"delay_seconds": 600, "targets": ["a", "duty", "a"]}], "repeat": 0},
        [event(0, "created", on_call={"duty": ["a"]})],
        [("08:00", "a")],
    ),
    (
        "on a multi-ack step the chain goes on for the others",
        {
            "steps": [
                {"delay_seconds": 600, "targets": ["a", "b"], "multi_ack": True},
                {"delay_seconds": 600, "targets": ["c"]},
            ],
            "repeat": 0,
        },
        [event(0, "created"), event(1, "ack", user="a")],
        [("08:00", "a"), ("08:00", "b"), ("08:10", "c")],
    ),
    (
        "a second created of an open alert is the same alert",
        TWO_STEPS,
        [event(0, "created", alert="x"), event(5, "created", alert="x")],
        [("08:00", "a"), ("08:10", "b")],
    ),
    ("a policy without steps tells nobody", {"steps": [], "repeat": 0}, [event(0, "created")], []),
]


@pytest.mark.parametrize(
    ("policy", "events", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_policy_on_a_timeline(
    policy: dict[str, Any], events: list[dict[str, Any]], expected: list[tuple[str, str]]
) -> None:
    assert sorted(told(policy, events)) == sorted(expected)


def test_a_new_cycle_of_a_person_replaces_their_earlier_one() -> None:
    policy = {
        "steps": [{"delay_seconds": 600, "targets": ["a"]}, {"delay_seconds": 6000, "targets": ["a"]}],
        "repeat": 0,
        "user_rules": {"a": [{"delay_seconds": 0, "channel": "app"}, {"delay_seconds": 1800, "channel": "sms"}]},
    }
    assert told(policy, [event(0, "created")]) == [("08:00", "a"), ("08:10", "a"), ("08:40", "a")]


def test_rules_held_back_by_maintenance_are_sent_once_when_it_ends() -> None:
    rules = [{"delay_seconds": seconds, "channel": "sms"} for seconds in (0, 600, 1200)]
    policy = {"steps": [{"delay_seconds": 6000, "targets": ["a"]}], "repeat": 0, "user_rules": {"a": rules}}
    events = [event(0, "created"), event(5, "maintenance_start"), event(40, "maintenance_end")]
    assert told(policy, events) == [("08:00", "a"), ("08:40", "a")]
