"""Whose time it was, over a period: for leads and operators."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection
from starlette.responses import Response

from services.gateway.api.base import Call, answer, bad_parameter
from services.gateway.attribution import WAYS, of_period
from shared.ledger import business

REPORT_SECONDS = 15.0


async def report(call: Call) -> Response:
    """GET /v1/reports/attribution?from=&to=&by="""
    call.need("read_all")
    given = call.parameters("from", "to", "by")
    way = given.get("by", "team")
    if way not in WAYS:
        raise bad_parameter("by", f"one of {', '.join(WAYS)}")
    since = _instant("from", given.get("from"), datetime.fromtimestamp(0, UTC))

    def work(connection: Connection) -> dict[str, object]:
        now = business.now(connection)
        until = min(_instant("to", given.get("to"), now), now)
        if since >= until:
            raise bad_parameter("from", "is before `to`, and in the past")
        return of_period(connection, since, until, way)

    return answer(await call.context.query(work, seconds=REPORT_SECONDS))


def _instant(name: str, given: str | None, default: datetime) -> datetime:
    if given is None:
        return default
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise bad_parameter(name, "an instant with its offset (2026-01-31T09:00:00+08:00)")
    return at.astimezone(UTC)
