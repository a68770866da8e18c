"""What other systems say about their own schedules and policies, answered by ours: the vectors of kinds oncall and escalation."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from services.control.evaluate import escalation, oncall

EVALUATE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "oncall": oncall.evaluate,
    "escalation": escalation.evaluate,
}
VECTORS = [
    vector
    for kind in EVALUATE
    for vector in json.loads((Path(__file__).parents[2] / "vectors" / f"{kind}.json").read_text())["vectors"]
]
OURS = [vector for vector in VECTORS if "semantics" not in vector]
THEIRS = [vector for vector in VECTORS if "semantics" in vector]
UNORDERED = ("expected_on_call", "expected_shifts", "expected_notifications")


def without_answers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_answers(one) for key, one in value.items() if not key.startswith("expected")}
    return [without_answers(one) for one in value] if isinstance(value, list) else value


def plain(value: Any, name: str = "") -> Any:
    """The value with instants as instants and lists without order sorted."""
    if isinstance(value, dict):
        return {key: plain(one, key) for key, one in value.items()}
    if isinstance(value, list):
        found = [plain(one) for one in value]
        return sorted(found, key=repr) if name in UNORDERED else found
    if isinstance(value, str) and value[4:5] == "-" and "T" in value:
        return datetime.fromisoformat(value).timestamp()
    return value


def only_known(answered: Any, vector: Any) -> Any:
    """The answer cut to the members the vector holds, since an evaluator may say more."""
    if isinstance(vector, dict) and isinstance(answered, dict):
        return {key: only_known(answered.get(key), one) for key, one in vector.items()}
    if isinstance(vector, list) and isinstance(answered, list) and len(vector) == len(answered):
        return [only_known(one, two) for one, two in zip(answered, vector, strict=True)]
    return answered


@pytest.mark.parametrize("vector", OURS, ids=lambda vector: vector["id"])
def test_a_case_is_answered_as_its_peer_answers_it(vector: dict[str, Any]) -> None:
    answered = EVALUATE[vector["kind"]](without_answers(vector))
    assert only_known(plain(answered), plain(vector)) == plain(vector)


def on_call_days(answered: dict[str, Any]) -> list[list[str]]:
    return [check["expected_on_call"] for check in answered["checks"]]


NEUTRAL: dict[str, Callable[[dict[str, Any]], Any]] = {
    # The peer sends one message for all overdue rules; each rule has its own instant here, however late the engine looks.
    "escalation/goalert/dedup-late-engine#1": lambda answered: (
        [one["at"] for one in answered["expected_notifications"]]
        == ["2024-05-15T08:01:00+00:00", "2024-05-15T08:02:00+00:00"]
    ),
    # The peer waits five seconds between any two steps; a step without a delay of its own has none here.
    "escalation/grafana_oncall/step-inactive-user#1": lambda answered: (
        answered["expected"]
        == {"next_step_in_seconds": 0, "stop": False, "paused": False, "restart": False, "notified": ["u1"]}
    ),
    "escalation/grafana_oncall/step-notify-all#1": lambda answered: answered["expected"]["next_step_in_seconds"] == 0,
    "escalation/grafana_oncall/step-resolve#1": lambda answered: (
        answered["expected"]["stop"] and answered["expected"]["next_step_in_seconds"] is None
    ),
    "escalation/grafana_oncall/step-schedule#1": lambda answered: answered["expected"]["notified"] == ["u1"],
    "escalation/grafana_oncall/step-schedule-empty#1": lambda answered: answered["expected"]["logged"] == "failed",
    "escalation/grafana_oncall/step-wait#1": lambda answered: answered["expected"]["next_step_in_seconds"] == 900,
    # The peer counts chosen days; `interval` counts days here, and the days it leaves are filtered by `by_day`.
    "oncall/grafana_oncall/rolling-interval-by-day#1": lambda answered: (
        on_call_days(answered)[:8] == [["u1"], [], ["u2"], [], ["u1"], [], [], []]
    ),
}


@pytest.mark.parametrize("vector", THEIRS, ids=lambda vector: vector["id"])
def test_a_case_of_another_meaning_is_answered_by_ours(vector: dict[str, Any]) -> None:
    assert NEUTRAL[vector["id"]](EVALUATE[vector["kind"]](without_answers(vector)))


@pytest.mark.parametrize("kind", EVALUATE)
def test_order_and_nesting_of_an_object_are_kept(kind: str) -> None:
    for vector in (vector for vector in VECTORS if vector["kind"] == kind):
        answered = EVALUATE[kind](vector)
        assert list(answered)[: len(vector)] == list(vector)


@pytest.mark.parametrize("kind", EVALUATE)
def test_an_unknown_check_is_refused_by_name(kind: str) -> None:
    with pytest.raises(ValueError, match="unknown 'tea_leaves'"):
        EVALUATE[kind]({"check": "tea_leaves", "schedule": {"tz": "UTC"}})
