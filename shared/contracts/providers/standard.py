"""Standard Webhooks (`webhook-id`, `webhook-timestamp`, `webhook-signature`): ours in both directions.

Used for outgoing webhooks, for the generic signed-HTTP SMS interface, and for the receipts it sends back.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

from shared.contracts.providers.receipts import Forged

if TYPE_CHECKING:
    from hashlib import _Hash as HASH

TOLERANCE = timedelta(minutes=5)
BLOCK = 64
"""Bytes of a block of SHA-256."""


@lru_cache(maxsize=4096)
def _key(secret: str) -> bytes:
    try:
        text = secret.removeprefix("whsec_")
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("a webhook secret is whsec_ and base64") from error


@lru_cache(maxsize=4096)
def _begun(secret: str) -> tuple[HASH, HASH]:
    """HMAC-SHA256 (RFC 2104) with its key taken in already: a third of what the key costs anew for each message."""
    key = _key(secret)
    block = (key if len(key) <= BLOCK else sha256(key).digest()).ljust(BLOCK, b"\0")
    return sha256(bytes(byte ^ 0x36 for byte in block)), sha256(bytes(byte ^ 0x5C for byte in block))


def sign(secret: str, message_id: str, seconds: int, body: bytes) -> str:
    """One `v1,…` signature of `id.timestamp.body`; raises `ValueError` for a secret that is not `whsec_` + base64."""
    begun, outside = _begun(secret)
    inner, outer = begun.copy(), outside.copy()
    inner.update(b"%s.%d." % (message_id.encode(), seconds) + body)
    outer.update(inner.digest())
    return "v1," + base64.b64encode(outer.digest()).decode()


def headers(secrets: Sequence[str], message_id: str, seconds: int, body: bytes) -> list[tuple[str, str]]:
    """The three headers; during a rotation every secret signs, the new one first."""
    signatures = " ".join([sign(secret, message_id, seconds, body) for secret in secrets])
    return [("webhook-id", message_id), ("webhook-timestamp", str(seconds)), ("webhook-signature", signatures)]


def verify(secrets: Sequence[str], given: Mapping[str, str], body: bytes, now: datetime) -> None:
    """Raise `Forged` unless one of the secrets signed this body less than five minutes from `now` (aware, wall time)."""
    message_id, stamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not message_id or not stamp.isdecimal() or len(stamp) > 12:
        raise Forged("signature headers are missing")
    if abs(now.timestamp() - int(stamp)) > TOLERANCE.total_seconds():
        raise Forged("the timestamp is too far from now")
    offered = [part.encode() for part in given.get("webhook-signature", "").split(" ") if part.startswith("v1,")][:10]
    expected = [sign(secret, message_id, int(stamp), body).encode() for secret in secrets]
    if not any(hmac.compare_digest(one, other) for one in offered for other in expected):
        raise Forged("no signature matches")
