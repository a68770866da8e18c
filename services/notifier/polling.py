"""Receipts that have to be asked for. Pure.

Some providers report nothing and answer when asked how far a message came. An accepted message then comes due again at growing
distances: early enough that a step that waits for `delivered` or `read` is not taken in vain, seldom enough for quotas of calls.
The answers go the way of every other receipt (`reports`), so that asking twice, late or in vain changes nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from services.notifier.channels.base import Driver, ReceiptMode
from services.notifier.rows import Row

AFTER = tuple(
    timedelta(**length)
    for length in (
        {"seconds": 15}, {"minutes": 1}, {"minutes": 4}, {"minutes": 9}, {"minutes": 30}, {"hours": 2}, {"hours": 8}, {"hours": 20},
    )
)  # fmt: skip
"""Since it was accepted. The last is within the day that providers keep a task."""


def sent_at(row: Row) -> datetime | None:
    """When its provider accepted a message, or None."""
    for attempt in reversed(row.attempts):
        if attempt.get("outcome") == "accepted":
            at = attempt["at"]
            return at if isinstance(at, datetime) else datetime.fromisoformat(str(at))
    return None


def next_poll(accepted_at: datetime, now: datetime) -> datetime | None:
    """When a message is asked about next, or None when nothing more is to be expected."""
    return next((accepted_at + after for after in AFTER if accepted_at + after > now), None)


def is_over(row: Row, driver: type[Driver]) -> bool:
    """Whether asking can tell nothing new."""
    if driver.receipts is not ReceiptMode.POLL or row.provider_id is None or row.bundle is not None:
        return True
    return row.state != "sent" and (row.state != "delivered" or not driver.tells_read)
