"""Webhook subscriptions: made, listed, changed, their secrets rotated, parked deliveries redriven, the log replayed.

A subscription is an item of the ledger; the notifier delivers. A secret is shown once, when it is made.
"""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import Connection, text
from starlette.responses import Response

from services.gateway.api.base import Call, answer, page
from services.gateway.errors import Problem
from shared.access.present import hidden
from shared.contracts import topics
from shared.contracts.envelope import New
from shared.contracts.events import Data, SubscriptionChanged, SubscriptionRedriven, SubscriptionRewound, topic_type
from shared.contracts.strict import Fault, decode
from shared.contracts.targets import is_allowed, parse_networks
from shared.ledger import business
from shared.ledger.unit import Unit
from shared.runtime.ids import random_bytes, random_token

LOOPBACK = ("127.0.0.0/8", "::1/128")
Scalar = str | int | float | bool


class SubscriptionIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new subscription.

    `types` as in `GET /v1/events`, absent: all. `filter`: member of the event (`subject`, `data.priority`) to the value or values
    wanted. `order`: with `ticket` an event waits until the earlier ones of its ticket are delivered. `after`: begin behind this
    cursor (absent: with what comes from now on). `secret`: whsec_ and base64 of 24 to 64 bytes; absent: one is made.
    """

    url: Annotated[str, msgspec.Meta(max_length=2000)]
    types: Annotated[list[str], msgspec.Meta(min_length=1, max_length=200)] | None = None
    filter: Annotated[dict[str, Scalar | list[Scalar]], msgspec.Meta(max_length=20)] = {}
    order: Literal["none", "ticket"] = "none"
    after: str | None = None
    secret: str | None = None


class SubscriptionPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be changed: pause, go on (also after a 410), another address."""

    url: Annotated[str, msgspec.Meta(max_length=2000)] | None = None
    status: Literal["active", "paused"] | None = None


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`finish` drops the old secret; else a new one is made and both sign."""

    finish: bool = False


class Redrive(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which parked events to try anew: all of them, those named by `sequences`, or those of a `subject`."""

    sequences: Annotated[list[str], msgspec.Meta(min_length=1, max_length=10_000)] | None = None
    subject: str | None = None


