"""DingTalk callbacks: a JSON envelope `{"encrypt": …}` signed as WeCom's, or an interactive card's plain callback.

The reply to an envelope is itself an envelope with the text `success`, sealed with the nonce of the request. Checks
of the address (`check_url`) are answered the same way. A card's action carries the values of its button under
`cardPrivateData.params`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from shared.contracts.providers.checks import epoch, json_object, json_of, mapping, require_fresh, same, secret, text
from shared.contracts.providers.receipts import Callback, CardAction, Forged, Inbound, Reply
from shared.contracts.providers.sealed import open_work, seal_work, work_signature


def callback(inbound: Inbound, secrets: Mapping[str, str], now: datetime) -> Callback:
    """Secrets: `callback_token`, `aes_key` (43 characters), `app_key` (the receiver)."""
    query = inbound.query()
    sealed = _sealed(inbound.body)
    timestamp, nonce = query.get("timestamp", ""), query.get("nonce", "")
    given = query.get("msg_signature") or query.get("signature", "")
    token, key, receiver = secret(secrets, "callback_token"), secret(secrets, "aes_key"), secret(secrets, "app_key")
    if not same(given, work_signature(token, timestamp, nonce, sealed)):
        raise Forged("the signature does not match")
    require_fresh(timestamp, now)
    event = json_object(open_work(sealed, key, receiver))
    return Callback(_action(event), _answer(token, key, receiver, timestamp, nonce))


def _sealed(body: bytes) -> str:
    value = json_object(body).get("encrypt")
    if not isinstance(value, str) or not value:
        raise Forged("there is no envelope")
    return value


def _action(event: Mapping[str, Any]) -> CardAction | None:
    content = event.get("content") or event.get("value")
    inner = json_of(content.encode()) if isinstance(content, str) and content.startswith("{") else content
    private = mapping(inner, "cardPrivateData") if isinstance(inner, dict) else {}
    value = text(mapping(private, "params"), "value", optional=True)
    if not value:
        actions = private.get("actionIds")
        value = str(actions[0])[:500] if isinstance(actions, list) and actions else ""
    if not value:
        return None
    card = text(event, "outTrackId", optional=True)
    return CardAction(
        provider="dingtalk_work",
        value=value,
        user=text(event, "userId", optional=True),
        at=epoch(event.get("createAt") or event.get("TimeStamp") or ""),
        card_id=card,
        event_id=text(event, "EventId", optional=True) or f"{card}:{text(event, 'userId', optional=True)}:{value}",
    )


def _answer(token: str, key: str, receiver: str, timestamp: str, nonce: str) -> Reply:
    salt = hashlib.sha256(f"{nonce}{timestamp}{key}".encode()).digest()[:16]  # pure: no randomness of our own
    sealed = seal_work(b"success", key, receiver, salt)
    signature = work_signature(token, timestamp, nonce, sealed)
    return Reply(
        200,
        msgspec.json.encode({"msg_signature": signature, "timeStamp": timestamp, "nonce": nonce, "encrypt": sealed}),
    )
