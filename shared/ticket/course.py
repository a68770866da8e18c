"""A ticket in its flow: each step of the case as the events that record it. Pure; the caller holds the ticket's lock.

`flow.moved` carries the case after the step, then follow the visits that ended and began, the owners that are known at once
(the ticket's own owner, a named person), and `ticket.resolved` when the case came to its end. The router gives out the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec

from shared.calendar.business import ALWAYS_OPEN, BusinessCalendar
from shared.contracts import events as e
from shared.ticket.flow import engine
from shared.ticket.flow.model import Node as Drawn
from shared.ticket.flow.model import Siblings, TimeBase, span
from shared.ticket.flow.program import Facts, Program
from shared.ticket.flow.state import FlowState, Reason, Refusal, Result, Token, Visit, dump
from shared.ticket.projection import evolve
from shared.ticket.state import Node, Ticket


class People(Protocol):
    """What a step asks about people."""

    def available(self, person: str, at: datetime) -> bool:
        """Active, not away."""

    def home(self, person: str) -> str | None:
        """The group a person works in first."""


class Nobody:
    """No person is known: every visit goes through the router."""

    def available(self, person: str, at: datetime) -> bool:
        return False

    def home(self, person: str) -> str | None:
        return None


NOBODY = Nobody()


@dataclass(frozen=True, slots=True)
class Course:
    """What a step needs: the flow of `version`, ready to run; the ticket's facts; open time; people; and the instant.

    `asked`: the connectors of service nodes that the product runs itself; nobody is given such a node at once.
    """

    program: Program
    version: int
    facts: Callable[[Ticket], Facts]
    now: datetime
    hours: BusinessCalendar = ALWAYS_OPEN
    people: People = NOBODY
    asked: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Stopped:
    """A step that was not taken."""

    code: str
    reason: str
    missing: tuple[str, ...] = ()


Events = tuple[e.Data, ...]

_CODES = {
    Reason.MATERIAL_MISSING: "material_missing",
    Reason.NOT_OPEN: "no_such_node",
    Reason.DONE: "no_such_node",
}


def begin(ticket: Ticket, course: Course) -> Events | Stopped:
    """Enter the flow at its start; again after a reopening, then visits are numbered on.

    What is needed for the opening was asked at the door; a ticket that came to this kind later begins without it.
    """
    result = engine.start(course.program, course.facts(ticket), version=course.version, earlier=ticket.flow, ready=True)
    return events_of(ticket, course, result, "started")


def complete(
    ticket: Ticket,
    course: Course,
    node: str,
    *,
    by: str,
    visit: int | None = None,
    material: Mapping[str, Any] | None = None,
    fields: Mapping[str, Any] | None = None,
    outcome: str | None = None,
) -> Events | Stopped:
    """Complete a visit. Nothing when the same person has completed it already; a refusal lists all that is missing."""
    state = _state(ticket)
    token = state.token(node, visit)
    if token is None and state.completed_by.get(node) == by and visit in (None, state.visits.get(node)):
        return ()
    result = engine.complete(
        course.program, state, node, course.facts(ticket), visit=visit, material=material, fields=fields, outcome=outcome,
        by=by,
    )  # fmt: skip
    new = {name: value for name, value in (fields or {}).items() if ticket.fields.get(name) != value}
    first: Events = (e.TicketSet(fields=new),) if new else ()
    done = Done(outcome, dict(material or {}), token.waived if token is not None else ())
    return events_of(ticket, course, result, "completed", token, by=by, first=first, done=done)


def waive(ticket: Ticket, course: Course, node: str, material: str, reason: str) -> Events | Stopped:
    """Excuse one piece of material; nothing when it is excused already."""
    state = _state(ticket)
    result = engine.waive(course.program, state, node, material)
    if result.refused is None and result.state == state:
        return ()
    token = state.token(node)
    return events_of(ticket, course, result, "waived", token, material=material, reason=reason)


def jump(
    ticket: Ticket,
    course: Course,
    node: str,
    to: str,
    *,
    by: str,
    visit: int | None = None,
    siblings: str | None = None,
    free: bool = False,
    reason: str = "",
) -> Events | Stopped:
    """Send a visit elsewhere on purpose."""
    state = _state(ticket)
    treat = None if siblings is None else Siblings(siblings)
    result = engine.jump(course.program, state, node, to, course.facts(ticket), visit=visit, siblings=treat, free=free)
    return events_of(ticket, course, result, "jumped", state.token(node, visit), by=by, reason=reason)


def expire(ticket: Ticket, course: Course, node: str, visit: int, timer: int) -> Events | Stopped:
    """Let a timer of a visit fire; nothing when it has."""
    state = _state(ticket)
    token = state.token(node, visit)
    result = engine.expire(course.program, state, node, timer, course.facts(ticket), visit=visit)
    if result.refused is None and result.state == state:
        return ()
    return events_of(ticket, course, result, "expired", token)


def end(ticket: Ticket, reason: str) -> Events:
    """The ticket is closed or merged: its case ends where it stands."""
    if not ticket.in_flow:
        return ()
    state = _state(ticket)
    over = msgspec.structs.replace(state, tokens=(), forks=(), outcome="ended")
    moved = e.FlowMoved(flow=state.flow, version=state.version, step="ended", state=dump(over), reason=reason)
    closed = (e.NodeCompleted(node=one.name, visit=one.visit, cancelled=True) for one in ticket.nodes)
    return (moved, *closed)


def instants(ticket: Ticket, course: Course) -> tuple[e.NodeDue, ...]:
    """After a pause: the instants of the open visits, moved by the time lost; those that had passed before stay."""
    if ticket.paused_at is None:
        return ()
    found = []
    for node in ticket.nodes:
        drawn = course.program.nodes.get(node.name)
        since = max(ticket.paused_at, node.entered_at)
        bases = [timer.time for timer in drawn.timers] if drawn is not None else []
        due_at = None if node.due_at is None else _later(node.due_at, since, course, wall=node.wall)
        timers = tuple(
            _later(at, since, course, wall=base is TimeBase.WALL) for at, base in zip(node.timers, bases, strict=False)
        )
        if (due_at, timers) != (node.due_at, node.timers):
            found.append(e.NodeDue(node=node.name, visit=node.visit, due_at=due_at, timers=timers))
    return tuple(found)


def lacking(ticket: Ticket, course: Course, node: Node) -> tuple[str, ...]:
    """What is still missing at a visit, before anything is given with its completion."""
    token = _state(ticket).token(node.name, node.visit)
    return () if token is None else engine.lacking(course.program, token, course.facts(ticket))


# ---- inside ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    """What a visit was completed with."""

    outcome: str | None = None
    material: Mapping[str, Any] | None = None
    waived: tuple[str, ...] = ()


def _state(ticket: Ticket) -> FlowState:
    return ticket.flow or FlowState(flow="", outcome="none")


def _stopped(refusal: Refusal) -> Stopped:
    code = _CODES.get(refusal.reason, str(refusal.reason))
    detail = refusal.detail or (f"missing: {', '.join(refusal.missing)}" if refusal.missing else code.replace("_", " "))
    return Stopped(code, detail, refusal.missing)


def events_of(
    ticket: Ticket,
    course: Course,
    result: Result,
    step: str,
    token: Token | None = None,
    *,
    by: str = "",
    first: Events = (),
    done: Done = Done(),
    material: str | None = None,
    reason: str = "",
    nodes: tuple[e.NodeDue, ...] = (),
) -> Events | Stopped:
    """What the engine found as the events that record it; of a refusal, why."""
    if result.refused is not None:
        return _stopped(result.refused)
    state = result.state
    moved = e.FlowMoved(
        flow=state.flow, version=state.version, step=step, state=dump(state), node=token.node if token else "",
        visit=token.visit if token else 0, material=material, reason=reason, nodes=nodes,
    )  # fmt: skip
    told: list[e.Data] = [*first, moved]
    for visit in result.completed:
        told.append(
            e.NodeCompleted(
                node=visit.node,
                visit=visit.visit,
                outcome=done.outcome,
                material=dict(done.material or {}),
                waived=done.waived,
            )
        )
    told += (e.NodeCompleted(node=one.node, visit=one.visit, cancelled=True) for one in result.cancelled)
    after = ticket
    for data in told:
        after = evolve(after, data, course.now, after.version + 1)
    for visit in result.entered:
        for data in _entered(after, course, visit, by, ticket):
            told.append(data)
            after = evolve(after, data, course.now, after.version + 1)
    if state.done and ticket.is_open:
        told.append(e.TicketResolved(resolution=state.outcome or ""))
    return tuple(told)


def _entered(ticket: Ticket, course: Course, visit: Visit, by: str, before: Ticket) -> list[e.Data]:
    """A visit begins; whoever is known to work it has it at once."""
    drawn = course.program.nodes[visit.node]
    group, person, home = _meant(ticket, course, drawn)
    expected = drawn.expected_time
    wall = drawn.expected_in is TimeBase.WALL
    data = e.NodeEntered(
        node=visit.node,
        visit=visit.visit,
        group=group,
        role=group.removeprefix("role:") if group and group.startswith("role:") else None,
        due_at=None if expected is None else _after(expected, course, wall=wall),
        agent=person,
        home=home,
        stage=drawn.stage,
        chain=drawn.chain,
        expected_seconds=None if expected is None else expected.total_seconds(),
        wall=wall,
        timers=firing(drawn, course),
    )
    if person is None or drawn.service in course.asked or not course.people.available(person, course.now):
        return [data]
    number = ticket.next_assignment
    side = _is_side(ticket, visit)
    told: list[e.Data] = [
        data,
        e.TicketAssigned(
            group=group or ticket.group or "",
            agent=person,
            assignment=number,
            node=visit.node,
            visit=visit.visit,
            side=side,
        ),
    ]
    if person == by or (before.accepted and before.assignee == person):  # goes on with the work in hand
        told.append(e.TicketAccepted(agent=person, assignment=number, node=visit.node, visit=visit.visit, side=side))
    return told


def _is_side(ticket: Ticket, visit: Visit) -> bool:
    main = ticket.flow.main if ticket.flow is not None else None
    return main is not None and (main.node, main.visit) != (visit.node, visit.visit)


def _meant(ticket: Ticket, course: Course, drawn: Drawn) -> tuple[str | None, str | None, bool]:
    """Group and person a visit is for, and whether that is the ticket's own owner."""
    whose = course.program.flow.responsible_for(drawn)
    if whose is not None and whose.group:
        return whose.group, None, False
    if whose is not None and whose.role:
        return f"role:{whose.role}", None, False
    if whose is not None and whose.person:
        return course.people.home(whose.person) or ticket.home_group or ticket.group, whose.person, False
    if whose is not None and whose.same_as:
        last = _state(ticket).completed_by.get(whose.same_as)
        group = course.people.home(last) if last is not None else None
        return group or ticket.home_group or ticket.group, last if group is not None else None, False
    return ticket.home_group or ticket.group, ticket.owner, True


def firing(drawn: Drawn, course: Course) -> tuple[datetime, ...]:
    """When the timers of a visit that begins with the step fire."""
    return tuple(_after(span(one.after), course, wall=one.time is TimeBase.WALL) for one in drawn.timers)


def _after(length: timedelta, course: Course, *, wall: bool) -> datetime:
    found = None if wall else course.hours.add(course.now, length)
    return found if found is not None else course.now + length


def _later(at: datetime, since: datetime, course: Course, *, wall: bool) -> datetime:
    if at <= since:
        return at
    left = at - since if wall else course.hours.between(since, at)
    return _after(left, course, wall=wall)
