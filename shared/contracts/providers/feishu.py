"""Feishu / Lark callbacks: cards and events, plain or in an envelope.

With an encrypt key every request carries `X-Lark-Signature` = hex SHA-256 of timestamp, nonce, encrypt key and body;
without one the `token` in the body is all there is. An address check (`url_verification`) is answered with its
challenge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from shared.contracts.providers.checks import epoch, json_object, mapping, require_fresh, same, secret, text
from shared.contracts.providers.receipts import Callback, CardAction, Forged, Inbound, Reply
from shared.contracts.providers.sealed import open_feishu

ANSWER = Reply(200, b"{}")


def signature(timestamp: str, nonce: str, encrypt_key: str, body: bytes) -> str:
    """`X-Lark-Signature` of a request."""
    return hashlib.sha256((timestamp + nonce + encrypt_key).encode() + body).hexdigest()


def callback(inbound: Inbound, secrets: Mapping[str, str], now: datetime) -> Callback:
    """Secrets: `verification_token`, and `encrypt_key` when the application encrypts."""
    event = _event(inbound, secrets, now)
    header = mapping(event, "header")
    given = text(header, "token", optional=True) or text(event, "token", optional=True)
    if not same(given, secret(secrets, "verification_token")):
        raise Forged("the verification token does not match")
    if event.get("type") == "url_verification":
        return Callback(None, Reply(200, msgspec.json.encode({"challenge": text(event, "challenge")})))
    return Callback(_action(event, header), ANSWER)


def _event(inbound: Inbound, secrets: Mapping[str, str], now: datetime) -> dict[str, Any]:
    body = json_object(inbound.body)
    key = secrets.get("encrypt_key", "")
    if not key:
        return body
    sealed = body.get("encrypt")
    if not isinstance(sealed, str):
        raise Forged("there is no envelope")
    event = json_object(open_feishu(sealed, key))
    if event.get("type") != "url_verification":  # the address check is sealed, but not signed
        timestamp, nonce = (
            inbound.headers.get("x-lark-request-timestamp", ""),
            inbound.headers.get("x-lark-request-nonce", ""),
        )
        if not same(inbound.headers.get("x-lark-signature", ""), signature(timestamp, nonce, key, inbound.body)):
            raise Forged("the signature does not match")
        require_fresh(timestamp, now)
    return event


def _action(event: Mapping[str, Any], header: Mapping[str, Any]) -> CardAction | None:
    inner = mapping(event, "event") or event
    value = mapping(mapping(inner, "action"), "value")
    carried = text(value, "value", optional=True)
    if not carried:
        return None
    operator, context = mapping(inner, "operator"), mapping(inner, "context")
    return CardAction(
        provider="feishu_app",
        value=carried,
        user=text(operator, "open_id", optional=True) or text(inner, "open_id", optional=True),
        at=epoch(header.get("create_time") or ""),
        card_id=text(context, "open_message_id", optional=True) or text(inner, "open_message_id", optional=True),
        update_token=text(inner, "token", optional=True),
        event_id=text(header, "event_id", optional=True),
    )
