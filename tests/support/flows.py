"""Helpers for tests of flows: conditions over any fact, and short ways to compile and prove."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.playbook import conditions
from shared.ticket.flow.model import read
from shared.ticket.flow.program import Program, Test, compile_flow

_ANY_FACT = conditions.Schema({}, ("",))


def condition(when: Mapping[str, Any]) -> Test:
    """Compile a condition over facts whose names are not known in advance."""
    return conditions.parse(when, _ANY_FACT).compile()


def flow_data(nodes: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A flow in which everybody is of group `g`."""
    return {"name": "flow", "responsible": {"group": "g"}, "nodes": nodes, **more}


def program_of(nodes: list[dict[str, Any]], **more: Any) -> Program:
    """A flow in which everybody is of group `g`, made ready to run."""
    return compile_flow(read(flow_data(nodes, **more)), condition)
