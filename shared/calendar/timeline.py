"""Open time as sorted intervals with running sums, compiled piece by piece when first asked.

The line of time is cut into chunks of 2**43 microseconds (about 102 days), so that the chunk of an instant is one shift.
A chunk holds the open intervals inside it, and the open time before each. An open stretch that crosses a border is two
intervals that touch; whoever wants whole stretches joins them (`stretch_end`, `stretch_start`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from threading import Lock
from zoneinfo import ZoneInfo

from shared.calendar.spec import DAY_SECONDS, DayRules, Span
from shared.calendar.walltime import DAY_US, SECOND_US, shifted_to_instant

SHIFT = 43
CHUNK_US = 1 << SHIFT
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_ONE_DAY = timedelta(days=1)

# Beyond these years `datetime` cannot hold the neighbouring days; time there counts as closed.
FIRST_CHUNK = ((date(3, 1, 1).toordinal() - _EPOCH_ORDINAL) * DAY_US >> SHIFT) + 1
LAST_CHUNK = ((date(9998, 1, 1).toordinal() - _EPOCH_ORDINAL) * DAY_US >> SHIFT) - 1

# A weekly pattern with yearly holidays repeats its kinds of years (first weekday, leap or not) within 40 years, also around 2100.
# So what is closed, or open, for 41 years without any dated exception stays so.
_HORIZON_CHUNKS = 41 * 366 * DAY_US // CHUNK_US + 2
_KEPT_CHUNKS = 128  # 36 years, at most about 3 MB a calendar with two segments a day

Interval = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Open intervals `[starts[i], ends[i])` in order.

    `before[i]` is the chunk's open time before interval i; its last member is the total.
    """

    starts: list[int]
    ends: list[int]
    before: list[int]

    def open_until(self, at: int) -> int:
        """Return the open microseconds of this chunk before `at`."""
        index = bisect_right(self.starts, at) - 1
        if index < 0:
            return 0
        end = self.ends[index]
        return self.before[index] + (at if at < end else end) - self.starts[index]


