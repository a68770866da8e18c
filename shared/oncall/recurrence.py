"""When a shift comes again, and whose turn it then is.

The recurrence fields mean what they mean in iCalendar (RFC 5545), on wall times of the schedule's zone: `interval` counts
hours, days, weeks (from `week_start`) or months; `by_day` and `by_monthday` choose days, also against `start`, which is an
occurrence only when it matches; a month without the day is skipped. A *turn* is one occurrence of an hourly or daily shift,
and all occurrences of one week or month of a weekly or monthly one; weeks and months without any are no turn.
Source of the turns: tests/vectors/README.md, kind `oncall`, form 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import gcd

from shared.oncall.walltime import days_in_month
from shared.playbook.escalation import DAYS, ShiftSpec

_DAY = timedelta(days=1)
_HOURS_A_WEEK = 168


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A wall-clock start (naive, in the schedule's zone) and the number of its turn, from 0."""

    start: datetime
    turn: int


class Recurrence:
    """The occurrences of one shift; `first` is its start as wall time of the schedule's zone."""

    __slots__ = ("_days", "_first", "_frequency", "_interval", "_monthdays", "_week_start")

    def __init__(self, spec: ShiftSpec, first: datetime) -> None:
        self._first = first
        self._frequency, self._interval = spec.frequency, spec.interval
        self._days = frozenset(DAYS.index(day) for day in spec.by_day) if spec.by_day else None
        self._monthdays = frozenset(spec.by_monthday) if spec.by_monthday else None
        self._week_start = DAYS.index(spec.week_start)

    def between(self, low: datetime, high: datetime) -> Iterator[Occurrence]:
        """Occurrences with `low <= start <= high` (wall times), in order."""
        if self._frequency is None:
            found: Iterator[Occurrence] = iter((Occurrence(self._first, 0),))
        elif self._frequency in ("hourly", "daily"):
            found = self._steps(low, high)
        elif self._frequency == "weekly":
            found = self._weeks(low, high)
        else:
            found = self._months(high)
        return (one for one in found if low <= one.start <= high)

    def _chosen(self, day: date) -> bool:
        if self._days is not None and day.weekday() not in self._days:
            return False
        if self._monthdays is None:
            return True
        return not self._monthdays.isdisjoint((day.day, day.day - days_in_month(day.year, day.month) - 1))

    # hourly and daily: equal steps of wall time, filtered by day

    def _steps(self, low: datetime, high: datetime) -> Iterator[Occurrence]:
        step = (_DAY if self._frequency == "daily" else timedelta(hours=1)) * self._interval
        number = max(0, -((self._first - low) // step))
        turn = self._count_before(number, step)
        start = self._first + number * step
        while start <= high:
            if self._chosen(start.date()):
                yield Occurrence(start, turn)
                turn += 1
            start += step

    def _count_before(self, number: int, step: timedelta) -> int:
        """How many of the steps 0 … number-1 are on chosen days; weekdays repeat, so whole cycles are not walked."""
        if self._days is None and self._monthdays is None:
            return number
        cycle = (
            7 // gcd(7, self._interval)
            if self._frequency == "daily"
            else _HOURS_A_WEEK // gcd(_HOURS_A_WEEK, self._interval)
        )
        if self._monthdays is not None:
            cycle = number + 1
        whole, rest = divmod(number, cycle)
        chosen = [self._chosen((self._first + index * step).date()) for index in range(cycle if whole else rest)]
        return whole * sum(chosen) + sum(chosen[:rest])

    # weekly: one turn a week of the recurrence

    def _weeks(self, low: datetime, high: datetime) -> Iterator[Occurrence]:
        days = sorted((day - self._week_start) % 7 for day in self._days or {self._first.weekday()})
        monday = self._first - ((self._first.weekday() - self._week_start) % 7) * _DAY
        first_empty = monday + days[-1] * _DAY < self._first
        step = self._interval * 7 * _DAY
        # `by_monthday` can leave weeks empty, and an empty week is no turn: then the weeks are walked from the first.
        number = 0 if self._monthdays is not None else max(0, (low - monday) // step)
        turn = number - first_empty if number else 0
        while monday + number * step <= high:
            starts = [start for day in days if (start := monday + number * step + day * _DAY) >= self._first]
            starts = [start for start in starts if self._chosen(start.date())]
            for start in starts:
                yield Occurrence(start, turn)
            turn += bool(starts)
            number += 1

    # monthly: one turn a month of the recurrence

    def _months(self, high: datetime) -> Iterator[Occurrence]:
        turn, index = 0, self._first.year * 12 + self._first.month - 1
        while datetime(index // 12, index % 12 + 1, 1) <= high:
            starts = [start for start in self._month(index // 12, index % 12 + 1) if start >= self._first]
            for start in starts:
                yield Occurrence(start, turn)
            turn += bool(starts)
            index += self._interval

    def _month(self, year: int, month: int) -> list[datetime]:
        length = days_in_month(year, month)
        if self._days is None and self._monthdays is None:
            days = [self._first.day] if self._first.day <= length else []
        else:
            days = [day for day in range(1, length + 1) if self._chosen(date(year, month, day))]
        return [self._first.replace(year=year, month=month, day=day) for day in days]
