"""Agents, deliveries, quarantine, health: what leads and operators ask for."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import Connection, text
from starlette.responses import Response

from services.gateway import queries
from services.gateway.api.base import Call, answer, bad_parameter, page
from services.gateway.errors import Problem, unavailable
from shared.contracts.envelope import Actor, New
from shared.contracts.events import AgentChanged
from shared.contracts.strict import Unacceptable
from shared.directory.people import Person
from shared.ledger import business, items
from shared.ledger.kinds import KINDS, SERVICES
from shared.ledger.process import Deps
from shared.ledger.unit import Unit
from shared.ticket.commands import parse_id


async def agents(call: Call) -> Response:
    """GET /v1/agents"""
    call.need("read_all")
    call.parameters()
    return answer(page(await call.context.query(lambda c: _agents(call, c)), None))


def _agents(call: Call, connection: Connection, only: str | None = None) -> list[dict[str, Any]]:
    directory = call.context.deps.directory.get(connection)
    loads = {row.agent: row for row in connection.execute(text("select * from router.v_load"))}
    field_masks = queries.masks(call.context.deps, connection)
    return [
        queries.shaped(_agent(person, loads.get(person.id)), call.principal, field_masks)
        for person in sorted(directory.people.values(), key=lambda one: one.id)
        if only == person.id or (only is None and ("agent" in person.roles or person.groups))
    ]


def _agent(person: Person, load: Any) -> dict[str, Any]:
    return {
        "id": person.id,
        "name": person.name,
        "groups": person.groups,
        "presence": person.presence,
        "active": person.active,
        "skills": person.skills,
        "capacity": None if person.capacity >= 1e9 else person.capacity,
        "load": float(load.load) if load else 0.0,
        "open": load.open_count if load else 0,
        "last_assigned_at": load.last_assigned_at if load else None,
        "leave": [msgspec.to_builtins(one) for one in person.leave],
        "manager": person.manager,
    }


class LeaveIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    from_at: datetime
    to_at: datetime
    delegate: str | None = None
    reason: str = ""


class AgentPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What people may set by hand; it outlives `apply` until the playbook's own value changes."""

    presence: Literal["available", "away", "offline"] | None = None
    leave: list[LeaveIn] | None = None
    skills: dict[str, Annotated[int, msgspec.Meta(ge=0, le=10)]] | None = None


def _check_leave(pointer: str, leave: LeaveIn) -> None:
    for name, at in (("from_at", leave.from_at), ("to_at", leave.to_at)):
        if at.tzinfo is None:
            raise Unacceptable(f"{pointer}/{name}", "an instant needs an offset (2026-01-31T09:00:00+08:00)")
        if not 1971 <= at.year <= 9000:
            raise Unacceptable(f"{pointer}/{name}", "lies outside of the years 1971 to 9000")
    if leave.from_at >= leave.to_at:
        raise Unacceptable(f"{pointer}/to_at", "lies before from_at")


async def patch_agent(call: Call) -> Response:
    """PATCH /v1/agents/{id}"""
    who = call.request.path_params["id"]
    if not (
        call.principal.rights & {"directory"}
        or (call.principal.person == who and "own_presence" in call.principal.rights)
    ):
        raise Problem(403, "forbidden", "this key may not change that person")
    patch = await call.json(AgentPatch)
    actor = call.actor()
    for number, leave in enumerate(patch.leave or ()):
        _check_leave(f"/leave/{number}", leave)

    def work(connection: Connection) -> dict[str, Any]:
        directory = call.context.deps.directory.get(connection)
        for number, leave in enumerate(patch.leave or ()):
            if leave.delegate is not None and directory.person(leave.delegate) is None:
                raise Unacceptable(f"/leave/{number}/delegate", f"there is nobody called {leave.delegate!r}")
        change_agent(call.context.deps, connection, who, patch, actor, call.correlation)
        return _agents(call, connection, only=who)[0]

    return answer(await call.context.query(work))


def change_agent(
    deps: Deps, connection: Connection, who: str, patch: AgentPatch, actor: Actor, correlation: str
) -> None:
    """Write what a person (or their lead) set by hand, commit and ring. 404 when there is no such person."""
    row = connection.exec_driver_sql(
        "select id, version, state from ledger.item where kind = 'agent' and key = %s for update", (who,)
    ).one_or_none()
    if row is None or row.version == 0:
        raise Problem(404, "not_found", f"no such person: {who}")
    changes = {
        name: msgspec.to_builtins(value)
        for name in ("presence", "leave", "skills")
        if (value := getattr(patch, name)) is not None and msgspec.to_builtins(value) != row.state.get(name)
    }
    if not changes:
        return
    kept = dict(row.state.get("overridden", {}))
    for name in changes:
        kept.setdefault(name, row.state.get(name))
    number = deps.playbook_number(connection)
    unit = Unit(connection, business.now(connection), actor, number, given=True, correlation=correlation)
    version = unit.append("agent", row.id, row.version, [New(AgentChanged(agent=who, **changes))])
    unit.bump("agent", row.id, version, row.state | changes | {"overridden": kept})
    unit.wake("router", "agent", row.id, "urgent")
    unit.flush()
    connection.commit()
    deps.directory.forget()
    deps.bells.ring(unit.woken)


