"""People's questions: tickets, timelines, explanations, deliveries. Ledger and views in, presented plain data out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, text

from services.gateway import attribution
from services.gateway.errors import Problem
from shared.access.present import Masks, hidden, present
from shared.access.principals import Principal
from shared.calendar.business import ALWAYS_OPEN
from shared.contracts import reasons
from shared.contracts.envelope import Recorded
from shared.contracts.events import TicketOpened
from shared.contracts.strict import Fault
from shared.ledger import business, reader
from shared.ledger.process import Deps
from shared.ledger.unit import decode_ticket
from shared.playbook.ticketfacts import STATUSES
from shared.ticket.commands import parse_id
from shared.ticket.state import MAIN, Task, Ticket

Row = dict[str, Any]


def ticket(deps: Deps, connection: Connection, ticket_id: int, principal: Principal) -> Row:
    """A ticket with group, assignee, node, priority and clocks, as the principal may see it. 404 when there is none."""
    row = connection.execute(
        text(
            """select t.state::text as state, e.data::text as opening from ledger.ticket t
            join ledger.event e on e.kind = 'ticket' and e.id = t.id and e.version = 1 where t.id = :id"""
        ),
        {"id": ticket_id},
    ).one_or_none()
    if row is None:
        raise Problem(404, "not_found", "no such ticket")
    found = decode_ticket(row.state)
    opening = msgspec.json.decode(row.opening, type=TicketOpened)
    shown = plain(found) | {"body": opening.body, "clocks": clocks(deps, connection, [ticket_id]).get(ticket_id, [])}
    return shaped(shown, principal, masks(deps, connection))


def plain(ticket: Ticket) -> Row:
    """A ticket's public members."""
    nodes = [
        {
            "name": n.name,
            "visit": n.visit,
            "group": n.group,
            "assignee": n.assignee,
            "entered_at": n.entered_at,
            "due_at": n.due_at,
            "accepted": n.accepted,
            "stage": n.stage,
        }
        for n in ticket.nodes
    ]
    if not nodes and ticket.is_open:
        nodes = [
            {
                "name": MAIN,
                "visit": 1,
                "group": ticket.group,
                "assignee": ticket.assignee,
                "entered_at": ticket.opened_at,
                "due_at": None,
                "accepted": ticket.accepted,
                "stage": None,
            }
        ]
    return {
        "id": str(ticket.id),
        "number": ticket.number,
        "version": ticket.version,
        "status": ticket.status,
        "subject": ticket.subject,
        "source": ticket.source,
        "external_id": ticket.external_id,
        "dedup_key": ticket.dedup_key,
        "kind": ticket.kind,
        "lane": ticket.lane,
        "priority": ticket.priority,
        "labels": {name: msgspec.to_builtins(label) for name, label in ticket.labels.items()},
        "fields": ticket.fields,
        "requester": msgspec.to_builtins(ticket.requester),
        "group": ticket.group,
        "assignee": ticket.assignee,
        "accepted": ticket.accepted,
        "node": ticket.node,
        "nodes": nodes,
        "escalation": ticket.escalation,
        "tasks": [task_row(one) for one in ticket.tasks],
        "merged_into": None if ticket.merged_into is None else str(ticket.merged_into),
        "score": ticket.score,
        "reopened": ticket.reopened,
        "opened_at": ticket.opened_at,
        "updated_at": ticket.updated_at,
        "resolved_at": ticket.resolved_at,
        "closed_at": ticket.closed_at,
        "playbook_version": ticket.playbook,
    }


def task_row(task: Task) -> Row:
    """A todo or task group as people read it; `progress` is the mean of its members'."""
    return {
        "task": task.id,
        "title": task.title,
        "owner": task.owner,
        "members": [{"person": one.person, "progress": one.progress} for one in task.members],
        "progress": sum(one.progress for one in task.members) / len(task.members) if task.members else 0,
        "state": task.state,
        "opened_at": task.opened_at,
        "due_at": task.due_at,
        "closed_at": task.closed_at,
        "note": task.note,
        "escalation": task.escalation,
    }


def masks(deps: Deps, connection: Connection) -> Masks:
    """The playbook's field masks."""
    found: Masks = deps.playbooks.current(connection).document.access.masks
    return found


def shaped(value: Row, principal: Principal, field_masks: Masks) -> Row:
    """Through `present`, the one way out."""
    shown: Row = present(value, principal, field_masks)
    return shown


def clocks(deps: Deps, connection: Connection, ids: list[int]) -> dict[int, list[Row]]:
    """Clocks of tickets as of business now."""
    rows = connection.execute(
        text("select * from sla.v_clock where ticket_id = any(:ids) order by ticket_id, metric, cycle"), {"ids": ids}
    ).mappings()
    now = business.now(connection)
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row["ticket_id"], []).append(_clock(deps, connection, row, now))
    return found


