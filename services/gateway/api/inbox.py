"""`/v1/inbox`: a person's messages in the application, with their own key: list, stream, read marks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

from services.gateway import inbox, reports
from services.gateway.api.base import Call, answer, page
from services.gateway.errors import Problem
from shared.contracts.strict import Fault, Unacceptable, decode
from shared.ticket.commands import parse_id

HEARTBEAT_SECONDS = 15.0
FIRST = 50


def _person(call: Call) -> str:
    if call.principal.person is None:
        raise Problem(403, "forbidden", "an inbox belongs to a person: use a personal key")
    return call.principal.person


async def listing(call: Call) -> Response:
    """GET /v1/inbox"""
    person, limit, before = _person(call), call.limit(), call.cursor()
    unread = call.request.query_params.get("unread", "")
    if unread not in ("", "0", "1", "true", "false"):
        raise Problem(400, "invalid", "bad query", errors=[Fault("unread", "1 or 0")])

    def work(connection: Any) -> dict[str, Any]:
        items, last = inbox.listing(
            connection, person, unread=unread in ("1", "true"), limit=limit, before=before
        )  # fmt: skip
        return page(items, last) | {"unread": inbox.unread_count(connection, person)}

    return answer(await call.context.query(work))


class ReadIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Messages that were read: `ids` of the inbox, or `all`."""

    ids: tuple[str, ...] = ()
    all: bool = False


async def mark(call: Call) -> Response:
    """POST /v1/inbox/read"""
    person, wanted, deps = _person(call), decode(await call.body(), ReadIn), call.context.deps
    if bool(wanted.ids) == wanted.all:
        raise Unacceptable("/ids", "name ids, or say all")
    ids = [parse_id(one) for one in wanted.ids]
    if None in ids or len(ids) > 1_000:
        raise Unacceptable("/ids", "at most 1,000 ids as the inbox shows them")

    def work(connection: Any) -> int:
        found = inbox.unread_of(connection, person, None if wanted.all else [one for one in ids if one is not None])
        if found:
            reports.mark_read(deps, connection, person, found, call.correlation)
        return len(found)

    return answer({"marked": await call.context.query(work)}, 202)


async def stream(call: Call) -> Response:
    """GET /v1/inbox/stream: server-sent events. `inbox` has the unread ones and their number, at first and at every change."""
    person = _person(call)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(call, person), media_type="text/event-stream", headers=headers)


async def _events(call: Call, person: str) -> AsyncIterator[bytes]:
    def work(connection: Any) -> dict[str, Any]:
        items, _ = inbox.listing(connection, person, unread=True, limit=FIRST, before=None)
        return {"unread": inbox.unread_count(connection, person), "items": items}

    with call.context.hub.listen(person) as changed:
        said = b""
        while True:
            changed.clear()
            try:
                now = msgspec.json.encode(await call.context.query(work))
            except Problem:  # the database is away: the stream stays, and goes on when it is back
                now = said
            if now != said:
                said = now
                yield b"event: inbox\ndata: " + now + b"\n\n"
            try:
                await asyncio.wait_for(changed.wait(), HEARTBEAT_SECONDS)
            except TimeoutError:
                yield b": still here\n\n"
