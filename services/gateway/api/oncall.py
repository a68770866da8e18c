"""On call: who is, when, the iCalendar feed, and what people change: overrides and temporary schedules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection
from starlette.responses import Response

from services.gateway.api.base import Call, answer, bad_parameter, page
from services.gateway.errors import Problem
from shared.contracts.envelope import New
from shared.contracts.events import ScheduleChanged
from shared.contracts.strict import Fault
from shared.ledger import business, items
from shared.ledger.unit import Unit
from shared.oncall.changes import Change, of_state, schedules
from shared.oncall.conflicts import Absence, outlook
from shared.oncall.feed import calendar_feed
from shared.oncall.schedule import Schedule
from shared.playbook.escalation import FixedShift
from shared.runtime.ids import correlation_id

LONGEST = timedelta(days=400)
AHEAD = timedelta(days=30)
MOST = 500


class ChangeIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An override puts somebody on call (`add`) or takes somebody off (`remove`), both replace one by the other, while it holds.
    A temporary schedule has exactly these `shifts` and nobody else.
    """

    kind: Literal["override", "temporary"] = "override"
    start: datetime
    end: datetime
    add: str | None = None
    remove: str | None = None
    shifts: tuple[FixedShift, ...] = ()


async def listing(call: Call) -> Response:
    """GET /v1/oncall: every schedule with who is on call (`at`), and until when."""
    call.need("read_all")
    at = _instant(call, "at")

    def work(connection: Connection) -> list[dict[str, Any]]:
        moment = at or business.now(connection)
        found = _schedules(call, connection)
        return [
            {"schedule": name, "zone": one.spec.tz, "at": moment, "on_call": sorted(one.users_at(moment))}
            | {"until": one.next_change(moment, AHEAD)}
            for name, one in sorted(found.items())
        ]

    return answer(page(await call.context.query(work), None))


async def read(call: Call) -> Response:
    """GET /v1/oncall/{schedule}: shifts, gaps and leave in conflict with duty, `from` now `to` 30 days later; changes."""
    call.need("read_all")
    opens, closes = _instant(call, "from"), _instant(call, "to")

    def work(connection: Connection) -> dict[str, Any]:
        name, schedule = _schedule(call, connection)
        now = business.now(connection)
        start = opens or now
        end = closes or start + AHEAD
        if not start < end <= start + LONGEST:
            raise bad_parameter("to", f"after `from`, at most {LONGEST.days} days")
        directory = call.context.deps.directory.get(connection)
        away = [
            Absence(person.id, leave.from_at, leave.to_at, leave.delegate)
            for person in directory.people.values()
            for leave in person.leave
        ]
        ahead = outlook(schedule, away, start, end - start)
        return {
            "schedule": name,
            "zone": schedule.spec.tz,
            "from": start,
            "to": end,
            "on_call": sorted(schedule.users_at(now)),
            "shifts": [{"user": o.user, "start": o.start, "end": o.end} for o in schedule.shifts(start, end)],
            "gaps": [{"from": gap_from, "to": gap_to} for gap_from, gap_to in ahead.gaps],
            "conflicts": [msgspec.to_builtins(one, builtin_types=(datetime,)) for one in ahead.conflicts],
            "changes": [
                msgspec.to_builtins(o, builtin_types=(datetime,)) for o in _changes(connection, name) if o.end > now
            ],
        }

    return answer(await call.context.query(work))


async def feed(call: Call) -> Response:
    """GET /v1/oncall/{schedule}/feed.ics: duty as an iCalendar feed, of one `person` where named."""
    call.need("read")
    only = call.request.query_params.get("person")

    def work(connection: Connection) -> bytes:
        _, schedule = _schedule(call, connection)
        people = call.context.deps.directory.get(connection).people
        names = {name: person.name or name for name, person in people.items()}
        return calendar_feed(schedule, business.now(connection), names=names, only=only)

    return Response(await call.context.query(work), media_type="text/calendar; charset=utf-8")


async def change(call: Call) -> Response:
    """POST /v1/oncall/{schedule}/changes: an override or a temporary schedule; at most 500 that are not over."""
    call.need("directory")
    wanted: ChangeIn = await call.json(ChangeIn)
    actor = call.actor()

    def work(connection: Connection) -> dict[str, Any]:
        name, _ = _schedule(call, connection)
        known = call.context.deps.directory.get(connection).people
        made = _made(wanted, actor.id, set(known))
        item_id, version, state = items.locked(connection, call.context.deps.ids, "schedule", name)
        now = business.now(connection)
        kept = [one for one in of_state(state) if one.end > now]
        if len(kept) >= MOST:
            raise Problem(409, "too_many", f"schedule {name} has {MOST} changes that are not over")
        _save(call, connection, (item_id, version), name, [*kept, made], made, taken_back=False)
        plain: dict[str, Any] = msgspec.to_builtins(made, builtin_types=(datetime,))
        return plain

    return answer(await call.context.query(work), 201)