def _clock(deps: Deps, connection: Connection, row: RowMapping, now: datetime) -> Row:
    elapsed = float(row["elapsed_seconds"])
    if row["state"] in ("running", "breached") and not row["paused"] and row["stopped_at"] is None:
        calendar = ALWAYS_OPEN
        if row["calendar"] is not None:
            version = deps.playbooks.get(connection, row["calendar_version"])
            calendar = version.calendars[row["calendar"]]
        elapsed += calendar.between(row["as_of"], max(now, row["as_of"])).total_seconds()
    elapsed, target = round(elapsed, 6), row["target_seconds"]
    kept = {name: value for name, value in row.items() if name not in ("ticket_id", "as_of")}
    left = None if target is None else round(float(target) - elapsed, 6)
    return kept | {"elapsed_seconds": elapsed, "remaining_seconds": left}


# ---- lists ------------------------------------------------------------------------------------------------------------


FILTERS = {
    "status": "status", "group": "group", "assignee": "assignee", "priority": "priority", "source": "source",
    "external_id": "external_id", "q": "subject",
}  # fmt: skip
"""Query parameters of the list of tickets, and the field that each reads."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Filters of a list of tickets."""

    status: tuple[str, ...] = ()
    group: str | None = None
    assignee: str | None = None
    priority: str | None = None
    source: str | None = None
    external_id: str | None = None
    q: str | None = None

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Wanted:
        """From query parameters of known names; 400 for a status that there is not."""
        status = tuple(one for one in query.get("status", "").split(",") if one)
        if strange := sorted(set(status).difference(STATUSES)):
            fault = Fault("status", f"{strange[0]!r} is none of {', '.join(sorted(STATUSES))}")
            raise Problem(400, "invalid", f"status: {fault.reason}", errors=[fault])
        return cls(status, **{name: query.get(name) for name in FILTERS if name != "status"})


def tickets(
    deps: Deps, connection: Connection, wanted: Wanted, limit: int, after: int | None, principal: Principal
) -> tuple[list[Row], int | None]:
    """A page of tickets, newest first, and the key to go on after."""
    field_masks = masks(deps, connection)
    for name, field in FILTERS.items():
        if getattr(wanted, name) and hidden(field, principal, field_masks):
            fault = Fault(name, "this key may not read that field")
            raise Problem(403, "forbidden", f"{name}: {fault.reason}, so it cannot search by it", errors=[fault])
    conditions, values = _conditions(wanted)
    if after is not None:
        conditions.append("t.id < :after")
        values["after"] = after
    where = f"where {' and '.join(conditions)}" if conditions else ""
    rows = connection.execute(
        text(f"select t.id, t.state::text as state from ledger.ticket t {where} order by t.id desc limit :limit"),
        values | {"limit": limit + 1},
    ).all()
    found = [decode_ticket(row.state) for row in rows[:limit]]
    timed = clocks(deps, connection, [one.id for one in found])
    items = [shaped(plain(one) | {"clocks": timed.get(one.id, [])}, principal, field_masks) for one in found]
    return items, found[-1].id if len(rows) > limit else None


def _conditions(wanted: Wanted) -> tuple[list[str], dict[str, Any]]:
    columns = {"group": "group_name", "assignee": "assignee", "priority": "priority", "source": "source"}
    conditions = [f"t.{column} = :{name}" for name, column in columns.items() if getattr(wanted, name) is not None]
    values: dict[str, Any] = {name: getattr(wanted, name) for name in columns if getattr(wanted, name) is not None}
    if wanted.status:
        conditions.append("t.status = any(:status)")
        values["status"] = list(wanted.status)
    if wanted.external_id is not None:
        conditions.append("t.external_id = :external_id")
        values["external_id"] = wanted.external_id
    if wanted.q:
        number = parse_id(wanted.q)
        conditions.append("(t.id = :number or t.state ->> 'subject' ilike :q)")
        escaped = wanted.q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        values |= {"number": number if number is not None else -1, "q": f"%{escaped}%"}
    return conditions, values


# ---- one ticket's story ---------------------------------------------------------------------------------------------------


def event_row(event: Recorded) -> Row:
    """An event as people read it."""
    return {
        "version": event.version,
        "type": event.type,
        "happened_at": event.happened_at,
        "recorded_at": event.recorded_at,
        "actor": msgspec.to_builtins(event.actor),
        "given": event.given,
        "playbook_version": event.playbook,
        "correlation": event.correlation,
        "reason": event.reason,
        "data": msgspec.to_builtins(event.data),
    }


def _story(connection: Connection, ticket_id: int) -> list[Recorded]:
    events = reader.stream(connection, "ticket", ticket_id)
    if not events:
        raise Problem(404, "not_found", "no such ticket")
    return [msgspec.structs.replace(event, reason=reasons.told(event.reason)) for event in events]


