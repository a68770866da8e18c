"""A ticket of a batch while it is decided, and what it asks of whoever takes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.router.compiled import Compiled
from services.router.domain.classify import Classified
from services.router.domain.desk import Request
from services.router.store import Held, Wait
from shared.contracts import events as e
from shared.contracts.envelope import New
from shared.ledger.unit import Work
from shared.playbook.livefacts import live_facts
from shared.playbook.routing import Strategy
from shared.ticket.projection import evolve
from shared.ticket.state import Node, Ticket

Place = tuple[str, int]
"""Node and visit."""


@dataclass(slots=True)
class Case:
    """One ticket: as it was claimed, and as it is after the events decided so far."""

    work: Work
    ticket: Ticket
    rules: Compiled
    held: Held | None
    wait: Wait | None
    sides: dict[Place, Held] = field(default_factory=dict)
    """Open assignments of nodes beside the main path."""
    events: list[New] = field(default_factory=list)
    due_at: datetime | None = None
    classified: Classified | None = None
    asking: set[Place] = field(default_factory=set)
    """Nodes that an outside system is about to complete: nobody is given them meanwhile."""

    def append(self, data: e.Data, at: datetime, reason: dict[str, Any] | None = None) -> None:
        """Add an event, and see the ticket as it is after it."""
        self.events.append(New(data, reason))
        self.ticket = evolve(self.ticket, data, at, self.ticket.version + 1)

    def wake_at(self, at: datetime) -> None:
        """Be looked at again at `at`, or before when that was wanted already."""
        self.due_at = at if self.due_at is None else min(at, self.due_at)

    @property
    def needs_somebody(self) -> bool:
        ticket = self.ticket
        return (
            ticket.status == "new"
            and ticket.classified
            and ticket.assignee is None
            and ticket.offered_to is None
            and ticket.group is not None
            and (ticket.node, ticket.visit) not in self.asking
        )

    @property
    def seeking(self) -> list[Node]:
        """Nodes beside the main path that need somebody."""
        ticket = self.ticket
        if not ticket.nodes or not ticket.is_open or ticket.status == "pending":
            return []
        free = [one for one in ticket.sides if one.assignee is None and one.group is not None]
        return [one for one in free if (one.name, one.visit) not in self.asking]

    @property
    def base(self) -> int:
        """What the ticket takes of a capacity, in hundredths, before its state counts; asked anew when somebody set labels."""
        if self.classified is not None:
            return self.classified.weight
        if not self.was_set and self.held is not None:
            return self.held.base
        if not self.was_set and self.wait is not None:
            return int(self.wait.demand["weight"])
        return self.rules.weight_of(self.ticket)

    @property
    def was_set(self) -> bool:
        """Did somebody set labels or the priority since the router last looked?"""
        return any(isinstance(event.data, e.TicketSet) for event in self.work.events)


def request_of(case: Case, now: datetime, last_owner: str | None = None) -> Request:
    """What the ticket asks for. `last_owner`: who had the same requester's ticket before, where the group keeps to that."""
    ticket, group = case.ticket, case.ticket.group or ""
    at_home = (
        not ticket.in_flow or ticket.group == ticket.home_group
    )  # the classified skills are asked of that group alone
    queued_at = case.wait.queued_at if case.wait is not None else now if ticket.assignment else ticket.opened_at
    return Request(
        ticket.id,
        group,
        queued_at,
        case.rules.classifier.rank.get(ticket.priority or "", 99),
        case.base,
        tuple(sorted(ticket.skills.items())) if at_home else (),
        tuple(sorted(ticket.preferred.items())) if at_home else (),
        ticket.effort_seconds,
        frozenset(ticket.declined),
        ticket.last_assignee or last_owner,
        named_of(case) if at_home else None,
        _from_outside(case, group),
        due_at=case.rules.promise(ticket) if group in case.rules.ahead else None,
        handle_seconds=ticket.effort_seconds or case.rules.handle_seconds,
        ahead_seconds=case.rules.handle_seconds,
    )


def side_request_of(case: Case, node: Node) -> Request:
    """What a node beside the main path asks for: somebody of its group."""
    rank = case.rules.classifier.rank.get(case.ticket.priority or "", 99)
    name = f"{case.ticket.id}/{node.name}/{node.visit}"
    return Request(name, node.group or "", node.entered_at, rank, case.base, declined=frozenset(node.declined))


def named_of(case: Case) -> str | None:
    """Who a rule named; in a group that goes by a field, whom that names."""
    desk = case.rules.desks.get(case.ticket.group or "")
    if desk is not None and desk.strategy is Strategy.BY_FIELD and desk.field is not None:
        value = live_facts(case.ticket).get(desk.field)
        return None if value is None else str(value)
    if case.classified is not None:
        return case.classified.agent
    return None if case.wait is None else case.wait.demand.get("named")


def _from_outside(case: Case, group: str) -> bool:
    """Did another department send it here, and nobody has taken it since?"""
    sent = case.ticket.handover
    return sent is not None and case.rules.department(sent.group) != case.rules.department(group)


def demand_of(request: Request) -> dict[str, Any]:
    """What the waiting list keeps of a request: tickets with the same demand stand in one line."""
    return {
        "weight": request.weight,
        "skills": [list(one) for one in request.skills],
        "preferred": [list(one) for one in request.preferred],
        "effort_seconds": request.effort_seconds,
        "declined": sorted(request.declined),
        "outside": request.from_outside,
        "named": request.named,
    }
