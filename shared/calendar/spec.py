"""When a calendar is open: the neutral form, and its checked reading as numbers.

The members and their meaning are those of `tests/vectors/README.md`, "Calendar". Wall times are text (`HH:MM`, `HH:MM:SS`, and
`24:00` for the next local midnight at an end), because `24:00` is no `datetime.time`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Protocol

import msgspec

from shared.calendar.walltime import zone_named

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_SECONDS = 86_400
_WALL = re.compile(r"(\d{2}):(\d{2})(?::(\d{2}))?", re.ASCII)
_MONTH_DAY = re.compile(r"(\d{2})-(\d{2})", re.ASCII)

# Seconds after the midnight of the day it starts on; an end beyond 86,400 is on the next day. Half-open.
Span = tuple[int, int]


class Segment(msgspec.Struct, frozen=True):
    """Open from `start` to `end` of a day; an `end` before `start` is on the next day, an equal one 24 hours later."""

    start: str
    end: str


class WeeklySegment(msgspec.Struct, frozen=True):
    """The same, every week on `day` (`mon` … `sun`)."""

    day: str
    start: str
    end: str


class Break(msgspec.Struct, frozen=True):
    """Closed from `start` to `end` on one date."""

    date: date
    start: str
    end: str


class Override(msgspec.Struct, frozen=True):
    """What is open on one date instead of the weekly segments; nothing when `segments` is empty."""

    date: date
    segments: tuple[Segment, ...] = ()


class CalendarSpec(msgspec.Struct, frozen=True):
    """When a calendar is open. `holidays` are local dates, `recurring_holidays` `MM-DD`; a holiday beats an override."""

    tz: str
    weekly: tuple[WeeklySegment, ...] = ()
    holidays: tuple[date, ...] = ()
    recurring_holidays: tuple[str, ...] = ()
    breaks: tuple[Break, ...] = ()
    overrides: tuple[Override, ...] = ()


class _Timed(Protocol):
    @property
    def start(self) -> str: ...
    @property
    def end(self) -> str: ...


@dataclass(frozen=True, slots=True)
class DayRules:
    """A `CalendarSpec` as numbers: which spans open on a date, and which parts of it are closed."""

    weekly: tuple[tuple[Span, ...], ...]
    holidays: frozenset[date]
    recurring: frozenset[tuple[int, int]]
    breaks: dict[date, tuple[Span, ...]] = field(default_factory=dict)
    overrides: dict[date, tuple[Span, ...]] = field(default_factory=dict)

    def spans(self, day: date) -> tuple[Span, ...]:
        """Return what opens on `day` before holidays and breaks are taken out."""
        found = self.overrides.get(day) if self.overrides else None
        return self.weekly[day.weekday()] if found is None else found

    def is_holiday(self, day: date) -> bool:
        return day in self.holidays or (bool(self.recurring) and (day.month, day.day) in self.recurring)

    def is_working_day(self, day: date) -> bool:
        """No holiday, and at least one segment starts on it."""
        return bool(self.spans(day)) and not self.is_holiday(day)

    def dated(self) -> tuple[date, date] | None:
        """Return the first and the last date that differs from its week, or None."""
        days = [*self.holidays, *self.breaks, *self.overrides]
        return (min(days), max(days)) if days else None


def parse_spec(obj: Any) -> CalendarSpec:
    """Read the neutral JSON form; raise `ValueError` naming the member. Members that are not known are ignored."""
    try:
        spec = msgspec.convert(obj, CalendarSpec)
    except msgspec.ValidationError as error:
        raise ValueError(f"calendar: {error}") from error
    try:
        compile_rules(spec)
    except ValueError as error:
        raise ValueError(f"calendar.{error}") from error
    return spec


def compile_rules(spec: CalendarSpec) -> DayRules:
    """Check `spec` and read its times; raise `ValueError` naming the offending member."""
    try:
        zone_named(spec.tz)
    except ValueError as error:
        raise ValueError(f"tz: {error}") from error
    weekly: list[list[Span]] = [[] for _ in DAYS]
    for index, segment in enumerate(spec.weekly):
        where = f"weekly[{index}]"
        if segment.day not in DAYS:
            raise ValueError(f"{where}.day: not one of {', '.join(DAYS)}: {segment.day!r}")
        weekly[DAYS.index(segment.day)].append(_span(segment, where))
    breaks: dict[date, list[Span]] = {}
    for index, pause in enumerate(spec.breaks):
        breaks.setdefault(pause.date, []).append(_span(pause, f"breaks[{index}]"))
    overrides: dict[date, list[Span]] = {}
    for index, override in enumerate(spec.overrides):
        spans = [_span(s, f"overrides[{index}].segments[{n}]") for n, s in enumerate(override.segments)]
        overrides.setdefault(override.date, []).extend(spans)
    return DayRules(
        weekly=tuple(tuple(sorted(spans)) for spans in weekly),
        holidays=frozenset(spec.holidays),
        recurring=frozenset(_recurring(spec.recurring_holidays)),
        breaks={day: tuple(spans) for day, spans in breaks.items()},
        overrides={day: tuple(sorted(spans)) for day, spans in overrides.items()},
    )


def wall_seconds(text: str, where: str) -> int:
    """Return `HH:MM[:SS]` as seconds after midnight, `24:00` as 86,400; raise `ValueError` naming `where`."""
    match = _WALL.fullmatch(text)
    if match:
        hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
        seconds = hour * 3_600 + minute * 60 + second
        if minute < 60 and second < 60 and seconds <= DAY_SECONDS:
            return seconds
    raise ValueError(f"{where}: not a wall time HH:MM or HH:MM:SS up to 24:00: {text!r}")


def _span(timed: _Timed, where: str) -> Span:
    start = wall_seconds(timed.start, f"{where}.start")
    end = wall_seconds(timed.end, f"{where}.end")
    if start == DAY_SECONDS:
        raise ValueError(f"{where}.start: 24:00 is only an end; write 00:00 of the next day")
    return (start, end) if end > start else (start, end + DAY_SECONDS)


def _recurring(texts: Iterable[str]) -> Iterable[tuple[int, int]]:
    for index, text in enumerate(texts):
        match = _MONTH_DAY.fullmatch(text)
        try:
            # 2000 is a leap year, so that 02-29 is a date.
            day = date(2000, int(match[1]), int(match[2])) if match else None
        except ValueError:
            day = None
        if day is None:
            raise ValueError(f"recurring_holidays[{index}]: not a day MM-DD: {text!r}")
        yield day.month, day.day
