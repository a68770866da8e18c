"""Working days: dates that are no holiday and have at least one segment, counted and stepped over.

Compiled a year at a time to a sorted list of ordinals, so that stepping and counting are binary searches.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import MAXYEAR, MINYEAR, date

from shared.calendar.spec import DayRules

# As in `timeline`: a year without working days tells nothing, 41 in a row after the last dated exception do.
_HORIZON_YEARS = 41
_KEPT_YEARS = 128


class WorkingDays:
    """The working days of one calendar; dates are local to its zone. A bounded cache of years, immutable in meaning."""

    __slots__ = ("_dated", "_rules", "_weekly", "_years")

    def __init__(self, rules: DayRules) -> None:
        self._rules = rules
        self._weekly = any(rules.weekly)
        self._dated = rules.dated()
        self._years: dict[int, list[int]] = {}

    def contains(self, day: date) -> bool:
        return self._rules.is_working_day(day)

    def roll(self, day: date, *, forward: bool) -> date | None:
        """Return `day` when it is a working day, else the nearest one in the direction; None when there is none."""
        return self._step(day, 1, include=True) if forward else self._step_back(day, 1, include=True)

    def add(self, day: date, days: int) -> date | None:
        """Roll to a working day in the direction of travel, then step `days` of them; zero is `day` itself, working or not."""
        if days == 0:
            return day
        # Rolling and stepping n days is being at the (n+1)th working day counted from `day` on.
        return self._step(day, days + 1, include=True) if days > 0 else self._step_back(day, 1 - days, include=True)

    def count(self, start: date, end: date) -> int:
        """Return the working days in `[start, end)`; negative when reversed."""
        if end < start:
            return -self.count(end, start)
        first, last = start.toordinal(), end.toordinal()
        if start.year == end.year:
            year = self._year(start.year)
            return bisect_left(year, last) - bisect_left(year, first)
        head, tail = self._year(start.year), self._year(end.year)
        between = sum(len(self._year(year)) for year in range(start.year + 1, end.year))
        return len(head) - bisect_left(head, first) + between + bisect_left(tail, last)

    def within(self, start: date, end: date) -> Iterator[date]:
        """Yield the working days in `[start, end)`."""
        for ordinal in range(start.toordinal(), end.toordinal()):
            day = date.fromordinal(ordinal)
            if self.contains(day):
                yield day

    def _step(self, day: date, number: int, *, include: bool) -> date | None:
        """Return the `number`th working day from `day` on."""
        ordinals = self._year(day.year)
        index = (bisect_left if include else bisect_right)(ordinals, day.toordinal()) + number - 1
        year, idle = day.year, 0
        while index >= len(ordinals):
            index -= len(ordinals)
            year += 1
            idle = 0 if ordinals else idle + 1
            if year > MAXYEAR or (self._past(year, last=True) and (idle > _HORIZON_YEARS or not self._weekly)):
                return None
            ordinals = self._year(year)
        return date.fromordinal(ordinals[index])

    def _step_back(self, day: date, number: int, *, include: bool) -> date | None:
        """Return the `number`th working day from `day` back."""
        ordinals = self._year(day.year)
        index = (bisect_right if include else bisect_left)(ordinals, day.toordinal()) - number
        year, idle = day.year, 0
        while index < 0:
            year -= 1
            idle = 0 if ordinals else idle + 1
            if year < MINYEAR or (self._past(year, last=False) and (idle > _HORIZON_YEARS or not self._weekly)):
                return None
            ordinals = self._year(year)
            index += len(ordinals)
        return date.fromordinal(ordinals[index])

    def _past(self, year: int, *, last: bool) -> bool:
        if self._dated is None:
            return True
        return year > self._dated[1].year if last else year < self._dated[0].year

    def _year(self, year: int) -> list[int]:
        found = self._years.get(year)
        if found is None:
            first, last = date(year, 1, 1).toordinal(), date(year, 12, 31).toordinal()
            found = [n for n in range(first, last + 1) if self.contains(date.fromordinal(n))]
            if len(self._years) >= _KEPT_YEARS:
                self._years = {}
            self._years[year] = found
        return found
