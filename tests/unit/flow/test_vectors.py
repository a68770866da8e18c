"""The project's own vectors for flows, answered through `signalbox eval flow`'s function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.control.evaluate.flow import condition, evaluate
from shared.ticket.flow.findings import FlowUnsound
from shared.ticket.flow.model import read
from shared.ticket.flow.proof import prove

FILE: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "flow.json").read_text("utf-8"))
VECTORS: list[dict[str, Any]] = FILE["vectors"]


def _only(got: Any, wanted: Any) -> Any:
    """`got`, reduced to the members that `wanted` has."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        return {name: _only(got.get(name), value) for name, value in wanted.items()}
    if isinstance(wanted, list) and isinstance(got, list) and len(got) == len(wanted):
        return [_only(one, other) for one, other in zip(got, wanted, strict=True)]
    return got


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["id"] for vector in VECTORS])
def test_every_vector_is_answered_as_it_expects(vector: dict[str, Any]) -> None:
    asked = {name: value for name, value in vector.items() if name != "expected"}
    assert _only(evaluate(asked)["expected"], vector["expected"]) == vector["expected"]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["id"] for vector in VECTORS])
def test_order_and_other_members_are_kept(vector: dict[str, Any]) -> None:
    answered = evaluate(vector)
    assert list(answered) == list(vector)
    assert {**answered, "expected": None} == {**vector, "expected": None}


def test_the_file_says_how_many_there_are() -> None:
    assert FILE["count"] == len(VECTORS) >= 30
    assert len({vector["id"] for vector in VECTORS}) == len(VECTORS)


def test_the_flows_of_the_vectors_are_sound_but_for_owners_and_the_one_that_shows_what_is_not() -> None:
    unsound = set()
    for vector in VECTORS:
        owned = {"name": "flow", "responsible": {"group": "g"}, **vector["flow"]}
        if any(str(finding.code) != "unreachable" for finding in prove(read(owned), condition)):
            unsound.add(vector["id"])
    assert unsound == {"flow/stay#1"}


@pytest.mark.parametrize(
    "action",
    [{"outcome": "x"}, {"node": 1}, {"node": "a", "colour": "red"}, {"node": "a", "waive": "x", "outcome": "y"}, "a"],
)
def test_an_action_that_cannot_be_read_is_an_error_and_not_a_refusal(action: Any) -> None:
    flow = {"nodes": [{"name": "a", "next": "z"}, {"name": "z", "kind": "end"}]}
    with pytest.raises(ValueError, match=r"actions\[0\]"):
        evaluate({"id": "x", "flow": flow, "actions": [action]})


def test_a_flow_with_unknown_names_is_an_error_that_says_where() -> None:
    with pytest.raises(FlowUnsound, match=r"nodes\[0\]\.next\[0\]\.to: there is no node b"):
        evaluate({"id": "x", "flow": {"nodes": [{"name": "a", "next": "b"}]}, "actions": []})
