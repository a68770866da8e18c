"""Wall times and instants: the one place where a zone's clock changes are read.

Instants inside the package are integers, microseconds since 1970-01-01T00:00Z; integers compare and add faster than datetimes and
cannot lose anything. `instant_of` is also what schedules use for a hand-off at a wall time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAIVE_EPOCH = datetime(1970, 1, 1)
MICROSECOND = timedelta(microseconds=1)
SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US


@lru_cache(maxsize=256)
def zone_named(name: str) -> ZoneInfo:
    """Return the IANA zone `name`; raise `ValueError` naming it when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"not an IANA time zone: {name!r}") from error


def micros(at: datetime) -> int:
    """Return an aware instant as microseconds since 1970 UTC; raise `ValueError` for a naive one."""
    try:
        return (at - EPOCH) // MICROSECOND
    except TypeError as error:
        raise ValueError(f"an instant needs a zone or an offset: {at!r}") from error


def moment(instant_us: int) -> datetime:
    """Return microseconds since 1970 as an aware UTC datetime."""
    return EPOCH + timedelta(0, 0, instant_us)  # positional: twice as fast as by name, and this is every answer


def instant_us_of(wall: datetime, zone: ZoneInfo) -> int:
    """Return the instant of a naive wall time in `zone`, in microseconds.

    A time that the clocks skip is the instant of the jump, also when a whole day is skipped; one that occurs twice is its first
    occurrence. Source: tests/vectors/README.md, "Calendar".
    """
    return shifted_to_instant((wall - NAIVE_EPOCH) // MICROSECOND, wall.replace(tzinfo=zone, fold=0), zone)


def shifted_to_instant(wall_us: int, wall: datetime, zone: ZoneInfo) -> int:
    """The same, for a caller who has the wall time both in microseconds since 1970 and as a datetime in `zone` with fold 0."""
    first, second = wall.utcoffset(), wall.replace(fold=1).utcoffset()
    assert first is not None  # a ZoneInfo always has an offset
    assert second is not None
    if second <= first:
        return wall_us - first // MICROSECOND
    # PEP 495: in a gap fold=0 reads the offset before the jump, fold=1 the one after, so that the jump lies between the two.
    return _jump_between(wall_us - second // MICROSECOND, wall_us - first // MICROSECOND, zone)


def instant_of(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the aware UTC instant of a naive wall time in `zone`; skipped and repeated times as in `instant_us_of`."""
    return moment(instant_us_of(wall, zone))


def _jump_between(low_us: int, high_us: int, zone: ZoneInfo) -> int:
    """Return the first instant after `low_us` with the offset that holds at `high_us`; zones change on whole seconds."""
    low, high = low_us // SECOND_US, -(-high_us // SECOND_US)
    after = _offset_at(high, zone)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_at(middle, zone) == after:
            high = middle
        else:
            low = middle
    return high * SECOND_US


def _offset_at(instant_seconds: int, zone: ZoneInfo) -> timedelta | None:
    return (EPOCH + timedelta(seconds=instant_seconds)).astimezone(zone).utcoffset()
