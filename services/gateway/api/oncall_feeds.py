"""Calendar feeds by an address of their own, for programs that can send no key."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection
from starlette.responses import Response

from services.gateway.api.base import Call, answer, bad_parameter, page
from services.gateway.errors import Problem
from shared.access import feeds
from shared.access.feeds import Feed
from shared.ledger import business
from shared.oncall.changes import schedules
from shared.oncall.feed import calendar_feed
from shared.oncall.schedule import Schedule

PRIVATE = {"Cache-Control": "private, no-store", "Referrer-Policy": "no-referrer"}


class FeedIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`person`: the duty of one person alone; everybody's without."""

    person: str | None = None


async def make(call: Call) -> Response:
    """POST /v1/oncall/{schedule}/feeds: an address for a calendar program; it is shown this once."""
    call.need("read")
    wanted: FeedIn = await call.json(FeedIn)

    def work(connection: Connection) -> dict[str, Any]:
        name = call.request.path_params["schedule"]
        _schedule(call, connection, name)
        people = call.context.deps.directory.get(connection).people
        if wanted.person is not None and wanted.person not in people:
            raise bad_parameter("person", f"there is no person {wanted.person!r}")
        made = feeds.make(connection, name, wanted.person, call.principal, business.now(connection))
        if made is None:
            raise Problem(409, "too_many", f"this key has {feeds.MOST} addresses of schedule {name} already")
        connection.commit()
        return _shown(made[0]) | {"path": f"/c/{made[1]}.ics"}

    return answer(await call.context.query(work), 201, PRIVATE)


async def listing(call: Call) -> Response:
    """GET /v1/oncall/{schedule}/feeds: the addresses in force, without their tokens."""
    call.need("read")

    def work(connection: Connection) -> list[dict[str, Any]]:
        name = call.request.path_params["schedule"]
        _schedule(call, connection, name)
        return [_shown(one) for one in feeds.of_schedule(connection, name) if _may(call, one)]

    return answer(page(await call.context.query(work), None))


async def take_back(call: Call) -> Response:
    """DELETE /v1/oncall/{schedule}/feeds/{feed}"""
    call.need("read")
    name, wanted = call.request.path_params["schedule"], call.request.path_params["feed"]

    def work(connection: Connection) -> None:
        known = feeds.of_schedule(connection, name)
        if not any(one.id == wanted and _may(call, one) for one in known):
            raise Problem(404, "not_found", "no such address of this schedule")
        feeds.revoke(connection, wanted, business.now(connection))
        connection.commit()

    await call.context.query(work)
    return Response(status_code=204)


async def read(call: Call) -> Response:
    """GET /c/{token}.ics: the calendar; the address is the key. One whose maker has left shows nothing any more."""

    def work(connection: Connection) -> bytes:
        feed = feeds.by_token(connection, call.request.path_params["token"])
        people = call.context.deps.directory.get(connection).people
        left = (
            feed is not None and feed.person is not None and not (feed.person in people and people[feed.person].active)
        )
        if feed is None or left:
            raise Problem(404, "not_found", "there is no calendar at this address")
        schedule = _schedule(call, connection, feed.schedule)
        names = {name: person.name or name for name, person in people.items()}
        return calendar_feed(schedule, business.now(connection), names=names, only=feed.only)

    found = await call.context.query(work)
    return Response(found, media_type="text/calendar; charset=utf-8", headers=PRIVATE)


def _may(call: Call, feed: Feed) -> bool:
    """Its maker, and whoever may change the directory."""
    return feed.made_by == call.principal.name or "directory" in call.principal.rights


def _shown(feed: Feed) -> dict[str, Any]:
    return {
        "id": feed.id,
        "schedule": feed.schedule,
        "person": feed.only,
        "made_by": feed.made_by,
        "made_at": feed.made_at,
    }


def _schedule(call: Call, connection: Connection, name: str) -> Schedule:
    found = schedules(connection, call.context.deps.playbooks.current(connection)).get(name)
    if found is None:
        raise Problem(404, "not_found", f"no schedule {name!r} in the playbook")
    return found