DELIVERY_STATES = (
    "planned", "held", "sending", "sent", "delivered", "read", "unknown", "failed", "suppressed", "cancelled",
)  # fmt: skip


async def deliveries(call: Call) -> Response:
    """GET /v1/deliveries"""
    call.need("read_all")
    query, limit, after = call.parameters("ticket", "recipient", "state"), call.limit(), call.cursor()
    ticket = parse_id(query["ticket"]) if "ticket" in query else None
    if "ticket" in query and ticket is None:
        raise bad_parameter("ticket", "a ticket's id is a whole number, or T- and one")
    if "state" in query and query["state"] not in DELIVERY_STATES:
        raise bad_parameter("state", f"none of {', '.join(DELIVERY_STATES)}")

    def work(connection: Connection) -> tuple[list[dict[str, Any]], int | None]:
        wanted = {"ticket_id": ticket, "recipient": query.get("recipient"), "state": query.get("state")}
        return queries.deliveries(call.context.deps, connection, call.principal, wanted, limit=limit, after=after)

    return answer(page(*await call.context.query(work)))


async def quarantine(call: Call) -> Response:
    """GET /v1/quarantine"""
    call.need("quarantine")
    call.parameters()
    limit, after = call.limit(), call.cursor()

    def work(connection: Connection) -> list[dict[str, Any]]:
        rows = connection.execute(
            text(
                """select service, kind, id, failures, crashes, quarantined_at, error from ledger.agenda
                where quarantined_at is not null and id > :after order by id, service limit :limit"""
            ),
            {"after": after or 0, "limit": limit + 1},
        ).mappings()
        return [
            dict(row) | {"id": f"{row['service']}:{row['kind']}:{row['id']}", "item": str(row["id"])} for row in rows
        ]

    rows = await call.context.query(work)
    last = int(rows[limit - 1]["item"]) if len(rows) > limit else None
    return answer(page(rows[:limit], last))


async def retry(call: Call) -> Response:
    """POST /v1/quarantine/{id}/retry"""
    call.need("quarantine")
    service, _, rest = call.request.path_params["id"].partition(":")
    kind, _, number = rest.partition(":")
    if service not in SERVICES or kind not in KINDS or parse_id(number) is None:
        raise Problem(404, "not_found", "no such item in quarantine")

    def work(connection: Connection) -> str | None:
        lane = items.release(connection, service, kind, int(number))
        connection.commit()
        return lane

    lane = await call.context.query(work)
    if lane is None:
        raise Problem(404, "not_found", "no such item in quarantine")
    call.context.deps.bells.ring({(service, lane)})
    return answer({"id": call.request.path_params["id"], "state": "due"}, 202)


async def healthz(call: Call) -> Response:
    """GET /healthz: this process lives."""
    return answer({"status": "ok"})


async def readyz(call: Call) -> Response:
    """GET /readyz: the database answers and a playbook is published."""
    if not call.context.health.database_up:
        raise unavailable()
    number = await call.context.query(lambda c: call.context.deps.playbook_number(c))
    return answer({"status": "ready", "playbook_version": number, "redis": call.context.deps.bells.healthy})


async def metrics(call: Call) -> Response:
    """GET /metrics"""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def advance(call: Call) -> Response:
    """POST /internal/advance (test mode): move business time in hand."""
    wanted = await call.json(AdvanceIn)
    if wanted.to is not None and wanted.to.tzinfo is None:
        raise Unacceptable("/to", "an instant needs an offset")

    def work(connection: Connection) -> datetime:
        now = business.now(connection)
        at = now if wanted.to is None else wanted.to
        business.freeze(connection, now)
        moved = business.advance(connection, at)
        connection.commit()
        return moved

    moved = await call.context.query(work)
    call.context.deps.bells.ring({(service, lane) for service in SERVICES for lane in ("urgent", "normal", "bulk")})
    return answer({"now": moved})


class AdvanceIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Move business time to the next due instant, at most to `to`."""

    to: datetime | None = None


async def idle(call: Call) -> Response:
    """GET /internal/idle (test mode): whether anything is due or leased."""

    def work(connection: Connection) -> int:
        return int(
            connection.exec_driver_sql(
                """select count(*) from ledger.agenda where due_at is not null and due_at <= ledger.now()
                and quarantined_at is null"""
            ).scalar_one()
        )

    due = await call.context.query(work)
    return answer({"idle": due == 0, "due": due})
