"""Slack interactivity: a form with `payload`, signed `v0=` HMAC-SHA256 of `v0:timestamp:body`."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import UTC, datetime

from shared.contracts.providers.checks import json_object, mapping, require_fresh, same, secret, text
from shared.contracts.providers.receipts import Callback, CardAction, Forged, Inbound, Reply

ANSWER = Reply(200, b"", "text/plain")


def sign(signing_secret: str, timestamp: str, body: bytes) -> str:
    """`X-Slack-Signature` of a request."""
    return "v0=" + hmac.digest(signing_secret.encode(), f"v0:{timestamp}:".encode() + body, "sha256").hex()


def callback(inbound: Inbound, secrets: Mapping[str, str], now: datetime) -> Callback:
    """Secrets: `signing_secret`."""
    timestamp = inbound.headers.get("x-slack-request-timestamp", "")
    if not same(
        inbound.headers.get("x-slack-signature", ""), sign(secret(secrets, "signing_secret"), timestamp, inbound.body)
    ):
        raise Forged("the signature does not match")
    require_fresh(timestamp, now)
    payload = json_object(inbound.form().get("payload", "").encode())
    actions = payload.get("actions")
    first = actions[0] if isinstance(actions, list) and actions and isinstance(actions[0], dict) else {}
    value = text(first, "value", optional=True)
    if not value:
        return Callback(None, ANSWER)
    stamp = text(first, "action_ts", optional=True).partition(".")[0]
    action = CardAction(
        provider="slack",
        value=value,
        user=text(mapping(payload, "user"), "id", optional=True),
        at=datetime.fromtimestamp(int(stamp), UTC) if stamp.isdecimal() and len(stamp) <= 11 else None,
        card_id=text(mapping(payload, "container"), "message_ts", optional=True),
        update_token=text(payload, "response_url", optional=True),
        event_id=text(first, "action_ts", optional=True),
    )
    return Callback(action, ANSWER)
