"""A second calendar to check the first one by: slow, plain, and with arithmetic of its own.

It shares no code with `shared/calendar` and works the other way round. Wall times are found by walking a zone's offsets as a
function of the instant (never by `fold`); whether an instant is open is asked of every segment, holiday and break around it; an
amount of open time is walked piece by piece from edge to edge. It reads the neutral JSON form of tests/vectors/README.md.
Instants are integers, microseconds since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

Calendar = dict[str, Any]
Piece = tuple[int, int, int]  # from, to (seconds since 1970), offset in seconds

SECOND = 1_000_000
DAY_NAMES = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_START = datetime(1970, 1, 1, tzinfo=UTC)


def to_int(at: datetime) -> int:
    """Microseconds since 1970 of an aware instant."""
    passed = at - _START
    return (passed.days * 86_400 + passed.seconds) * SECOND + passed.microseconds


def to_datetime(instant: int) -> datetime:
    return _START + timedelta(seconds=instant // SECOND, microseconds=instant % SECOND)


def offset_at(zone: str, second: int) -> int:
    """Seconds east of UTC at an instant (seconds since 1970)."""
    offset = (_START + timedelta(seconds=second)).astimezone(ZoneInfo(zone)).utcoffset()
    assert offset is not None
    return offset.days * 86_400 + offset.seconds


@lru_cache(maxsize=20_000)
def changes(zone: str, year: int) -> tuple[int, ...]:
    """The instants (seconds since 1970) in a UTC year at which the zone's offset changes, found by looking twice a day."""
    first = int((datetime(year, 1, 1, tzinfo=UTC) - _START).total_seconds())
    last = int((datetime(year + 1, 1, 1, tzinfo=UTC) - _START).total_seconds())
    found = []
    for low in range(first, last, 43_200):
        high = low + 43_200
        before, after = offset_at(zone, low), offset_at(zone, high)
        if before == after:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            if offset_at(zone, middle) == before:
                low = middle
            else:
                high = middle
        found.append(high)
    return tuple(found)


@lru_cache(maxsize=20_000)
def pieces(zone: str, year: int) -> tuple[Piece, ...]:
    """Spans of constant offset over the year and its neighbours."""
    edges = [moment for y in (year - 1, year, year + 1) for moment in changes(zone, y)]
    start = int((datetime(year - 1, 1, 1, tzinfo=UTC) - _START).total_seconds())
    end = int((datetime(year + 2, 1, 1, tzinfo=UTC) - _START).total_seconds())
    spans = zip([start, *edges], [*edges, end], strict=True)
    return tuple((left, right, offset_at(zone, left)) for left, right in spans if left < right)


def wall(zone: str, day: date, seconds: int) -> int:
    """The first instant at which the zone's clocks show `seconds` after midnight of `day`, or later: skipped is the jump."""
    shown = (day - date(1970, 1, 1)).days * 86_400 + seconds
    for left, right, offset in pieces(zone, day.year):
        reached = max(left, shown - offset)
        if reached < right:
            return reached * SECOND
    raise AssertionError(f"no instant for {day} {seconds} in {zone}")


