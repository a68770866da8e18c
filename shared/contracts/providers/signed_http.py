"""Receipts of the generic signed-HTTP SMS interface, signed by Standard Webhooks with the channel's own secret.

`{"receipts": [{"provider_id", "state": "delivered|read|failed", "id"?, "address"?, "at"?, "detail"?,
"bad_recipient"?}]}`
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from shared.contracts.providers import standard
from shared.contracts.providers.checks import MAX_ENTRIES, secret
from shared.contracts.providers.receipts import Inbound, Malformed, Receipt, Receipts, ReceiptState, Reply

ANSWER = Reply(200, b'{"ok":true}')


class _Entry(msgspec.Struct, frozen=True):
    provider_id: str
    state: ReceiptState
    id: str | None = None
    address: str | None = None
    at: datetime | None = None
    detail: str = ""
    bad_recipient: bool = False


class _Body(msgspec.Struct, frozen=True):
    receipts: tuple[_Entry, ...]


def receipts(inbound: Inbound, secrets: Mapping[str, str], now: datetime) -> Receipts:
    """Secrets: `secret`, and `previous` during a rotation."""
    known = [secret(secrets, "secret"), *([secrets["previous"]] if "previous" in secrets else [])]
    standard.verify(known, inbound.headers, inbound.body, now)
    try:
        body = msgspec.json.decode(inbound.body, type=_Body)
    except msgspec.DecodeError as error:
        raise Malformed(str(error)) from error
    if len(body.receipts) > MAX_ENTRIES or any(
        entry.at is not None and entry.at.tzinfo is None for entry in body.receipts
    ):
        raise Malformed("too many receipts, or an instant without an offset")
    return Receipts(tuple(_receipt(entry) for entry in body.receipts), ANSWER)


def _receipt(entry: _Entry) -> Receipt:
    return Receipt(
        entry.provider_id, entry.state, entry.address, entry.at, entry.detail[:500], entry.id, entry.bad_recipient
    )
