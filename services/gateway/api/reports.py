"""Reports over a period, for leads and operators: whose time it was, what had to be done again, what stood still."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime

from sqlalchemy import Connection
from starlette.responses import Response

from services.gateway import performance
from services.gateway.api.base import Call, answer, bad_parameter
from services.gateway.attribution import WAYS, of_period
from shared.ledger import business

REPORT_SECONDS = 15.0
PERIOD = ("from", "to", "by")
Made = Callable[[Connection, datetime, datetime, str], dict[str, object]]


async def attribution(call: Call) -> Response:
    """GET /v1/reports/attribution?from=&to=&by="""
    return await _report(call, WAYS, "team", of_period)


async def repeats(call: Call) -> Response:
    """GET /v1/reports/repeats?from=&to=&by="""

    def made(connection: Connection, since: datetime, until: datetime, way: str) -> dict[str, object]:
        rule = call.context.deps.playbooks.current(connection).document.repeats
        return performance.repeats(connection, rule, since, until, way)

    return await _report(call, performance.REPEAT_WAYS, "kind", made)


async def stalls(call: Call) -> Response:
    """GET /v1/reports/stalls?from=&to=&by="""
    return await _report(call, performance.STALL_WAYS, "owner", performance.stalls)


async def _report(call: Call, ways: Collection[str], default: str, made: Made) -> Response:
    call.need("read_all")
    given = call.parameters(*PERIOD)
    way = given.get("by", default)
    if way not in ways:
        raise bad_parameter("by", f"one of {', '.join(ways)}")
    since = _instant("from", given.get("from"), datetime.fromtimestamp(0, UTC))

    def work(connection: Connection) -> dict[str, object]:
        now = business.now(connection)
        until = min(_instant("to", given.get("to"), now), now)
        if since >= until:
            raise bad_parameter("from", "is before `to`, and in the past")
        return made(connection, since, until, way)

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
