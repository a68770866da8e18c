"""Wall time of a zone to an instant and back: the two rules for times that the clocks skip or show twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

_SECOND = timedelta(seconds=1)


@lru_cache(maxsize=65_536)
def instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """The UTC instant at which clocks in `zone` show the naive `wall`.

    Shown twice: the first occurrence. Skipped: the instant of the jump, also when a whole day is skipped.
    Source: tests/vectors/README.md, "Every edge is a wall time turned into an instant".
    """
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == wall:
        return first
    # `fold` 0 and 1 read a skipped time with the offsets before and after the jump, so the jump lies between the two.
    whole = wall.replace(microsecond=0)
    low, high = (whole.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (1, 0))
    before = low.astimezone(zone).utcoffset()
    while high - low > _SECOND:
        middle = low + ((high - low) // 2 // _SECOND or 1) * _SECOND
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


def wall_of(at: datetime, zone: ZoneInfo) -> datetime:
    """What clocks in `zone` show at the instant `at`, naive; a naive `at` is taken as such a wall time already."""
    if at.tzinfo is None:
        return at
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def as_instant(at: datetime, zone: ZoneInfo) -> datetime:
    """A configured instant as UTC; one written without an offset is a wall time of `zone`."""
    return instant(at, zone) if at.tzinfo is None else at.astimezone(UTC)


def add_months(wall: datetime, months: int) -> datetime:
    """The same wall time `months` later (or earlier); a day the month does not have becomes its last day."""
    index = wall.year * 12 + wall.month - 1 + months
    year, month = divmod(index, 12)
    return wall.replace(year=year, month=month + 1, day=min(wall.day, days_in_month(year, month + 1)))


def days_in_month(year: int, month: int) -> int:
    following = datetime(year + month // 12, month % 12 + 1, 1)
    return (following - timedelta(days=1)).day
