"""Where a ticket is and who has it there: its main path and the nodes beside it, seen alike. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from shared.playbook.livefacts import live_facts
from shared.ticket.state import MAIN, Node, Ticket


class Place(NamedTuple):
    """One node visit that somebody has, or is to have."""

    node: str
    visit: int
    group: str | None
    assignee: str | None
    accepted: bool
    assignment: int
    assigned_at: datetime | None
    due_at: datetime | None = None
    entered_at: datetime | None = None
    chain: str | None = None
    stage: str | None = None


def places(ticket: Ticket) -> Iterator[Place]:
    """The main path first; its instants are those of its node, where it has one."""
    main = ticket.visit_of(ticket.node, ticket.visit)
    yield Place(
        ticket.node,
        ticket.visit,
        ticket.group,
        ticket.assignee,
        ticket.accepted,
        ticket.assignment,
        ticket.assigned_at,
        main.due_at if main is not None else None,
        main.entered_at if main is not None else None,
        main.chain if main is not None else None,
        main.stage if main is not None else None,
    )
    yield from map(_side, ticket.sides)


def _side(node: Node) -> Place:
    return Place(
        node.name, node.visit, node.group, node.assignee, node.accepted, node.assignment, node.assigned_at, node.due_at,
        node.entered_at, node.chain, node.stage,
    )  # fmt: skip


def place_of(ticket: Ticket, node: str | None, visit: int | None) -> Place | None:
    """The place of that visit, the main path for none; None when the ticket is not there any more."""
    return place_among(tuple(places(ticket)), node, visit)


def place_among(found: Sequence[Place], node: str | None, visit: int | None) -> Place | None:
    """The same among a ticket's places."""
    if node is None or node == MAIN:
        return found[0]
    return next((one for one in found if (one.node, one.visit) == (node, visit)), None)


def facts_at(ticket: Ticket, place: Place | None) -> dict[str, Any]:
    """The ticket's facts as they are for that place."""
    facts = live_facts(ticket)
    if place is not None:
        facts |= {"node": place.node, "group": place.group, "agent": place.assignee}
    return facts


def mover(ticket: Ticket) -> str:
    """Who moves the ticket next: a person, `group:NAME` whose queue it is in, `requester` while it waits, else `router`."""
    if ticket.status == "pending":
        return ticket.assignee or "requester"
    for place in places(ticket):
        if place.assignee is not None:
            return place.assignee
    if ticket.offered_to is not None:
        return ticket.offered_to
    return "router" if ticket.group is None else f"group:{ticket.group}"
