"""The board and the Gantt view: where every open ticket stands, how long, what is in its way; and the spans of its nodes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from services.gateway import boards
from services.gateway.api.base import Call, answer, bad_parameter, page
from shared.ticket.commands import parse_id

BOARD_FILTERS = ("stage", "group", "owner")
GANTT_FILTERS = ("ticket", "group", "kind")


def _known(call: Call, names: tuple[str, ...]) -> dict[str, str]:
    query = call.request.query_params
    for name, value in query.items():
        if name not in (*names, "limit", "cursor"):
            raise bad_parameter(name, "unknown parameter")
        if "\0" in value:
            raise bad_parameter(name, "holds a NUL character")
    return {name: query[name] for name in names if query.get(name)}


async def board(call: Call) -> Response:
    """GET /v1/board: open tickets by stage, those that are due first; with dwell time, block risk and its reason."""
    call.need("read_all")
    wanted, limit = _known(call, BOARD_FILTERS), call.limit()
    after = boards.Place.read(call.request.query_params.get("cursor") or "")

    def work(connection: Connection) -> dict[str, Any]:
        shown, last = boards.cards(call.context.deps, connection, wanted, limit, after, call.principal)
        stages = boards.stages(call.context.deps, connection, wanted)
        return {"stages": stages, "items": shown, "next": None if last is None else last.written()}

    return answer(await call.context.query(work))


async def gantt(call: Call) -> Response:
    """GET /v1/gantt: tickets with the spans of their nodes, newest first; of one ticket with `ticket`."""
    call.need("read_all")
    wanted, limit, after = _known(call, GANTT_FILTERS), call.limit(), call.cursor()
    number = parse_id(wanted["ticket"]) if "ticket" in wanted else None
    if "ticket" in wanted and number is None:
        return answer(page([], None))
    items, last = await call.context.query(
        lambda connection: boards.spans(
            call.context.deps, connection, call.principal, ticket=number, group=wanted.get("group"),
            kind=wanted.get("kind"), limit=limit, after=after,
        )
    )  # fmt: skip
    return answer(page(items, last))
