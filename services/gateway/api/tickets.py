"""Tickets: taking them in, reading them, acting on them."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection
from starlette.responses import Response

from services.gateway import queries
from services.gateway.actions import Outcome, act
from services.gateway.admission import overloaded
from services.gateway.api.base import JSON_TYPES, Call, answer, from_fault, page
from services.gateway.errors import Problem, unavailable
from services.gateway.intake import Answer, Submission
from shared.contracts import intake as wire
from shared.contracts.envelope import Actor
from shared.contracts.strict import Fault, Unacceptable, decode
from shared.playbook.intakecheck import check_values
from shared.ticket.commands import AnyCommand, Jump, Set, parse_id
from shared.ticket.state import Ticket

BATCH_LINES = 10_000
BATCH_BYTES = 64 << 20
BATCH_SECONDS = 30.0


async def create(call: Call) -> Response:
    """POST /v1/tickets"""
    call.need("open")
    if call.context.admission.full:
        raise overloaded()
    ticket = await call.json(wire.TicketIn)
    key = call.request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= 200:
        raise Problem(400, "invalid", "Idempotency-Key has 1 to 200 characters")
    submission = Submission(
        ticket, call.actor(), call.correlation, (call.principal.key_id, key) if key is not None else None
    )
    if not call.context.health.database_up:
        raise unavailable()
    urgent = call.context.intake.lane(ticket) == "urgent"
    came_at = call.context.admission.admit(urgent=urgent)
    try:
        return _created(await call.context.commits.submit(submission, urgent=urgent))
    except TimeoutError:
        raise unavailable() from None
    finally:
        call.context.admission.leave(came_at)


def _created(done: Answer) -> Response:
    if done.fault is not None:
        raise from_fault(done.fault) if not done.missing else _incomplete(done.fault, done.missing)
    assert done.ticket is not None
    if done.conflict:
        raise Problem(409, "conflict", "the same key came with another body before", extra={"id": str(done.ticket.id)})
    return answer(accepted(done.ticket), 202, {"Location": f"/v1/tickets/{done.ticket.id}"})


def _incomplete(fault: Fault, missing: tuple[str, ...]) -> Problem:
    errors = [Fault(f"/fields/{name}", "required member is missing") for name in missing]
    return Problem(422, "material_missing", fault.reason, errors=errors, extra={"missing": list(missing)})


def accepted(ticket: Ticket) -> dict[str, Any]:
    """What an intake answers about a ticket; a repeat names the open ticket that it was noted on."""
    shown = {"id": str(ticket.id), "number": ticket.number, "status": ticket.status, "version": ticket.version}
    return shown if ticket.merged_into is None else shown | {"merged_into": str(ticket.merged_into)}


async def create_batch(call: Call) -> Response:
    """POST /v1/tickets/batch: one outcome a line, in order; accepted ones are committed together."""
    call.need("open")
    call.need_content("application/x-ndjson", "application/jsonl", "application/ndjson", *JSON_TYPES)
    actor = call.actor()
    if call.context.batches.locked() or call.context.admission.full:
        raise overloaded()
    async with call.context.batches:
        return await _batch(call, actor)


async def _batch(call: Call, actor: Actor) -> Response:
    body = await call.body(BATCH_BYTES)

    def work(
        _: Connection,
    ) -> bytes:  # in a thread: ten thousand lines take a second, and others want answers meanwhile
        lines = [line for line in body.split(b"\n") if line.strip()]
        if len(lines) > BATCH_LINES:
            raise Problem(413, "too_large", f"a batch has at most {BATCH_LINES:,} lines, this one {len(lines):,}")
        read = [_read(line) for line in lines]
        submissions = [Submission(one, actor, call.correlation) for one in read if not isinstance(one, Fault)]
        done = iter(call.context.intake.open_many(submissions))
        written = [_line(one if isinstance(one, Fault) else next(done)) for one in read]
        return b"".join(msgspec.json.encode(one) + b"\n" for one in written)

    answered = await call.context.query(work, seconds=BATCH_SECONDS)
    return Response(answered, 200, media_type="application/x-ndjson")


def _read(line: bytes) -> wire.TicketIn | Fault:
    try:
        return decode(line, wire.TicketIn)
    except Unacceptable as error:
        return error.fault


def _line(outcome: Answer | Fault) -> dict[str, Any]:
    fault = outcome if isinstance(outcome, Fault) else outcome.fault
    if fault is not None:
        missing = outcome.missing if isinstance(outcome, Answer) else ()
        faulty = {"status": 422, "errors": [{"pointer": fault.pointer, "reason": fault.reason}]}
        return faulty | ({"missing": list(missing)} if missing else {})
    assert isinstance(outcome, Answer)
    assert outcome.ticket is not None
    if outcome.conflict:
        return {
            "status": 409,
            "id": str(outcome.ticket.id),
            "errors": [{"pointer": "/external_id", "reason": "conflict"}],
        }
    return {"status": 202, **{f"ticket_{k}" if k == "status" else k: v for k, v in accepted(outcome.ticket).items()}}


def ticket_id(call: Call) -> int:
    """The id in the path, or 404."""
    found = parse_id(call.request.path_params["id"])
    if found is None:
        fault = Fault("id", "a ticket's id is a whole number, or T- and one")
        raise Problem(404, "not_found", "no such ticket", errors=[fault])
    return found


async def read(call: Call) -> Response:
    """GET /v1/tickets/{id}"""
    call.need("read")
    wanted = ticket_id(call)
    return answer(await call.context.query(lambda c: queries.ticket(call.context.deps, c, wanted, call.principal)))


async def listing(call: Call) -> Response:
    """GET /v1/tickets"""
    call.need("read_all")
    wanted = queries.Wanted.from_query(call.parameters(*queries.FILTERS))
    limit, after = call.limit(), call.cursor()
    items, last = await call.context.query(
        lambda c: queries.tickets(call.context.deps, c, wanted, limit, after, call.principal)
    )
    return answer(page(items, last))


async def timeline(call: Call) -> Response:
    """GET /v1/tickets/{id}/timeline"""
    call.need("read")
    wanted = ticket_id(call)
    items = await call.context.query(lambda c: queries.timeline(call.context.deps, c, wanted, call.principal))
    return answer(page(items, None))


async def explain(call: Call) -> Response:
    """GET /v1/tickets/{id}/explain"""
    call.need("read")
    wanted = ticket_id(call)
    return answer(await call.context.query(lambda c: queries.explain(call.context.deps, c, wanted, call.principal)))


async def action(call: Call) -> Response:
    """POST /v1/tickets/{id}/actions"""
    wanted = ticket_id(call)
    command: AnyCommand = await call.json(AnyCommand)  # type: ignore[arg-type]
    name = type(command).__struct_config__.tag
    if name not in call.principal.actions:
        raise Problem(403, "forbidden", f"this key may not {name}")
    if isinstance(command, Jump) and command.free and "waive" not in call.principal.actions:
        raise Problem(403, "forbidden", "this key may not send a ticket where its flow declares no jump")
    actor = call.actor(command.actor)

    def work(connection: Connection) -> tuple[Outcome, dict[str, Any] | None]:
        if isinstance(command, Set):
            playbook = call.context.deps.playbooks.current(connection)
            check_values(playbook, fields=command.fields, labels=command.labels)
        outcome = act(call.context.deps, connection, wanted, command, actor, call.correlation)
        shown = queries.ticket(call.context.deps, connection, wanted, call.principal) if outcome.ticket else None
        connection.rollback()
        return outcome, shown

    outcome, shown = await call.context.query(work)
    if outcome.ticket is None:
        raise Problem(404, "not_found", "no such ticket")
    if outcome.refused is not None:
        extra: dict[str, Any] = {"ticket": shown}
        if outcome.refused.missing:
            extra["missing"] = list(outcome.refused.missing)
        status = (
            422 if outcome.refused.code in ("invalid", "unknown_group", "unknown_agent", "unknown_priority") else 409
        )
        raise Problem(status, outcome.refused.code, outcome.refused.reason, extra=extra)
    return answer(shown)
