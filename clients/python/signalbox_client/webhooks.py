"""Verifying webhooks by Standard Webhooks: HMAC-SHA256 of `id.timestamp.body`, any of several secrets during a rotation."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

TOLERANCE_SECONDS = 300


class Forged(ValueError):
    """The request was not signed with a known secret, or not just now."""


def verify(
    secret: str | Sequence[str], headers: Mapping[str, str], body: bytes, *, now: float | None = None
) -> dict[str, Any]:
    """The event of a genuine request. `now` in seconds since the epoch, by default the system's clock. Raises `Forged`."""
    given = {name.lower(): value for name, value in headers.items()}
    message_id, stamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not message_id or not stamp.isascii() or not stamp.isdigit() or len(stamp) > 12:
        raise Forged("signature headers are missing")
    if abs((time.time() if now is None else now) - int(stamp)) > TOLERANCE_SECONDS:
        raise Forged("the timestamp is too far from now")
    signed = b"%s.%s." % (message_id.encode(), stamp.encode()) + body
    offered = [part.encode() for part in given.get("webhook-signature", "").split(" ")[:10]]
    for one in [secret] if isinstance(secret, str) else secret:
        wanted = b"v1," + base64.b64encode(hmac.digest(base64.b64decode(one.removeprefix("whsec_")), signed, "sha256"))
        if any(hmac.compare_digest(wanted, other) for other in offered):
            event: dict[str, Any] = json.loads(body)
            return event
    raise Forged("no signature matches")
