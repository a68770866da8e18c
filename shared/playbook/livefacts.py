"""The facts of a ticket as it is now: what conditions of SLA policies, watches and messages are asked over."""

from __future__ import annotations

from typing import Any

from shared.ticket.state import Ticket


def live_facts(ticket: Ticket) -> dict[str, Any]:
    """Flat facts under the names of `ticketfacts`; texts beyond the subject are not among them."""
    asked = ticket.requester
    facts: dict[str, Any] = {
        "subject": ticket.subject,
        "text": ticket.subject,
        "source": ticket.source,
        "kind": ticket.kind,
        "priority": ticket.priority,
        "group": ticket.group,
        "agent": ticket.assignee,
        "status": ticket.status,
        "node": ticket.node,
        "requester.id": asked.id,
        "requester.name": asked.name,
        "requester.email": asked.email,
        "requester.tier": asked.tier,
        "requester.automated": asked.automated,
    }
    for name, label in ticket.labels.items():
        facts[f"labels.{name}"] = label.value
    for name, value in ticket.fields.items():
        facts[f"fields.{name}"] = value
    return facts