async def take_back(call: Call) -> Response:
    """DELETE /v1/oncall/{schedule}/changes/{change}"""
    call.need("directory")
    wanted = call.request.path_params["change"]

    def work(connection: Connection) -> None:
        name, _ = _schedule(call, connection)
        item_id, version, state = items.locked(connection, call.context.deps.ids, "schedule", name)
        known = of_state(state)
        gone = next((one for one in known if one.id == wanted), None)
        if gone is None:
            raise Problem(404, "not_found", "no such change of this schedule")
        kept = [one for one in known if one.id != wanted]
        _save(call, connection, (item_id, version), name, kept, gone, taken_back=True)

    await call.context.query(work)
    return Response(status_code=204)


# ---- inside --------------------------------------------------------------------------------------------------------------


def _save(
    call: Call,
    connection: Connection,
    item: tuple[int, int],
    name: str,
    kept: list[Change],
    one: Change,
    *,
    taken_back: bool,
) -> None:
    item_id, version = item
    number = call.context.deps.playbook_number(connection)
    unit = Unit(connection, business.now(connection), call.actor(), number, given=True, correlation=call.correlation)
    data = ScheduleChanged(
        schedule=name, change=one.id, kind=one.kind, start=one.start, end=one.end, add=one.add, remove=one.remove,
        shifts=tuple(msgspec.to_builtins(shift) for shift in one.shifts), taken_back=taken_back,
    )  # fmt: skip
    after = unit.append("schedule", item_id, version, [New(data)])
    unit.bump("schedule", item_id, after, {"changes": msgspec.to_builtins(kept)})
    unit.flush()
    connection.commit()


def _made(wanted: ChangeIn, by: str, known: set[str]) -> Change:
    for place, at in (("/start", wanted.start), ("/end", wanted.end)):
        if at.tzinfo is None:
            raise _bad(place, "an instant has an offset")
    if not wanted.start < wanted.end:
        raise _bad("/end", "is after the start")
    if wanted.kind == "override" and wanted.add is None and wanted.remove is None:
        raise _bad("/add", "an override adds or removes somebody")
    if wanted.kind == "override" and wanted.shifts:
        raise _bad("/shifts", "only a temporary schedule has shifts")
    named = [("/add", wanted.add), ("/remove", wanted.remove)]
    named += [(f"/shifts/{i}/user", one.user) for i, one in enumerate(wanted.shifts)]
    for place, person in named:
        if person is not None and person not in known:
            raise _bad(place, f"there is no person {person!r}")
    for i, one in enumerate(wanted.shifts):
        if one.start.tzinfo is None or one.end.tzinfo is None or not one.start < one.end:
            raise _bad(f"/shifts/{i}", "start before end, both with an offset")
    return Change(
        id=correlation_id(), kind=wanted.kind, start=wanted.start.astimezone(UTC), end=wanted.end.astimezone(UTC), by=by,
        add=wanted.add, remove=wanted.remove, shifts=wanted.shifts,
    )  # fmt: skip


def _bad(pointer: str, reason: str) -> Problem:
    return Problem(422, "invalid", f"{pointer}: {reason}", errors=[Fault(pointer, reason)])


def _instant(call: Call, name: str) -> datetime | None:
    text = call.request.query_params.get(name)
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise bad_parameter(name, "an RFC 3339 instant") from None
    if at.tzinfo is None:
        raise bad_parameter(name, "an instant has an offset")
    return at.astimezone(UTC)


def _schedules(call: Call, connection: Connection) -> dict[str, Schedule]:
    return schedules(connection, call.context.deps.playbooks.current(connection))


def _schedule(call: Call, connection: Connection) -> tuple[str, Schedule]:
    name = call.request.path_params["schedule"]
    found = _schedules(call, connection).get(name)
    if found is None:
        raise Problem(404, "not_found", f"no schedule {name!r} in the playbook")
    return name, found


def _changes(connection: Connection, name: str) -> tuple[Change, ...]:
    row = connection.exec_driver_sql(
        "select state from ledger.item where kind = 'schedule' and key = %s", (name,)
    ).one_or_none()
    return () if row is None else of_state(row.state)