class Replay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Deliver again everything after this cursor."""

    after: str


async def create(call: Call) -> Response:
    """POST /v1/subscriptions"""
    call.need("subscribe")
    wanted = decode(await call.body(), SubscriptionIn)
    await _check_target(call, wanted.url)
    types = _types(wanted.types)
    secret, token = _secret(wanted.secret), f"sub_{random_token(12)}"
    end = await call.context.feed.settled(call.context.query)
    start = end if wanted.after is None else _cursor("/after", wanted.after)

    def work(connection: Connection) -> dict[str, Any]:
        state: dict[str, Any] = {
            "url": wanted.url, "secrets": [secret], "roles": sorted(call.principal.roles), "name": token, "start": start,
            "ordered": wanted.order == "ticket", "filter": _filter(call, connection, wanted.filter),
        } | ({} if types is None else {"types": list(types)})  # fmt: skip
        item_id = call.context.deps.ids.take(connection, 1)[0]
        connection.exec_driver_sql(
            "insert into ledger.item (id, kind, key) values (%s, 'subscription', %s)", (item_id, token)
        )
        _write(call, connection, item_id, 0, state, SubscriptionChanged(subscription=token, url=wanted.url))
        return _shown(token, state, None) | {"secret": secret}

    return answer(await call.context.query(work), 201)


async def listing(call: Call) -> Response:
    """GET /v1/subscriptions"""
    call.need("subscribe")
    limit, after = call.limit(), call.cursor()

    def work(connection: Connection) -> list[Any]:
        rows = connection.execute(
            text(
                """select i.id, i.key, i.state, v.* from ledger.item i left join notifier.v_subscription v on v.id = i.id
                where i.kind = 'subscription' and coalesce(i.state ->> 'status', 'active') <> 'deleted' and i.id > :after
                order by i.id limit :limit"""
            ),
            {"after": after or 0, "limit": limit + 1},
        ).all()
        return [(row[0], _shown(row.key, row.state, row if row.position is not None else None)) for row in rows]

    found = await call.context.query(work)
    last = found[limit - 1][0] if len(found) > limit else None
    return answer(page([one for _, one in found[:limit]], last))


async def read(call: Call) -> Response:
    """GET /v1/subscriptions/{id}"""
    call.need("subscribe")
    return answer(await call.context.query(lambda connection: _read(connection, _key(call))))


async def change(call: Call) -> Response:
    """PATCH /v1/subscriptions/{id}"""
    call.need("subscribe")
    patch = decode(await call.body(), SubscriptionPatch)
    if patch.url is not None:
        await _check_target(call, patch.url)

    def apply(state: dict[str, Any]) -> tuple[dict[str, Any], Data]:
        changed = dict(state)
        if patch.url is not None:
            changed["url"] = patch.url
        if patch.status is not None:
            changed |= {"status": patch.status, "why": ""}
        status = changed.get("status", "active")
        return changed, SubscriptionChanged(subscription=_key(call), url=changed["url"], status=status)

    return answer(await _act(call, apply))


async def remove(call: Call) -> Response:
    """DELETE /v1/subscriptions/{id}"""
    call.need("subscribe")

    def apply(state: dict[str, Any]) -> tuple[dict[str, Any], Data]:
        gone = SubscriptionChanged(subscription=_key(call), url=state["url"], status="deleted")
        return state | {"status": "deleted", "secrets": []}, gone

    await _act(call, apply, read_back=False)
    return Response(status_code=204)


async def rotate(call: Call) -> Response:
    """POST /v1/subscriptions/{id}/rotate"""
    call.need("subscribe")
    wanted = decode(await call.body() or b"{}", Rotation)
    secret = _secret()

    def apply(state: dict[str, Any]) -> tuple[dict[str, Any], Data]:
        old = list(state["secrets"])
        kept = old[:1] if wanted.finish else [secret, *old[:1]]
        return state | {"secrets": kept}, SubscriptionChanged(
            subscription=_key(call), url=state["url"], status=state.get("status", "active"),
            why="secret rotated" if wanted.finish else "secret rotating",
        )  # fmt: skip

    return answer(await _act(call, apply) | ({} if wanted.finish else {"secret": secret}))


async def parked(call: Call) -> Response:
    """GET /v1/subscriptions/{id}/deliveries"""
    call.need("subscribe")
    limit, after, state = call.limit(), call.cursor(), call.request.query_params.get("state")

    def work(connection: Connection) -> list[dict[str, Any]]:
        rows = connection.execute(
            text(
                """select w.position, w.subject, w.attempts, w.state, w.due_at, w.error, w.first_at
                from notifier.v_webhook w join ledger.item i on i.id = w.subscription_id
                where i.kind = 'subscription' and i.key = :key and w.position > :after
                    and (cast(:state as text) is null or w.state = :state)
                order by w.position limit :limit"""
            ),
            {"key": _key(call), "after": after or 0, "limit": limit + 1, "state": state},
        ).mappings()
        return [dict(row) | {"sequence": topics.sequence(row["position"])} for row in rows]

    rows = await call.context.query(work)
    last = rows[limit - 1]["position"] if len(rows) > limit else None
    return answer(page([{k: v for k, v in row.items() if k != "position"} for row in rows[:limit]], last))


async def redrive(call: Call) -> Response:
    """POST /v1/subscriptions/{id}/redrive"""
    call.need("subscribe")
    wanted = decode(await call.body() or b"{}", Redrive)
    named = None if wanted.sequences is None else [_cursor("/sequences", one) for one in wanted.sequences]

    def apply(state: dict[str, Any], connection: Connection) -> tuple[dict[str, Any], Data]:
        positions = named
        if wanted.subject is not None:
            rows = connection.execute(
                text(
                    """select w.position from notifier.v_webhook w join ledger.item i on i.id = w.subscription_id
                    where i.kind = 'subscription' and i.key = :key and w.state = 'parked' and w.subject = :subject"""
                ),
                {"key": _key(call), "subject": wanted.subject},
            )
            of_subject = {row.position for row in rows}
            positions = sorted(of_subject if named is None else of_subject & set(named))
        return state, SubscriptionRedriven(
            subscription=_key(call), positions=None if positions is None else tuple(positions)
        )

    return answer(await _act_with(call, apply), 202)


async def replay(call: Call) -> Response:
    """POST /v1/subscriptions/{id}/replay"""
    call.need("subscribe")
    wanted = decode(await call.body(), Replay)
    after = _cursor("/after", wanted.after)
    return answer(
        await _act(call, lambda state: (state, SubscriptionRewound(subscription=_key(call), after=after))), 202
    )


# ---- inside -----------------------------------------------------------------------------------------------------------------

Apply = Callable[[dict[str, Any]], tuple[dict[str, Any], Data]]
ApplyWith = Callable[[dict[str, Any], Connection], tuple[dict[str, Any], Data]]


async def _act(call: Call, apply: Apply, *, read_back: bool = True) -> dict[str, Any]:
    return await _act_with(call, lambda state, _: apply(state), read_back=read_back)


async def _act_with(call: Call, apply: ApplyWith, *, read_back: bool = True) -> dict[str, Any]:
    """Lock the subscription, change it, tell the notifier."""

    def work(connection: Connection) -> dict[str, Any]:
        row = connection.exec_driver_sql(
            """select id, version, state from ledger.item where kind = 'subscription' and key = %s
            and coalesce(state ->> 'status', 'active') <> 'deleted' for update""",
            (_key(call),),
        ).one_or_none()
        if row is None:
            raise Problem(404, "not_found", "no such subscription")
        state, data = apply(row.state, connection)
        _write(call, connection, row.id, row.version, state, data)
        return _read(connection, _key(call)) if read_back else {}

    return await call.context.query(work)


def _write(call: Call, connection: Connection, item_id: int, version: int, state: dict[str, Any], data: Data) -> None:
    deps = call.context.deps
    unit = Unit(
        connection, business.now(connection), call.actor(), deps.playbook_number(connection), given=True,
        correlation=call.correlation,
    )  # fmt: skip
    unit.bump("subscription", item_id, unit.append("subscription", item_id, version, [New(data)]), state)
    unit.wake("notifier", "subscription", item_id, "normal")
    unit.flush()
    connection.commit()
    deps.bells.ring(unit.woken)


def _key(call: Call) -> str:
    return str(call.request.path_params["id"])


def _read(connection: Connection, key: str) -> dict[str, Any]:
    row = connection.execute(
        text(
            """select i.key, i.state, v.* from ledger.item i left join notifier.v_subscription v on v.id = i.id
            where i.kind = 'subscription' and i.key = :key and coalesce(i.state ->> 'status', 'active') <> 'deleted'"""
        ),
        {"key": key},
    ).one_or_none()
    if row is None:
        raise Problem(404, "not_found", "no such subscription")
    return _shown(row.key, row.state, row if row.position is not None else None)


def _shown(key: str, state: dict[str, Any], row: Any) -> dict[str, Any]:
    types = state.get("types")
    return {
        "id": key,
        "url": state["url"],
        "types": None if types is None else [topic_type(one) for one in types],
        "filter": state.get("filter", {}),
        "order": "ticket" if state.get("ordered") else "none",
        "status": state.get("status", "active"),
        "why": state.get("why", ""),
        "secrets": len(state.get("secrets", ())),
        "cursor": topics.sequence(state.get("start", 0) if row is None else row.position),
        "failing": 0 if row is None else row.failing,
        "waiting": 0 if row is None else row.waiting,
        "blocked": 0 if row is None else row.blocked,
        "parked": 0 if row is None else row.parked,
    }


def _secret(given: str | None = None) -> str:
    if given is None:
        return "whsec_" + base64.b64encode(random_bytes(32)).decode()
    try:
        key = base64.b64decode(given.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not given.startswith("whsec_") or not 24 <= len(key) <= 64:
        fault = Fault("/secret", "a secret is whsec_ and base64 of 24 to 64 bytes")
        raise Problem(422, "invalid", fault.reason, errors=[fault])
    return given


def _types(names: list[str] | None) -> tuple[str, ...] | None:
    try:
        return None if names is None else topics.event_types(names)
    except ValueError as error:
        raise Problem(422, "invalid", str(error), errors=[Fault("/types", str(error))]) from error


def _cursor(pointer: str, given: str) -> int:
    try:
        return topics.position(given)
    except ValueError as error:
        raise Problem(422, "invalid", str(error), errors=[Fault(pointer, str(error))]) from error


def _filter(call: Call, connection: Connection, given: dict[str, Any]) -> dict[str, list[Any]]:
    """The filter as stored. What one may not read, one cannot filter by."""
    masks = call.context.deps.playbooks.current(connection).document.access.masks
    known = {field.encode_name for field in msgspec.structs.fields(topics.CloudEvent)} - {"data"}
    for member in given:
        path = member.removeprefix("data.")
        if path == member and member not in known:
            fault = Fault("/filter", f"{member!r} is no attribute; members of the data are written data.NAME")
            raise Problem(422, "invalid", fault.reason, errors=[fault])
        parts = path.split(".")
        if any(hidden(".".join(parts[: n + 1]), call.principal, masks) for n in range(len(parts))):
            raise Problem(403, "forbidden", f"this key may not filter by {member!r}, which it may not read")
    return {member: values if isinstance(values, list) else [values] for member, values in given.items()}


async def _check_target(call: Call, url: str) -> None:
    """Refuse what can never be delivered to. The notifier checks again, at every connection."""

    def refused(reason: str) -> Problem:
        return Problem(422, "invalid", reason, errors=[Fault("/url", reason)])

    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise refused(f"not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise refused("a target is http(s)://host[:port][/path], without user or password")
    try:
        async with asyncio.timeout(1.0):
            found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return  # it may come to life later; until then deliveries wait
    allowed = await call.context.query(lambda connection: _allowed(call, connection))
    if not all(is_allowed(ip_address(str(entry[4][0])), parse_networks(allowed)) for entry in found):
        raise refused("the target resolves to an address that may not be reached")


def _allowed(call: Call, connection: Connection) -> tuple[str, ...]:
    document = call.context.deps.playbooks.current(connection).document
    networks = tuple(net for one in document.channels if one.driver == "webhook" for net in one.allow)
    return networks + (LOOPBACK if call.context.test_mode else ())
