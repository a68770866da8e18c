"""Todos and joint task groups across tickets: what somebody has to do beside their tickets themselves."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text
from starlette.responses import Response

from services.gateway import queries
from services.gateway.api.base import Call, answer, bad_parameter, page
from services.gateway.errors import Problem
from shared.ledger import business
from shared.ledger.unit import decode_ticket, dumps

FILTERS = ("person", "state")
STATES = ("open", "done", "closed")


async def todos(call: Call) -> Response:
    """GET /v1/todos: todos and task groups of a person (of the key's own, without `person`), those of the newest tickets first."""
    call.need("read")
    query, limit, after = call.request.query_params, call.limit(), call.cursor()
    for name in query:
        if name not in (*FILTERS, "limit", "cursor"):
            raise bad_parameter(name, "unknown parameter")
    person, state = query.get("person") or call.principal.person, query.get("state", "open")
    if state not in STATES:
        raise bad_parameter("state", f"one of {', '.join(STATES)}")
    if person is None or "\0" in person:
        raise bad_parameter("person", "name a person: this key belongs to nobody")
    if person != call.principal.person and "read_all" not in call.principal.rights:
        raise Problem(403, "forbidden", "this key may not read what others have to do")

    def work(connection: Connection) -> tuple[list[dict[str, Any]], int | None]:
        rows = connection.execute(
            text(
                """select id, state::text as state from ledger.ticket
                where state ? 'tasks' and state -> 'tasks' @> cast(:mine as jsonb) and id < :after order by id desc limit :limit"""
            ),
            {"mine": dumps([{"members": [{"person": person}]}]), "after": after or 2**62, "limit": limit + 1},
        ).all()
        now, masks = business.now(connection), queries.masks(call.context.deps, connection)
        items: list[dict[str, Any]] = []
        for row in rows[:limit]:
            ticket = decode_ticket(row.state)
            about = {
                "ticket": str(ticket.id),
                "number": ticket.number,
                "subject": ticket.subject,
                "status": ticket.status,
            }
            about = queries.shaped(about, call.principal, masks)
            for task in ticket.tasks:
                if task.state == state and any(one.person == person for one in task.members):
                    late = task.state == "open" and task.due_at is not None and task.due_at < now
                    items.append(about | queries.task_row(task) | {"late": late})
        return items, rows[limit - 1].id if len(rows) > limit else None

    items, last = await call.context.query(work)
    return answer(page(items, last))
