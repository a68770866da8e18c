"""`/v1/preferences`: what a person wishes to hear of, where and when; and what holds for a team whose people say nothing."""

from __future__ import annotations

import re
from typing import Any, Literal
from zoneinfo import available_timezones

import msgspec
from sqlalchemy import Connection
from starlette.responses import Response

from services.gateway.api.base import Call, answer
from services.gateway.errors import Problem
from shared.contracts.envelope import New
from shared.contracts.events import AgentChanged
from shared.contracts.strict import Unacceptable
from shared.ledger import business
from shared.ledger.unit import Unit

_HOURS = re.compile(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d")
_TOPIC = re.compile(r"\*|[a-z_]+\.[a-z_]+|[A-Za-z][\w.-]{0,63}")
_LOCALE = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-[A-Z]{2}|-\d{3})?")
MOST = 100

Choices = dict[str, dict[str, Literal["on", "off"]]]


class PreferencesIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is given is set whole. `preferences`: topic (a message rule, an event type or `*`) -> channel (or `*`) -> on or off;
    `quiet_hours`: 22:00-07:00 in `zone`, or an empty text for none.
    """

    preferences: Choices | None = None
    quiet_hours: str | None = None
    locale: str | None = None
    zone: str | None = None


class TeamPreferencesIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for a team's people where they say nothing themselves."""

    preferences: Choices


_PERSONAL = ("preferences", "quiet_hours", "locale", "zone")


async def read(call: Call) -> Response:
    """GET /v1/preferences: the person's own."""
    who = _person(call)
    return answer(await call.context.query(lambda connection: _shown(connection, "agent", who, _PERSONAL)))


async def write(call: Call) -> Response:
    """PUT /v1/preferences"""
    who, wanted = _person(call), await call.json(PreferencesIn)
    _check(wanted.preferences)
    if wanted.quiet_hours and not _HOURS.fullmatch(wanted.quiet_hours):
        raise Unacceptable("/quiet_hours", "written 22:00-07:00, or empty for none")
    if wanted.locale is not None and not _LOCALE.fullmatch(wanted.locale):
        raise Unacceptable("/locale", "a locale like zh-CN or en")
    if wanted.zone is not None and wanted.zone not in available_timezones():
        raise Unacceptable("/zone", "a time zone like Asia/Shanghai")
    changes = {name: value for name in _PERSONAL if (value := getattr(wanted, name)) is not None}
    return answer(await call.context.query(lambda connection: _set(call, connection, "agent", who, changes)))


async def read_team(call: Call) -> Response:
    """GET /v1/preferences/teams/{group}"""
    call.need("read_all")
    name = call.request.path_params["group"]
    return answer(await call.context.query(lambda connection: _shown(connection, "group", name, ("preferences",))))


async def write_team(call: Call) -> Response:
    """PUT /v1/preferences/teams/{group}"""
    call.need("directory")
    name, wanted = call.request.path_params["group"], await call.json(TeamPreferencesIn)
    _check(wanted.preferences)
    changes = {"preferences": wanted.preferences}
    return answer(await call.context.query(lambda connection: _set(call, connection, "group", name, changes)))


def _person(call: Call) -> str:
    if call.principal.person is None:
        raise Problem(403, "forbidden", "preferences belong to a person: use a personal key")
    return call.principal.person


def _check(preferences: Choices | None) -> None:
    for topic, channels in (preferences or {}).items():
        if not _TOPIC.fullmatch(topic) or not channels:
            raise Unacceptable(
                f"/preferences/{topic[:50]}", "a message rule, an event type or *, with at least one channel"
            )
    if sum(len(channels) for channels in (preferences or {}).values()) > MOST:
        raise Unacceptable("/preferences", f"at most {MOST} entries")


def _row(connection: Connection, kind: str, key: str, *, lock: bool = False) -> Any:
    row = connection.exec_driver_sql(
        f"select id, version, state from ledger.item where kind = %s and key = %s {'for update' if lock else ''}",
        (kind, key),
    ).one_or_none()
    if row is None or row.version == 0:
        raise Problem(404, "not_found", "there is nobody of that name")
    return row


def _shown(connection: Connection, kind: str, key: str, names: tuple[str, ...]) -> dict[str, Any]:
    state = _row(connection, kind, key).state
    empty: dict[str, Any] = {"preferences": {}}
    return {name: state.get(name, empty.get(name)) for name in names}


def _set(call: Call, connection: Connection, kind: str, key: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Write what was set by hand; it outlives `apply` until the playbook's own value changes."""
    row, deps = _row(connection, kind, key, lock=True), call.context.deps
    changes = {name: value for name, value in changes.items() if row.state.get(name) != value}
    if changes:
        kept = dict(row.state.get("overridden", {}))
        for name in changes:
            kept.setdefault(name, row.state.get(name))
        unit = Unit(
            connection, business.now(connection), call.actor(), deps.playbook_number(connection), given=True,
            correlation=call.correlation,
        )  # fmt: skip
        version = unit.append(kind, row.id, row.version, [New(AgentChanged(agent=key, record=changes))])
        unit.bump(kind, row.id, version, row.state | changes | ({"overridden": kept} if kind == "agent" else {}))
        unit.flush()
        connection.commit()
        deps.directory.forget()
    names = _PERSONAL if kind == "agent" else ("preferences",)
    return _shown(connection, kind, key, names)
