"""From the ledger's events to the facts that clocks understand. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from services.sla.domain import facts as f
from shared.contracts import events as e
from shared.contracts.envelope import Recorded
from shared.ticket.state import Ticket


def facts_of(events: Iterable[Recorded], ticket: Ticket) -> list[f.Fact]:
    """Facts in the order of the log. `ticket` is the projection now; it tells the status that a resumed ticket goes back to."""
    facts: list[f.Fact] = []
    for event in events:
        make = _MAKERS.get(event.type)
        if make is not None:
            facts += make(event.data, event.happened_at, event, ticket)
    return facts


Made = list[f.Fact]


def _opened(d: e.TicketOpened, at: datetime, event: Recorded, _: Ticket) -> Made:
    attributes: dict[str, Any] = {
        "source": d.source,
        "subject": d.subject,
        **{f"labels.{name}": value for name, value in d.labels.items()},
        **_fields(d.fields),
        **{
            f"requester.{name}": value
            for name, value in (("id", d.requester.id), ("tier", d.requester.tier), ("email", d.requester.email))
            if value is not None
        },
        "requester.automated": d.requester.automated,
    }
    if d.kind is not None:
        attributes["kind"] = d.kind
    by_customer = not d.requester.automated
    return [f.Created(at, attributes=attributes, ready=False, by_customer=by_customer, version=event.playbook)]


def _fields(fields: dict[str, Any]) -> dict[str, Any]:
    return {f"fields.{name}": value for name, value in fields.items() if isinstance(value, str | int | float | bool)}


def _classified(d: e.TicketClassified, at: datetime, *_: Any) -> Made:
    attributes = {
        "priority": d.priority,
        "group": d.group,
        "kind": d.kind,
        **{f"labels.{name}": label.value for name, label in d.labels.items()},
        **_fields(d.fields),
    }
    return [f.Described(at, attributes), f.GroupChanged(at, d.group)]


def _set(d: e.TicketSet, at: datetime, *_: Any) -> Made:
    attributes = {**{f"labels.{name}": value for name, value in d.labels.items()}, **_fields(d.fields)}
    if d.priority is not None:
        attributes["priority"] = d.priority
    return [f.Described(at, attributes)] if attributes else []


def _assigned(d: e.TicketAssigned, at: datetime, _event: Recorded, ticket: Ticket) -> Made:
    if d.node != ticket.node:
        return []
    status: Made = [] if ticket.status == "pending" else [f.StatusChanged(at, "assigned")]
    return [*status, f.GroupChanged(at, d.group), f.PersonChanged(at, d.agent)]


def _accepted(d: e.TicketAccepted, at: datetime, *_: Any) -> Made:
    return [f.Accepted(at, d.agent), f.StatusChanged(at, "in_progress")]


def _unassigned(d: Any, at: datetime, *_: Any) -> Made:
    group = getattr(d, "group", None)
    return [f.PersonChanged(at, None), *([f.GroupChanged(at, group)] if group else [])]


def _replied(d: e.TicketReplied, at: datetime, *_: Any) -> Made:
    if d.author == "agent":
        return [f.Replied(at, automated=d.automated)]
    return [f.CustomerReplied(at, automated=d.automated)]


def _paused(d: e.TicketPaused, at: datetime, *_: Any) -> Made:
    return [f.StatusChanged(at, f"pending:{d.reason}" if d.reason else "pending")]


def _resumed(_d: Any, at: datetime, _event: Recorded, ticket: Ticket) -> Made:
    return [f.StatusChanged(at, "in_progress" if ticket.accepted else "assigned" if ticket.assignee else "new")]


def _status(status: str) -> Callable[..., Made]:
    return lambda _d, at, *_: [f.StatusChanged(at, status)]


def _merged(_d: Any, at: datetime, *_: Any) -> Made:
    return [f.Merged(at)]


def _entered(d: e.NodeEntered, at: datetime, *_: Any) -> Made:
    return [f.NodeEntered(at, d.node, d.visit)]


def _completed(d: e.NodeCompleted, at: datetime, *_: Any) -> Made:
    return [f.NodeCompleted(at, d.node, d.visit, d.cancelled)]


_MAKERS: dict[str, Callable[..., Made]] = {
    "ticket.opened": _opened,
    "ticket.classified": _classified,
    "ticket.set": _set,
    "ticket.assigned": _assigned,
    "ticket.accepted": _accepted,
    "ticket.queued": _unassigned,
    "ticket.declined": _unassigned,
    "ticket.transferred": _unassigned,
    "ticket.replied": _replied,
    "ticket.paused": _paused,
    "ticket.resumed": _resumed,
    "ticket.resolved": _status("resolved"),
    "ticket.reopened": _status("new"),
    "ticket.closed": _status("closed"),
    "ticket.merged": _merged,
    "node.entered": _entered,
    "node.completed": _completed,
}
