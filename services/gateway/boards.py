"""What the board and the Gantt view show: cards of open node visits, counts by stage, spans of nodes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from services.gateway.api.base import bad_parameter
from services.gateway.queries import Row, masks, shaped
from shared.access.principals import Principal
from shared.calendar.business import ALWAYS_OPEN, BusinessCalendar
from shared.contracts import events as e
from shared.ledger import business, reader
from shared.ledger.process import Deps
from shared.ledger.unit import decode_ticket
from shared.playbook import flows
from shared.ticket.state import Node, Ticket

SOON = timedelta(minutes=30)
"""A visit that is due within this, or within a quarter of its expected time, is at risk."""
_FILTER = {"stage": "b.stage", "group": "b.group_name", "owner": "b.owner"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of the board ended."""

    order_at: str
    ticket: int
    node: str
    visit: int

    def written(self) -> str:
        """As a cursor."""
        plain = f"{self.order_at}|{self.ticket}|{self.visit}|{self.node}"
        return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")

    @staticmethod
    def read(cursor: str) -> Place | None:
        """A cursor; 400 for one that is none."""
        if not cursor:
            return None
        try:
            plain = base64.b64decode(
                cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True
            ).decode()
            order_at, ticket, visit, node = plain.split("|", 3)
            datetime.fromisoformat(order_at)
            return Place(order_at, int(ticket), node, int(visit))
        except (ValueError, binascii.Error):
            raise bad_parameter("cursor", "not a cursor of this list") from None


def cards(
    deps: Deps, connection: Connection, wanted: Mapping[str, str], limit: int, after: Place | None, principal: Principal
) -> tuple[list[Row], Place | None]:
    """A page of cards, those that are due first, and where to go on."""
    conditions = [f"{_FILTER[name]} = :{name}" for name in wanted]
    values: dict[str, Any] = {**wanted, "limit": limit + 1}
    if after is not None:
        conditions.append(
            "(b.order_at, b.ticket_id, b.node, b.visit) > (cast(:order_at as timestamptz), :ticket, :node, :visit)"
        )
        values |= {"order_at": after.order_at, "ticket": after.ticket, "node": after.node, "visit": after.visit}
    where = f"where {' and '.join(conditions)}" if conditions else ""
    rows = connection.execute(
        text(
            f"""select b.*, t.state::text as state from (
                select * from escalation.v_board b {where} order by order_at, ticket_id, node, visit limit :limit
            ) b join ledger.ticket t on t.id = b.ticket_id order by b.order_at, b.ticket_id, b.node, b.visit"""
        ),
        values,
    ).all()
    now, field_masks = business.now(connection), masks(deps, connection)
    found = [
        shaped(_card(deps, connection, row, decode_ticket(row.state), now), principal, field_masks) for row in rows
    ]
    last = rows[limit - 1] if len(rows) > limit else None
    following = None if last is None else Place(last.order_at.isoformat(), last.ticket_id, last.node, last.visit)
    return found[:limit], following


def _card(deps: Deps, connection: Connection, row: Any, ticket: Ticket, now: datetime) -> Row:
    node = ticket.visit_of(row.node, row.visit)
    hours = _hours(deps, connection, ticket)
    risk, reason = block_risk(row, node, now)
    return {
        "id": str(ticket.id),
        "number": ticket.number,
        "subject": ticket.subject,
        "kind": ticket.kind,
        "status": ticket.status,
        "priority": ticket.priority,
        "stage": row.stage,
        "node": row.node,
        "visit": row.visit,
        "group": row.group_name,
        "owner": row.owner,
        "entered_at": row.entered_at,
        "due_at": row.due_at,
        "expected_seconds": node.expected_seconds if node is not None else None,
        "dwell": {
            "wall_seconds": (now - row.entered_at).total_seconds(),
            "open_seconds": hours.between(row.entered_at, now).total_seconds(),
        },
        "risk": risk,
        "reason": reason,
        "escalation": row.escalation,
    }


def block_risk(row: Any, node: Node | None, now: datetime) -> tuple[str, str | None]:
    """`high`, `medium` or `low`, and what is in the way: the gravest first."""
    late = row.due_at is not None and row.due_at < now
    if late and not row.paused:
        return "high", "escalated" if row.escalation is not None else "overdue"
    if row.escalation is not None:
        return "high", "escalated"
    if row.stalled:
        return "high", "stalled"
    if row.paused:
        return "medium", "paused"
    if row.owner is None:
        return "medium", "no_owner"
    expected = timedelta(seconds=node.expected_seconds or 0) if node is not None else timedelta(0)
    if row.due_at is not None and row.due_at - now <= max(SOON, expected / 4):
        return "medium", "due_soon"
    return ("medium", "unaccepted") if row.unaccepted else ("low", None)


def _hours(deps: Deps, connection: Connection, ticket: Ticket) -> BusinessCalendar:
    """The calendar of the ticket's flow; around the clock without one."""
    if ticket.flow is None:
        return ALWAYS_OPEN
    playbook = deps.playbooks.get(connection, ticket.flow.version)
    program = flows.programs(playbook).get(ticket.flow.flow)
    name = program.flow.calendar if program is not None else None
    found: BusinessCalendar = playbook.calendars.get(name or "", ALWAYS_OPEN)
    return found


