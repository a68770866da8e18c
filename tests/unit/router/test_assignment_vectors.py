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