class Timeline:
    """The open time of one calendar. Immutable in meaning; the compiled chunks are a bounded cache."""

    __slots__ = ("_chunks", "_dated", "_lock", "_rules", "_totals", "_weekly", "_zone")

    def __init__(self, rules: DayRules, zone: ZoneInfo) -> None:
        self._rules = rules
        self._zone = zone
        self._chunks: dict[int, Chunk] = {}
        self._totals: dict[int, int] = {}
        self._lock = Lock()
        self._weekly = any(rules.weekly)
        dated = rules.dated()
        self._dated = None if dated is None else (_chunk_of_day(dated[0]) - 1, _chunk_of_day(dated[1]) + 1)

    def chunk(self, number: int) -> Chunk:
        """Return chunk `number`, compiled on first use."""
        found = self._chunks.get(number)
        return found if found is not None else self._compile(number)

    def total(self, number: int) -> int:
        """Return the open time of a whole chunk; kept for ever, one number each. A long sum pushes no chunk out of the cache."""
        found = self._totals.get(number)
        return found if found is not None else self._compile(number, evict=False).before[-1]

    def between(self, start: int, end: int) -> int:
        """Return the open time in `[start, end)`; `start` is not after `end`."""
        first, last = start >> SHIFT, end >> SHIFT
        passed = self.chunk(last).open_until(end) - self.chunk(first).open_until(start)
        for number in range(first, last):
            passed += self.total(number)
        return passed

    def after(self, start: int, work: int) -> int | None:
        """Return the earliest instant with `work` (> 0) open time after `start`."""
        number = start >> SHIFT
        chunk = self.chunk(number)
        wanted = chunk.open_until(start) + work
        idle = 0
        while wanted > (total := self.total(number)):
            wanted -= total
            number += 1
            idle = 0 if total else idle + 1
            if self._same_for_ever_after(number, idle):
                return None
        chunk = self.chunk(number)
        index = bisect_left(chunk.before, wanted) - 1
        return chunk.starts[index] + wanted - chunk.before[index]

    def ahead_of(self, start: int, work: int) -> int | None:
        """Return the latest instant with `work` (> 0) open time between it and `start`."""
        number = start >> SHIFT
        wanted = self.chunk(number).open_until(start) - work
        idle = 0
        while wanted < 0:
            number -= 1
            total = self.total(number)
            wanted += total
            idle = 0 if total else idle + 1
            if self._same_for_ever_before(number, idle):
                return None
        chunk = self.chunk(number)
        index = bisect_right(chunk.before, wanted) - 1
        return chunk.starts[index] + wanted - chunk.before[index]

    def is_open(self, at: int) -> bool:
        chunk = self.chunk(at >> SHIFT)
        index = bisect_right(chunk.starts, at) - 1
        return index >= 0 and at < chunk.ends[index]

    def open_from(self, at: int) -> int | None:
        """Return `at` when open, else the next opening."""
        number = at >> SHIFT
        chunk = self.chunk(number)
        index = bisect_right(chunk.ends, at)
        idle = 0
        while index == len(chunk.ends):
            number, index = number + 1, 0
            idle += 1
            if self._same_for_ever_after(number, idle):
                return None
            chunk = self.chunk(number)
        start = chunk.starts[index]
        return at if start <= at else start

    def open_until(self, at: int) -> int | None:
        """Return the latest instant not after `at` with open time just before it."""
        number = at >> SHIFT
        chunk = self.chunk(number)
        index = bisect_left(chunk.starts, at) - 1
        idle = 0
        while index < 0:
            number -= 1
            idle += 1
            if self._same_for_ever_before(number, idle):
                return None
            chunk = self.chunk(number)
            index = len(chunk.starts) - 1
        end = chunk.ends[index]
        return at if at <= end else end

    def stretch_end(self, at: int) -> int | None:
        """Return the end of the open stretch that covers `at`; None when it never ends."""
        number = at >> SHIFT
        chunk = self.chunk(number)
        end = chunk.ends[bisect_right(chunk.starts, at) - 1]
        if end < (number + 1) << SHIFT:
            return end
        full = 0
        while self.total(number := number + 1) == CHUNK_US:
            full += 1
            if self._same_for_ever_after(number, full):
                return None
        chunk = self.chunk(number)
        return chunk.ends[0] if chunk.starts and chunk.starts[0] == end_of(number - 1) else end_of(number - 1)

    def stretch_start(self, at: int) -> int | None:
        """Return the start of the open stretch that lies just before `at`; None when it never began."""
        number = (at - 1) >> SHIFT
        chunk = self.chunk(number)
        start = chunk.starts[bisect_left(chunk.starts, at) - 1]
        if start > number << SHIFT:
            return start
        full = 0
        while self.total(number := number - 1) == CHUNK_US:
            full += 1
            if self._same_for_ever_before(number, full):
                return None
        chunk = self.chunk(number)
        return chunk.starts[-1] if chunk.ends and chunk.ends[-1] == end_of(number) else end_of(number)

    def _same_for_ever_after(self, number: int, alike: int) -> bool:
        """Whether `alike` wholly closed (or open) chunks up to `number` prove that it never changes again."""
        if number > LAST_CHUNK:
            return True
        if self._dated is not None and number <= self._dated[1]:
            return False
        return alike > _HORIZON_CHUNKS or not self._weekly

    def _same_for_ever_before(self, number: int, alike: int) -> bool:
        if number < FIRST_CHUNK:
            return True
        if self._dated is not None and number >= self._dated[0]:
            return False
        return alike > _HORIZON_CHUNKS or not self._weekly

    def _compile(self, number: int, *, evict: bool = True) -> Chunk:
        chunk = _as_chunk(self._intervals(number) if FIRST_CHUNK <= number <= LAST_CHUNK else [])
        with self._lock:
            self._totals[number] = chunk.before[-1]
            if evict and len(self._chunks) >= _KEPT_CHUNKS:
                del self._chunks[next(iter(self._chunks))]
            if len(self._chunks) < _KEPT_CHUNKS:
                self._chunks[number] = chunk
        return chunk

    def _intervals(self, number: int) -> list[Interval]:
        """Return the open intervals of a chunk: those of its days and of two days around, joined, cut at the borders."""
        low, high = number << SHIFT, (number + 1) << SHIFT
        opened: list[Interval] = []
        closed: list[Interval] = []
        for ordinal in range(low // DAY_US + _EPOCH_ORDINAL - 3, high // DAY_US + _EPOCH_ORDINAL + 4):
            day = date.fromordinal(ordinal)
            opened.extend(self._placed(day, self._rules.spans(day)))
            if self._rules.is_holiday(day):
                closed.extend(self._placed(day, ((0, DAY_SECONDS),)))
            if day in self._rules.breaks:
                closed.extend(self._placed(day, self._rules.breaks[day]))
        joined = _joined(opened)
        if closed:
            joined = _without(joined, _joined(closed))
        return [(max(start, low), min(end, high)) for start, end in joined if end > low and start < high]

    def _placed(self, day: date, spans: tuple[Span, ...]) -> list[Interval]:
        placed = []
        for start, end in spans:
            interval = self._instant(day, start), self._instant(day, end)
            if interval[0] < interval[1]:  # both ends inside a skipped hour leave nothing
                placed.append(interval)
        return placed

    def _instant(self, day: date, seconds: int) -> int:
        if seconds >= DAY_SECONDS:
            day, seconds = day + _ONE_DAY, seconds - DAY_SECONDS
        wall_us = (day.toordinal() - _EPOCH_ORDINAL) * DAY_US + seconds * SECOND_US
        minutes, second = divmod(seconds, 60)
        wall = datetime(day.year, day.month, day.day, minutes // 60, minutes % 60, second, tzinfo=self._zone)
        return shifted_to_instant(wall_us, wall, self._zone)


def end_of(number: int) -> int:
    """Return the border after a chunk."""
    return (number + 1) << SHIFT


def _chunk_of_day(day: date) -> int:
    return (day.toordinal() - _EPOCH_ORDINAL) * DAY_US >> SHIFT


def _as_chunk(intervals: list[Interval]) -> Chunk:
    before = [0]
    for start, end in intervals:
        before.append(before[-1] + end - start)
    return Chunk([start for start, _ in intervals], [end for _, end in intervals], before)


def _joined(intervals: list[Interval]) -> list[Interval]:
    """Sort, and join those that overlap or touch."""
    joined: list[Interval] = []
    for start, end in sorted(intervals):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _without(intervals: list[Interval], holes: list[Interval]) -> list[Interval]:
    """Take `holes` out of `intervals`; both sorted and joined."""
    left: list[Interval] = []
    first = 0
    for start, end in intervals:
        while first < len(holes) and holes[first][1] <= start:
            first += 1
        index = first
        while index < len(holes) and holes[index][0] < end:
            if holes[index][0] > start:
                left.append((start, holes[index][0]))
            start = max(start, holes[index][1])
            index += 1
        if start < end:
            left.append((start, end))
    return left