def stages(deps: Deps, connection: Connection, wanted: Mapping[str, str]) -> list[Row]:
    """How many stand at each stage, and how many of them are overdue; in the order of the playbook's flows."""
    conditions = [f"{_FILTER[name]} = :{name}" for name in wanted]
    where = f"where {' and '.join(conditions)}" if conditions else ""
    rows = connection.execute(
        text(
            f"""select stage, count(*) as n, count(*) filter (where order_at < :now) as overdue
            from escalation.v_board b {where} group by stage"""
        ),
        {**wanted, "now": business.now(connection)},  # a value: the function would be called for each row
    ).all()
    order: dict[str, int] = {}
    for flow in deps.playbooks.current(connection).document.flows:
        for node in flow.nodes:
            if node.stays:
                order.setdefault(node.stage or node.name, len(order))
    found = [{"stage": row.stage, "count": row.n, "overdue": row.overdue} for row in rows]
    return sorted(found, key=lambda one: (order.get(one["stage"], len(order)), one["stage"]))


# ---- spans ------------------------------------------------------------------------------------------------------------------

_SPANNING = ("node.entered", "node.completed", "ticket.assigned", "ticket.opened", "ticket.resolved", "ticket.closed")


def spans(
    deps: Deps,
    connection: Connection,
    principal: Principal,
    *,
    ticket: int | None,
    group: str | None,
    kind: str | None,
    limit: int,
    after: int | None,
) -> tuple[list[Row], int | None]:
    """A page of tickets with their spans: open ones, newest first; or one ticket, open or not."""
    conditions = ["t.id = :ticket"] if ticket is not None else [
        "t.status in ('new', 'assigned', 'in_progress', 'pending')"
    ]  # fmt: skip
    values: dict[str, Any] = {"ticket": ticket, "group": group, "kind": kind, "after": after, "limit": limit + 1}
    conditions += ["t.group_name = :group"] if group is not None else []
    conditions += ["t.kind = :kind"] if kind is not None else []
    conditions += ["t.id < :after"] if after is not None else []
    rows = connection.execute(
        text(
            f"select t.state::text as state from ledger.ticket t where {' and '.join(conditions)} order by t.id desc limit :limit"
        ),
        {name: value for name, value in values.items() if value is not None},
    ).all()
    tickets = [decode_ticket(row.state) for row in rows[:limit]]
    stories = reader.of_types(connection, "ticket", [one.id for one in tickets], _SPANNING)
    now, field_masks = business.now(connection), masks(deps, connection)
    items = [shaped(_gantt(one, stories.get(one.id, []), now), principal, field_masks) for one in tickets]
    return items, tickets[-1].id if len(rows) > limit else None


def _gantt(ticket: Ticket, events: Sequence[Any], now: datetime) -> Row:
    return {
        "id": str(ticket.id),
        "number": ticket.number,
        "subject": ticket.subject,
        "kind": ticket.kind,
        "status": ticket.status,
        "priority": ticket.priority,
        "opened_at": ticket.opened_at,
        "resolved_at": ticket.resolved_at,
        "spans": _spans(ticket, events, now),
    }


def _spans(ticket: Ticket, events: Sequence[Any], now: datetime) -> list[Row]:
    found: dict[tuple[str, int], Row] = {}
    for event in events:
        data, at = event.data, event.happened_at
        match data:
            case e.NodeEntered():
                found[(data.node, data.visit)] = _span(data.node, data.visit, at, data)
            case e.TicketAssigned():
                place = (data.node, data.visit)
                if place not in found and data.node == "main":
                    found[place] = _span("main", 1, ticket.opened_at, None)
                if place in found:
                    found[place]["responsible"].append({"agent": data.agent, "group": data.group, "since": at})
            case e.NodeCompleted():
                if (span := found.get((data.node, data.visit))) is not None:
                    span |= {"ended_at": at, "outcome": data.outcome, "cancelled": data.cancelled}
            case e.TicketResolved() | e.TicketClosed():
                if (span := found.get(("main", 1))) is not None and span["ended_at"] is None:
                    span["ended_at"] = at
    for span in found.values():
        node = ticket.visit_of(span["node"], span["visit"])
        if node is not None:
            span["due_at"] = node.due_at  # moved by pauses
        end = span["ended_at"] or now
        span["wall_seconds"] = (end - span["started_at"]).total_seconds()
        span["late"] = span["due_at"] is not None and end > span["due_at"]
    return list(found.values())


def _span(node: str, visit: int, at: datetime, data: e.NodeEntered | None) -> Row:
    return {
        "node": node,
        "visit": visit,
        "stage": data.stage if data is not None else None,
        "group": data.group if data is not None else None,
        "responsible": [],
        "started_at": at,
        "ended_at": None,
        "due_at": data.due_at if data is not None else None,
        "expected_seconds": data.expected_seconds if data is not None else None,
        "outcome": None,
        "cancelled": False,
    }
