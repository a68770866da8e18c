"""From the ledger's events to the facts that clocks understand. Pure, and a function of the log alone.

An event is read against the ticket as it was when the event happened, never as it is now: a batch that holds `resumed` and,
later, `transferred` gives the same facts as the two one by one. What the ticket was at the end of the events seen before is the
`Desk` that is kept with the clocks; `evolve` of the ticket takes it from there, so a clock counts by the ticket's own status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from services.sla.domain import facts as f
from services.sla.domain.ticket import Desk
from shared.contracts import events as e
from shared.contracts.envelope import Recorded
from shared.ticket import projection
from shared.ticket.state import Node, Ticket

Made = list[f.Fact]
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_SCALAR = (str, int, float, bool)
"""Fields that policies match on."""


def facts_of(events: Iterable[Recorded], desk: Desk | None, present: Ticket | None = None) -> tuple[Made, Desk | None]:
    """Facts in the order of the log, and where the ticket is after them. `desk` None: the events begin with `ticket.opened`.

    `present`: the ticket's row, where the caller has it; what it is after its last event need not be worked out again.
    """
    ticket = None if desk is None else _on(desk)
    facts: Made = []
    for event in events:
        if ticket is None:
            if not isinstance(event.data, e.TicketOpened):
                raise ValueError(f"ticket {event.id}: the log begins with {event.type}")
            ticket = projection.opened(event.id, event.data, event.happened_at, event.playbook)
            facts.append(_opened(event.data, event))
            continue
        before = ticket
        if present is not None and event.version == present.version:
            ticket = present
        else:
            ticket = projection.evolve(ticket, event.data, event.happened_at, event.version)
        make = _MAKERS.get(event.type)
        if make is not None:
            facts += make(event.data, event.happened_at)
        facts += _moves(before, ticket, event.happened_at)
    return facts, None if ticket is None else desk_of(ticket)


def standing(events: Iterable[Recorded]) -> list[Recorded]:
    """A ticket's whole log without the moves to another playbook version that were taken back later, and without taking back."""
    kept: list[Recorded] = []
    for event in events:
        data = event.data
        if isinstance(data, e.TicketRepinned) and data.undoes is not None:
            moves = [one for one in kept if isinstance(one.data, e.TicketRepinned) and one.data.version == data.undoes]
            if moves:
                kept.remove(moves[-1])
        else:
            kept.append(event)
    return kept


def desk_of(ticket: Ticket) -> Desk:
    """What is kept of a ticket between two batches."""
    return Desk(
        ticket.status,
        ticket.pause_reason,
        ticket.group,
        ticket.assignee,
        ticket.accepted,
        ticket.node,
        tuple([(node.name, node.visit) for node in ticket.nodes]),
        ticket.visit,
        tuple([(node.group, node.assignee, node.accepted) for node in ticket.nodes]),
    )


def _on(desk: Desk) -> Ticket:
    """As much of a ticket as its next events are read against."""
    return Ticket(
        id=0,
        version=0,
        status=desk.status,
        opened_at=_NEVER,
        updated_at=_NEVER,
        source="",
        subject="",
        lane="",
        pause_reason=desk.pause_reason,
        group=desk.group,
        assignee=desk.assignee,
        accepted=desk.accepted,
        node=desk.node,
        visit=desk.visit,
        nodes=tuple(
            Node(name, visit, _NEVER, group, assignee, accepted=accepted)
            for (name, visit), (group, assignee, accepted) in zip(desk.nodes, desk.owned, strict=False)
        ),
    )


def _moves(before: Ticket, after: Ticket, at: datetime) -> Made:
    """What an event changed of status, group and person on the main path."""
    made: Made = []
    status = _status(after)
    if status != "merged" and status != _status(before):
        made.append(f.StatusChanged(at, status))
    if after.group != before.group:
        made.append(f.GroupChanged(at, after.group))
    if after.assignee != before.assignee or (after.group != before.group and after.assignee is not None):
        made.append(f.PersonChanged(at, after.assignee))
    return made


def _status(ticket: Ticket) -> str:
    """The status as policies name it: a pause with its reason after a colon."""
    return f"pending:{ticket.pause_reason}" if ticket.status == "pending" and ticket.pause_reason else ticket.status


# ---- what an event says beyond status, group and person ---------------------------------------------------------------------


def _opened(d: e.TicketOpened, event: Recorded) -> f.Fact:
    requester = d.requester
    known = {
        "requester.id": requester.id,
        "requester.tier": requester.tier,
        "requester.email": requester.email,
        "kind": d.kind,
    }
    attributes: dict[str, Any] = {
        "source": d.source,
        "subject": d.subject,
        **{f"labels.{name}": value for name, value in d.labels.items()},
        **_fields(d.fields),
        **{name: value for name, value in known.items() if value is not None},
        "requester.automated": requester.automated,
    }
    by_customer = not requester.automated
    return f.Created(
        event.happened_at, attributes=attributes, ready=False, by_customer=by_customer, version=event.playbook
    )


def _fields(fields: dict[str, Any]) -> dict[str, Any]:
    return {f"fields.{name}": value for name, value in fields.items() if isinstance(value, _SCALAR)}


def _classified(d: e.TicketClassified, at: datetime) -> Made:
    attributes = {
        "priority": d.priority,
        "group": d.group,
        "kind": d.kind,
        **{f"labels.{name}": label.value for name, label in d.labels.items()},
        **_fields(d.fields),
    }
    return [f.Described(at, attributes)]


def _set(d: e.TicketSet, at: datetime) -> Made:
    attributes = {**{f"labels.{name}": value for name, value in d.labels.items()}, **_fields(d.fields)}
    if d.priority is not None:
        attributes["priority"] = d.priority
    return [f.Described(at, attributes)] if attributes else []


def _replied(d: e.TicketReplied, at: datetime) -> Made:
    if d.author == "agent":
        return [f.Replied(at, automated=d.automated)]
    return [f.CustomerReplied(at, automated=d.automated)]


def _repinned(d: e.TicketRepinned, at: datetime) -> Made:
    """Taking a move back is not a fact: it takes one away (`standing`)."""
    if d.undoes is not None:
        return []
    return [f.RulesChanged(at, d.version, "whole" if d.mode == "whole" else "from-now")]


_MAKERS: dict[str, Callable[[Any, datetime], Made]] = {
    "ticket.classified": _classified,
    "ticket.set": _set,
    "ticket.accepted": lambda d, at: [f.Accepted(at, d.agent)],
    "ticket.replied": _replied,
    "ticket.merged": lambda _, at: [f.Merged(at)],
    "ticket.repinned": _repinned,
    "node.entered": lambda d, at: [f.NodeEntered(at, d.node, d.visit)],
    "node.completed": lambda d, at: [f.NodeCompleted(at, d.node, d.visit, d.cancelled)],
}
