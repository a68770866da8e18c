"""What a template may name: the facts of a message, as the recipient may see them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.access.links import ACTIONS
from shared.access.present import Masks, present
from shared.access.principals import Principal
from shared.ticket.state import Ticket

READER = Principal(-2, frozenset({"agent"}), name="message")
"""Messages show what an ordinary agent may see; masked fields are absent or cut."""


def facts(
    ticket: Ticket | None, event_type: str, event: Mapping[str, Any], recipient: Mapping[str, Any], masks: Masks
) -> dict[str, Any]:
    """Facts of one message: `ticket`, `event`, `recipient`, and `zone` for instants."""
    return {
        "ticket": {} if ticket is None else present(_ticket(ticket), READER, masks),
        "event": {"type": event_type, "data": event},
        "recipient": recipient,
        "zone": recipient.get("zone") or "UTC",
    }


def _ticket(ticket: Ticket) -> dict[str, Any]:
    asked = ticket.requester
    return {
        "id": str(ticket.id),
        "number": ticket.number,
        "subject": ticket.subject,
        "status": ticket.status,
        "priority": ticket.priority or "",
        "kind": ticket.kind or "",
        "group": ticket.group or "",
        "assignee": ticket.assignee or "",
        "labels": {name: label.value for name, label in ticket.labels.items()},
        "fields": ticket.fields,
        "requester": {"name": asked.name or "", "email": asked.email or "", "phone": asked.phone or ""},
        "opened_at": ticket.opened_at,
    }


NO_LINKS: dict[str, Any] = {
    "links": dict.fromkeys(ACTIONS, ""),
    "code": "",
    "action_values": dict.fromkeys(ACTIONS, ""),
    "action_urls": {},
}
"""For a recipient who is no person of the directory, or a message about no ticket: a template asks `{% if code %}`."""

_WHO = {"id": "li.na", "name": "李娜", "locale": "zh-CN", "zone": "Asia/Shanghai"}

SAMPLE: dict[str, Any] = {
    "ticket": {
        "id": "1042",
        "number": "T-1042",
        "subject": "sample",
        "status": "assigned",
        "priority": "normal",
        "kind": "incident",
        "group": "desk",
        "assignee": "li.na",
        "labels": {},
        "fields": {},
        "requester": {"name": "", "email": "", "phone": ""},
    },
    "event": {"type": "ticket.assigned", "data": {}},
    "recipient": _WHO,
    "zone": "UTC",
    "links": {action: f"https://desk.example/a/{action}" for action in ACTIONS},
    "code": "042137",
}
"""What `signalbox check` renders every template with."""
