"""What a receipt makes of a message. Pure.

Receipts come late, early, twice, out of order or never. States only move forward: sent < delivered < read; `failed` stands unless
a delivery is reported after it. A receipt for a message whose call has not been answered yet is kept until it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.notifier.rows import Row
from shared.contracts.providers.receipts import ReceiptState

KEPT = timedelta(days=3)
"""How long a receipt waits for a message that it could belong to."""
_NOT_DIGIT = re.compile(r"\D")
_ANSWERED = frozenset(("sent", "unknown", "held", "delivered", "read", "failed"))
"""States in which a receipt counts. `planned` was never called; `sending` waits for its answer first."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A stored receipt."""

    id: int
    provider: str
    provider_id: str
    other_ids: tuple[str, ...]
    message_id: int | None
    address: str | None
    state: ReceiptState
    at: datetime | None
    detail: str
    bad_recipient: bool
    received_at: datetime
    again: bool = False
    """The provider failed at it, and may not the next time. Not stored: what waits for its message has failed."""


def address_key(address: str) -> str:
    """Equal for two spellings of one address: `+8613800000011`, `86 138 0000 0011` and `13800000011`."""
    digits = _NOT_DIGIT.sub("", address)
    return digits[-8:] if "@" not in address and len(digits) >= 8 else address.strip().lower()


def match(receipt: Kept, candidates: Sequence[Row]) -> Row | None:
    """The message of a receipt among those that carry its provider id (one id may cover a whole batch)."""
    if not candidates:
        return None
    if receipt.address is not None:
        wanted = address_key(receipt.address)
        found = [row for row in candidates if address_key(row.address) == wanted]
        if found:
            return found[0]
    return candidates[0] if len(candidates) == 1 else None


def fold(state: str, reports: Iterable[ReceiptState]) -> str | None:
    """The message's state after these reports, or None while it is too early to say (its call is not answered yet)."""
    if state not in _ANSWERED:
        return None
    known = ReceiptState(state) if state in ("delivered", "read", "failed") else None
    for report in reports:
        if report.follows(known):
            known = report
    return state if known is None else str(known)


def look_again(oldest: datetime, now: datetime) -> datetime:
    """When receipts without a message are looked at again: soon at first, then at growing distances."""
    age = now - oldest
    return now + min(max(age, timedelta(seconds=2)), timedelta(hours=1))