def timeline(deps: Deps, connection: Connection, ticket_id: int, principal: Principal) -> list[Row]:
    """Every event of a ticket, with actor and reason."""
    field_masks = masks(deps, connection)
    rows = []
    for event in _story(connection, ticket_id):
        row = event_row(event)
        if event.actor.kind == "customer":
            row["actor"] = _contact(row["actor"], principal, field_masks)
        rows.append(shaped(row, principal, field_masks))
    return rows


def _contact(row: Row, principal: Principal, field_masks: Masks) -> Row:
    """A row whose `address` is the requester's: shown as their own `phone` or `email` would be."""
    address = row.get("address")
    if address is None:
        return row
    field = "email" if "@" in address else "phone"
    shown = present({"requester": {field: address}}, principal, field_masks).get("requester", {}).get(field)
    return row | {"address": shown}


def explain(deps: Deps, connection: Connection, ticket_id: int, principal: Principal) -> Row:
    """Why a ticket is where it is: classification, rule, candidates, clocks, escalation, deliveries."""
    events, field_masks = _story(connection, ticket_id), masks(deps, connection)
    by_type: dict[str, list[Row]] = {}
    for event in events:
        if event.reason is not None:
            by_type.setdefault(event.type, []).append(
                {"at": event.happened_at, "version": event.version, "type": event.type}
                | {"playbook_version": event.playbook, "data": msgspec.to_builtins(event.data), "reason": event.reason}
            )
    story: Row = {
        "id": str(ticket_id),
        "number": f"T-{ticket_id}",
        "classification": by_type.get("ticket.classified", []),
        "held": by_type.get("ticket.held", []),
        "ended": [
            {"at": event.happened_at, "type": event.type, "data": msgspec.to_builtins(event.data)}
            for event in events
            if event.type in ("ticket.merged", "ticket.closed")
        ],
        "assignment": sorted(
            (
                one
                for kind in ("ticket.assigned", "ticket.offered", "ticket.queued", "ticket.assignment_failed")
                for one in by_type.get(kind, [])
            ),
            key=lambda one: one["version"],
        ),
        "sla": {
            "clocks": clocks(deps, connection, [ticket_id]).get(ticket_id, []),
            "decisions": [one for kind, rows in by_type.items() if kind.startswith("sla.") for one in rows],
        },
        "attribution": attribution.of_ticket(connection, ticket_id, business.now(connection)),
        "escalation": {
            "escalations": view(connection, "escalation.v_escalation", ticket_id, "escalation"),
            "decisions": [
                one for kind, rows in by_type.items() if kind.startswith(("escalation.", "node.")) for one in rows
            ],
        },
        "deliveries": [
            _to_requester(row, principal, field_masks)
            for row in view(connection, "notifier.v_delivery", ticket_id, "id")
        ],
        "assignments": view(connection, "router.v_assignment", ticket_id, "assignment"),
        "ownership": view(connection, "router.v_ownership", ticket_id, "span"),
        "waiting": view(connection, "router.v_waiting", ticket_id, "queued_at"),
    }
    return shaped(story, principal, field_masks)


def _to_requester(row: Row, principal: Principal, field_masks: Masks) -> Row:
    return _contact(row, principal, field_masks) if row["recipient"] == "requester" else row


def view(connection: Connection, name: str, ticket_id: int, order: str) -> list[Row]:
    """Rows of a service's view about one ticket."""
    rows = connection.execute(text(f"select * from {name} where ticket_id = :id order by {order}"), {"id": ticket_id})
    return [{key: value for key, value in row.items() if key != "ticket_id"} for row in rows.mappings()]


def deliveries(
    deps: Deps,
    connection: Connection,
    principal: Principal,
    wanted: Mapping[str, Any],
    *,
    limit: int,
    after: int | None,
) -> tuple[list[Row], int | None]:
    """What was sent to whom, newest first; `wanted`: columns of the view and their values, None for any."""
    conditions = [f"{name} = :{name}" for name, value in wanted.items() if value is not None]
    if after is not None:
        conditions.append("id < :after")
    where = f"where {' and '.join(conditions)}" if conditions else ""
    rows = connection.execute(
        text(f"select * from notifier.v_delivery {where} order by id desc limit :limit"),
        {name: value for name, value in {**wanted, "after": after}.items() if value is not None} | {"limit": limit + 1},
    ).mappings()
    items = [dict(row) for row in rows]
    more = len(items) > limit
    items = items[:limit]
    last = items[-1]["id"] if more else None
    for row in items:
        row["id"] = str(row["id"])
        row["ticket_id"] = None if row["ticket_id"] is None else str(row["ticket_id"])
    field_masks = masks(deps, connection)
    return [shaped(_to_requester(row, principal, field_masks), principal, field_masks) for row in items], last
