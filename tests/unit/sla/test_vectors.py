"""What other systems say about their own clocks, answered by ours: tests/vectors/sla_scenario.json."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from services.control.evaluate.clocks import evaluate

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "sla_scenario.json").read_text())["vectors"]
OURS = [vector for vector in VECTORS if "semantics" not in vector]
THEIRS = [vector for vector in VECTORS if "semantics" in vector]


def without_answers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_answers(one) for key, one in value.items() if not key.startswith("expected")}
    return [without_answers(one) for one in value] if isinstance(value, list) else value


def same(expected: Any, found: Any) -> bool:
    if isinstance(expected, list):
        return isinstance(found, list) and len(expected) == len(found) and all(map(same, expected, found))
    if isinstance(expected, str) and "T" in expected and isinstance(found, str):
        return datetime.fromisoformat(expected) == datetime.fromisoformat(found)
    return bool(expected == found)


def differences(vector: dict[str, Any]) -> list[tuple[Any, ...]]:
    answered = evaluate(without_answers(vector))
    found: list[tuple[Any, ...]] = []
    for index, (theirs, ours) in enumerate(zip(vector["asks"], answered["asks"], strict=True)):
        expected, answer = theirs["expected"], ours["expected"]
        for name, clock in expected.get("clocks", {}).items():
            for member, value in clock.items():
                if not same(value, answer["clocks"][name].get(member, "missing")):
                    found.append((index, name, member, value, answer["clocks"][name].get(member, "missing")))
        if "next_due" in expected and not same(expected["next_due"], answer["next_due"]):
            found.append((index, "next_due", expected["next_due"], answer["next_due"]))
    return found


@pytest.mark.parametrize("vector", OURS, ids=lambda vector: vector["id"])
def test_a_scenario_is_answered_as_its_peer_answers_it(vector: dict[str, Any]) -> None:
    assert differences(vector) == []


@pytest.mark.parametrize("vector", THEIRS, ids=lambda vector: vector["id"])
def test_a_scenario_of_another_meaning_is_answered_by_ours(vector: dict[str, Any]) -> None:
    neutral = {
        "sla_scenario/chatwoot/mixed#1": [(0, "next_response", "breach_count", 2, 1)],
        "sla_scenario/chatwoot/resolved-late-unseen#1": [(0, "resolution", "state", "met", "breached")],
        "sla_scenario/erpnext/close-after-long-hold#1": [
            (0, "resolution", "due_computed", "2021-11-22T06:00:00+00:00", "2021-11-22T15:00:00+00:00")
        ],
        "sla_scenario/erpnext/lead-hold#1": [
            (1, "resolution", "paused_seconds", 3000, 0),
            (1, "resolution", "due_computed", "2020-03-04T16:50:00+00:00", "2020-03-04T16:00:00+00:00"),
        ],
        "sla_scenario/erpnext/reopen-after-close#1": [
            (3, "resolution", "due_computed", "2021-11-02T02:00:00+00:00", "2021-11-02T02:00:01+00:00"),
            (4, "resolution", "paused_seconds", 43200, 25200),
        ],
        "sla_scenario/glpi/policy-change-calendar#1": [
            (2, "first_response", "due", "2034-08-17T08:10:00+00:00", "2034-08-16T19:00:00+00:00"),
            (2, "first_response", "escalations", ["2034-08-16T18:10:00+00:00"], ["2034-08-16T18:00:00+00:00"]),
        ],
        "sla_scenario/otobo/suspend-loop#1": [
            (1, "resolution", "due", "2016-04-14T18:54:08+00:00", None),
            (3, "resolution", "due", "2016-04-15T08:01:17+00:00", None),
        ],
    }
    assert differences(vector) == neutral[vector["id"]]


def test_order_and_nesting_of_a_scenario_are_kept() -> None:
    vector = OURS[0]
    answered = evaluate(vector)
    assert list(answered) == list(vector)
    assert [next(iter(ask)) for ask in answered["asks"]] == [next(iter(ask)) for ask in vector["asks"]]
