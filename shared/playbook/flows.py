"""The flows of a playbook version, ready to run, and the course that a ticket's step needs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.calendar.business import ALWAYS_OPEN
from shared.playbook.conditions import parse as parse_condition
from shared.playbook.facts import NUMBER, TEXT, Kind, Schema
from shared.playbook.livefacts import live_facts
from shared.playbook.model import Playbook
from shared.ticket.course import NOBODY, Course, People
from shared.ticket.flow.program import CompileCondition, Facts, Program, Test, compile_flow
from shared.ticket.state import Ticket

STEP_FACTS = {"outcome": TEXT, "visit": NUMBER, "votes.for": NUMBER, "votes.against": NUMBER}
"""What a step adds to the ticket's facts: `shared/ticket/flow/engine.py` says when."""


def schema(playbook: Playbook) -> Schema:
    """Every fact that a flow's conditions may name."""
    return playbook.schema.extended(STEP_FACTS)


def condition(playbook: Playbook) -> CompileCondition:
    """Compiles the conditions of flows; raises `ConditionError`."""
    known = schema(playbook)

    def compile_one(when: Mapping[str, Any]) -> Test:
        return parse_condition(when, known, "when").compile()

    return compile_one


def list_facts(playbook: Playbook) -> tuple[str, ...]:
    """Facts that hold several values at once (equality means membership)."""
    return tuple(name for name, field in playbook.schema.fields.items() if field.kind is Kind.LIST)


def programs(playbook: Playbook) -> dict[str, Program]:
    """The version's flows by name (the ticket's kind), compiled once in each process."""
    return playbook.derived("flows", _compile)


def _compile(playbook: Playbook) -> dict[str, Program]:
    compile_condition = condition(playbook)
    return {flow.name: compile_flow(flow, compile_condition) for flow in playbook.document.flows}


def course(
    playbook: Playbook, flow: str | None, now: datetime, people: People = NOBODY, more: Facts | None = None
) -> Course | None:
    """What a step of a ticket in that flow needs; None when the version has no such flow. `more`: facts beside the ticket's."""
    program = programs(playbook).get(flow or "")
    if program is None:
        return None
    hours = playbook.calendars.get(program.flow.calendar or "", ALWAYS_OPEN)
    beside = dict(more or {})

    def facts(ticket: Ticket) -> Facts:
        return {**live_facts(ticket), **beside}

    return Course(program, playbook.number, facts, now, hours, people, frozenset(playbook.document.enrichments))
