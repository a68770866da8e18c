"""`POST /v1/receipts/{provider}` and `POST /v1/callbacks/{provider}`: the doors of providers. A forged request learns nothing.
`GET /v1/providers`: how well each does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection, text
from starlette.responses import Response

from services.gateway import oneclick, reports
from services.gateway.api.base import Call, answer, page
from services.gateway.errors import Problem
from services.gateway.oneclick import Given
from shared.access import links
from shared.contracts.providers.inbound import UnknownProvider, parse_callback, parse_receipt
from shared.contracts.providers.receipts import CardAction, Forged, Inbound, Malformed, Reply
from shared.playbook.messages import Provider
from shared.runtime.clock import utc_now

log = structlog.get_logger()

T = TypeVar("T")

BODY_BYTES = 1 << 20


async def _inbound(call: Call) -> Inbound:
    """The request as providers sign it: the public address as configured, whatever a proxy shows."""
    url = call.request.url
    address = call.context.deps.settings.public + url.path + (f"?{url.query}" if url.query else "")
    headers = {name.lower(): value for name, value in call.request.headers.items()}
    return Inbound(
        address, headers, await call.body(BODY_BYTES), call.request.client.host if call.request.client else ""
    )


async def listing(call: Call) -> Response:
    """GET /v1/providers: those of the current playbook, with their circuit, their share and why these changed."""
    call.need("read_all")
    call.parameters()

    def work(connection: Connection) -> list[dict[str, Any]]:
        rows = connection.execute(text("select * from notifier.v_provider")).mappings()
        known = {row["provider"]: dict(row) for row in rows}
        channels = call.context.deps.playbooks.current(connection).document.channels
        return [_provider(one, known.get(one.name, {})) for one in channels]

    return answer(page(await call.context.query(work), None))


def _provider(one: Provider, known: dict[str, Any]) -> dict[str, Any]:
    """A provider that never had an outcome is at rest."""
    return {
        "name": one.name, "channel": one.serves, "driver": one.driver, "enabled": one.enabled, "weight": one.weight,
        "share": known.get("share", 1.0), "open": known.get("open", False), "open_since": known.get("open_since"),
        "probed_at": known.get("probed_at"), "failures_in_a_row": known.get("in_a_row", 0),
        "history": known.get("history", []),
    }  # fmt: skip


async def receipts(call: Call) -> Response:
    """POST /v1/receipts/{provider}: what became of messages; answered when it is stored."""
    inbound, name, deps = await _inbound(call), call.request.path_params["provider"], call.context.deps

    def work(connection: Connection) -> Reply:
        provider, known = reports.provider_of(deps, connection, name)
        read = _verified(name, lambda: parse_receipt(provider.driver, inbound, known, utc_now()))
        reports.report(deps, connection, provider.name, read.items, call.correlation)
        return read.reply

    return _reply(await call.context.query(work))


async def callbacks(call: Call) -> Response:
    """POST /v1/callbacks/{provider}: a person pressed a button of a card."""
    inbound, name, deps = await _inbound(call), call.request.path_params["provider"], call.context.deps

    def work(connection: Connection) -> Reply:
        provider, known = reports.provider_of(deps, connection, name)
        read = _verified(name, lambda: parse_callback(provider.driver, inbound, known, utc_now()))
        if read.action is not None:
            _press(call, connection, read.action, provider.serves)
        return read.reply

    return _reply(await call.context.query(work))


async def handshake(call: Call) -> Response:
    """GET /v1/callbacks/{provider}: the provider checks the address before it sends anything there."""
    return await callbacks(call)


def _press(call: Call, connection: Connection, action: CardAction, channel: str) -> None:
    """Act for the person that the provider's user is; the button of somebody else's card does nothing."""
    deps = call.context.deps
    link = links.find(connection, action.value)
    person = None if link is None else deps.directory.get(connection).person(link.person)
    known = () if person is None else (person.contacts.get(channel), person.contacts.get(action.provider))
    if link is None or not action.user or action.user not in known:
        log.warning("card_refused", provider=action.provider, known=link is not None)
        return
    pressed = oneclick.press(deps, connection, action.value, Given(proven=link.person), call.correlation)
    log.info("card_pressed", provider=action.provider, action=link.action, ticket=link.ticket_id, outcome=pressed.code)


def _verified(name: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except Forged as error:
        log.warning("forged", provider=name, why=str(error))
        raise Problem(401, "unauthorized", "this does not prove that it comes from the provider") from None
    except Malformed as error:
        raise Problem(400, "invalid", str(error)) from None
    except UnknownProvider:
        raise Problem(404, "not_found", "this provider sends nothing of the kind") from None


def _reply(reply: Reply) -> Response:
    return Response(reply.body, reply.status, media_type=reply.content_type)