def day_of(zone: str, instant: int) -> date:
    """The local date of an instant."""
    return date(1970, 1, 1) + timedelta(days=(instant // SECOND + offset_at(zone, instant // SECOND)) // 86_400)


def _clock(text: str) -> int:
    parts = [int(part) for part in text.split(":")]
    return parts[0] * 3600 + parts[1] * 60 + (parts[2] if len(parts) > 2 else 0)


def _ends(day: date, timed: dict[str, Any], zone: str) -> tuple[int, int]:
    start, end = _clock(timed["start"]), _clock(timed["end"])
    overnight = end <= start
    return wall(zone, day, start), wall(zone, day + timedelta(days=1) if overnight else day, end)


class SlowCalendar:
    """The calendar of a neutral JSON object; every method walks."""

    def __init__(self, calendar: Calendar) -> None:
        self.zone: str = calendar["tz"]
        self._calendar = calendar
        self._days: dict[date, tuple[list[tuple[int, int]], list[tuple[int, int]]]] = {}

    def segments(self, day: date) -> list[dict[str, Any]]:
        """The segments that start on a date."""
        replaced = [o["segments"] for o in self._calendar.get("overrides", []) if o["date"] == day.isoformat()]
        if replaced:
            return [segment for segments in replaced for segment in segments]
        return [s for s in self._calendar.get("weekly", []) if s["day"] == DAY_NAMES[day.weekday()]]

    def is_holiday(self, day: date) -> bool:
        recurring = f"{day.month:02}-{day.day:02}" in self._calendar.get("recurring_holidays", [])
        return recurring or day.isoformat() in self._calendar.get("holidays", [])

    def is_working_day(self, day: date) -> bool:
        return not self.is_holiday(day) and len(self.segments(day)) > 0

    def is_open(self, instant: int) -> bool:
        """Open when some segment covers the instant and no holiday and no break does."""
        here = day_of(self.zone, instant)
        around = [self._day(here + timedelta(days=n)) for n in (-3, -2, -1, 0, 1, 2)]
        return any(a <= instant < b for opens, _ in around for a, b in opens) and not any(
            a <= instant < b for _, closes in around for a, b in closes
        )

    def between(self, start: int, end: int) -> int:
        """Open microseconds from start to end."""
        if end < start:
            return -self.between(end, start)
        return sum(b - a for a, b in self._walk(start, end) if self.is_open(a))

    def add(self, start: int, work: int, days: int = 400) -> int | None:
        """The earliest instant with `work` (> 0) open time after start; None when it is not within `days`."""
        for a, b in self._walk(start, start + days * 86_400 * SECOND):
            if self.is_open(a):
                if work <= b - a:
                    return a + work
                work -= b - a
        return None

    def take(self, start: int, work: int, days: int = 400) -> int | None:
        """The latest instant with `work` (> 0) open time from it to start; None when it is not within `days`."""
        for a, b in self._walk_back(start, days):
            if self.is_open(a):
                # Used up exactly at an opening is the opening: any later instant has less open time to start.
                if work <= b - a:
                    return b - work
                work -= b - a
        return None

    def next_open(self, at: int, days: int = 400) -> int | None:
        return next((a for a, _ in self._walk(at, at + days * 86_400 * SECOND) if self.is_open(a)), None)

    def next_close(self, at: int, days: int = 400) -> int | None:
        inside = False
        for a, _ in self._walk(at, at + days * 86_400 * SECOND):
            if inside and not self.is_open(a):
                return a
            inside = inside or self.is_open(a)
        return None

    def previous_open(self, at: int, days: int = 400) -> int | None:
        return next((b for a, b in self._walk_back(at, days) if self.is_open(a)), None)

    def roll(self, day: date, step: int) -> date:
        while not self.is_working_day(day):
            day += timedelta(days=step)
        return day

    def add_working_days(self, day: date, days: int) -> date:
        """Roll in the direction of travel, then step one working day at a time."""
        if days == 0:
            return day
        step = 1 if days > 0 else -1
        day = self.roll(day, step)
        for _ in range(abs(days)):
            day = self.roll(day + timedelta(days=step), step)
        return day

    def _day(self, day: date) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """What opens and what closes because of a date."""
        if day not in self._days:
            opens = [_ends(day, segment, self.zone) for segment in self.segments(day)]
            closes = [
                _ends(day, b, self.zone) for b in self._calendar.get("breaks", []) if b["date"] == day.isoformat()
            ]
            if self.is_holiday(day):
                closes.append((wall(self.zone, day, 0), wall(self.zone, day + timedelta(days=1), 0)))
            self._days[day] = opens, closes
        return self._days[day]

    def _walk_back(self, start: int, days: int) -> Iterator[tuple[int, int]]:
        """The pieces before start, latest first, a week at a time."""
        week = 7 * 86_400 * SECOND
        for end in range(start, start - days * 86_400 * SECOND, -week):
            yield from reversed(list(self._walk(end - week, end)))

    def _walk(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Pieces from start to end between all edges; open or closed is the same throughout a piece."""
        day, reached = day_of(self.zone, start), start
        while reached < end:
            # Two days on either side: an overnight segment ends a day later, and a zone can skip a whole day.
            around = [self._day(day + timedelta(days=n)) for n in (-2, -1, 0, 1, 2)]
            border = min(end, wall(self.zone, day + timedelta(days=1), 0))
            edges = {edge for opens, closes in around for span in opens + closes for edge in span}
            for edge in sorted({e for e in edges if reached < e < border} | {border}):
                if reached < edge:
                    yield reached, edge
                    reached = edge
            day += timedelta(days=1)
