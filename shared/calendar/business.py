"""`BusinessCalendar`: every question about open time, in aware datetimes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from shared.calendar.spec import DAYS, CalendarSpec, WeeklySegment, compile_rules
from shared.calendar.timeline import Timeline
from shared.calendar.walltime import MICROSECOND, instant_of, micros, moment, zone_named
from shared.calendar.workdays import WorkingDays

Stretch = tuple[datetime, datetime]


class BusinessCalendar:
    """When a team is open, compiled from a `CalendarSpec`.

    Immutable and cheap to share between threads. Instants come in with any zone and go out in UTC; a naive one is a `ValueError`.
    Segments are half-open: at its closing instant a calendar is closed. Exact to the microsecond. Source of every meaning:
    tests/vectors/README.md, "Calendar".
    """

    __slots__ = ("_days", "_line", "_rules", "spec", "zone")

    spec: CalendarSpec
    zone: ZoneInfo

    def __init__(self, spec: CalendarSpec) -> None:
        """Compile `spec`; raise `ValueError` naming the member that cannot be read."""
        rules = compile_rules(spec)
        self.spec = spec
        self.zone = zone_named(spec.tz)
        self._rules = rules
        self._line = Timeline(rules, self.zone)
        self._days = WorkingDays(rules)

    def __repr__(self) -> str:
        return f"BusinessCalendar({self.spec!r})"

    # -- open time -------------------------------------------------------------------------------------------------------

    def add(self, start: datetime, work: timedelta, *, before: bool = False) -> datetime | None:
        """Return the instant that is `work` of open time away from `start`; None when the calendar never opens that long.

        Forwards it is the earliest such instant, so a target used up exactly at closing is due at closing. Negative work, or
        `before`, goes backwards to the latest such instant. Zero is `start` when open, else the next opening; with `before`,
        `start` when open just before it, else the previous closing.
        """
        at = micros(start)
        amount = work // MICROSECOND
        if amount == 0:
            found = self._line.open_until(at) if before else self._line.open_from(at)
        elif amount < 0 or before:
            found = self._line.ahead_of(at, abs(amount))
        else:
            found = self._line.after(at, amount)
        return None if found is None else moment(found)

    def between(self, start: datetime, end: datetime) -> timedelta:
        """Return the open time from `start` to `end`; negative when reversed."""
        first, last = micros(start), micros(end)
        if last < first:
            return timedelta(0, 0, -self._line.between(last, first))
        return timedelta(0, 0, self._line.between(first, last))

    def is_open(self, at: datetime) -> bool:
        """Return whether `at` is in an open segment."""
        return self._line.is_open(micros(at))

    def next_open(self, at: datetime) -> datetime | None:
        """Return `at` when open, else the next opening."""
        return _moment(self._line.open_from(micros(at)))

    def next_close(self, at: datetime) -> datetime | None:
        """Return the end of the current or next open stretch; None when there is none, or it never ends."""
        opened = self._line.open_from(micros(at))
        return None if opened is None else _moment(self._line.stretch_end(opened))

    def previous_open(self, at: datetime) -> datetime | None:
        """Return the latest instant not after `at` with open time just before it: `at` itself, or the previous closing."""
        return _moment(self._line.open_until(micros(at)))

    def next_start(self, at: datetime) -> datetime | None:
        """Return the next opening strictly later than `at`."""
        instant = micros(at)
        if self._line.is_open(instant):
            end = self._line.stretch_end(instant)
            return None if end is None else _moment(self._line.open_from(end))
        return _moment(self._line.open_from(instant))

    def current_start(self, at: datetime) -> datetime | None:
        """Return the start of the current or next stretch; None when there is none, or it never began."""
        opened = self._line.open_from(micros(at))
        return None if opened is None else _moment(self._line.stretch_start(opened + 1))

    def stretches_after(self, origin: datetime) -> Iterator[Stretch]:
        """Yield the open stretches from `origin` on, the first cut there; one that never ends is not yielded."""
        opened = self._line.open_from(micros(origin))
        while opened is not None and (end := self._line.stretch_end(opened)) is not None:
            yield moment(opened), moment(end)
            opened = self._line.open_from(end)

    def stretches_before(self, origin: datetime) -> Iterator[Stretch]:
        """Yield the open stretches back from `origin`, latest first, the first cut there; an endless one is not yielded."""
        closed = self._line.open_until(micros(origin))
        while closed is not None and (start := self._line.stretch_start(closed)) is not None:
            yield moment(start), moment(closed)
            closed = self._line.open_until(start)

    # -- working days ----------------------------------------------------------------------------------------------------

    def add_days(self, start: datetime, days: int, *, end_of_day: bool = False) -> datetime | None:
        """Return the instant `days` working days away at the same wall time; None when there are not that many.

        From a day that is no working day it first rolls to one in the direction of travel. If closed at that wall time, it is
        the nearest open instant in the direction of travel. `end_of_day`: the last closing of that date instead.
        """
        wall = self._wall(start)
        day = self._days.add(wall.date(), days)
        if day is None:
            return None
        if end_of_day:
            return self._last_closing(day, forward=days >= 0)
        at = self.local_instant(day, wall.time())
        if self.is_open(at):
            return at
        return self.next_open(at) if days >= 0 else self.previous_open(at)

    def first_working_day_keep_time(self, start: datetime) -> datetime | None:
        """Return the wall time of `start` on the first working day from its date on."""
        wall = self._wall(start)
        day = self._days.roll(wall.date(), forward=True)
        return None if day is None else self.local_instant(day, wall.time())

    def is_working_day(self, day: date) -> bool:
        """Return whether `day`, local to the zone, is no holiday and has at least one segment."""
        return self._days.contains(day)

    def roll_day(self, day: date, *, forward: bool) -> date | None:
        """Return `day` when it is a working day, else the nearest one in the direction."""
        return self._days.roll(day, forward=forward)

    def add_working_days(self, day: date, days: int) -> date | None:
        """Roll to a working day in the direction of travel, then step; zero is `day` itself."""
        return self._days.add(day, days)

    def count_working_days(self, start: date, end: date) -> int:
        """Return the working days in `[start, end)`; negative when reversed."""
        return self._days.count(start, end)

    def working_days(self, start: date, end: date) -> Iterator[date]:
        """Yield the working days in `[start, end)`."""
        return self._days.within(start, end)

    def local_instant(self, day: date, wall: time) -> datetime:
        """Return the instant of a wall time on a date: skipped ones at the jump, repeated ones at the first occurrence."""
        return instant_of(datetime.combine(day, wall.replace(fold=0)), self.zone)

    def _wall(self, at: datetime) -> datetime:
        return moment(micros(at)).astimezone(self.zone).replace(tzinfo=None, fold=0)

    def _last_closing(self, day: date, *, forward: bool) -> datetime | None:
        """Return the end of the last open time of the segments that start on `day`; without any, the nearest closing."""
        spans = self._rules.spans(day)
        first, last = min((s for s, _ in spans), default=0), max((e for _, e in spans), default=0)
        midnight = datetime.combine(day, time())
        opening = instant_of(midnight + timedelta(seconds=first), self.zone)
        closing = self.previous_open(instant_of(midnight + timedelta(seconds=last), self.zone))
        if closing is None or closing > opening:
            return closing
        return self.next_close(opening) if forward else closing


class _AlwaysOpen(BusinessCalendar):
    """Around the clock without looking anything up: open time is elapsed time."""

    __slots__ = ()

    def add(self, start: datetime, work: timedelta, *, before: bool = False) -> datetime | None:
        at = start if start.tzinfo is UTC else moment(micros(start))
        try:
            return at - abs(work) if before or work < timedelta() else at + work
        except OverflowError:
            return None

    def between(self, start: datetime, end: datetime) -> timedelta:
        if start.tzinfo is UTC and end.tzinfo is UTC:
            return end - start
        return timedelta(microseconds=micros(end) - micros(start))

    def is_open(self, at: datetime) -> bool:
        return True

    def next_open(self, at: datetime) -> datetime | None:
        return moment(micros(at))

    def next_close(self, at: datetime) -> datetime | None:
        return None

    def previous_open(self, at: datetime) -> datetime | None:
        return moment(micros(at))


def _moment(instant: int | None) -> datetime | None:
    return None if instant is None else moment(instant)


ALWAYS_OPEN: BusinessCalendar = _AlwaysOpen(
    CalendarSpec(tz="UTC", weekly=tuple(WeeklySegment(day=day, start="00:00", end="24:00") for day in DAYS))
)
"""`calendar: null`: around the clock, in UTC. Working days are days of the UTC week, each ending at midnight."""
