"""The `calendars` section of a playbook: when a team is open, written as people say it.

    calendars:
      office:
        tz: Asia/Shanghai
        weekly:
          mon-fri: ["09:00-12:00", "13:00-18:00"]     # also `sat: 10:00-14:00`, `mon,wed: …`, `daily: 00:00-24:00`
        holidays: {country: CN}                       # subdivision, categories, years, makeup_like; or a list of such
        recurring_holidays: ["12-31"]
        icalendar: company-days.ics                   # a file beside the playbook, or the text itself; or a list
        breaks: {2026-07-01: "12:00-15:00"}
        exceptions:
          2026-02-14: closed                          # closed | open | mon (as on a Monday) | hours
          2026-05-02: ["10:00-14:00"]

Hours `22:00-06:00` end on the next day and belong to the day they start on; `24:00` is the next midnight. `publish` turns a section
into a `CalendarSpec` and takes a snapshot of the holidays, so that a later release of the library changes nothing that runs.

What wins on one date: an exception, else the iCalendar files, else the library; a date that is opened is taken out of the holidays,
because in the published form a holiday beats everything. Make-up working days (调休) are opened with the hours of a normal weekday.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any

import msgspec

from shared.calendar.business import BusinessCalendar
from shared.calendar.spec import DAYS, Break, CalendarSpec, Override, Segment, WeeklySegment
from shared.playbook.types import Config

Hours = str | tuple[str, ...]
Segments = tuple[Segment, ...]
_FULL_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CLOCK = r"(\d{1,2}):(\d{2})(?::(\d{2}))?"
_HOURS = re.compile(rf"\s*{_CLOCK}\s*[-–]\s*{_CLOCK}\s*", re.ASCII)
_MOST_DATES = 20_000  # of one repeating iCalendar event; beyond it a rule is a mistake
_ADJUSTED_YEARS_BACK = 3  # a country that published make-up days that lately is expected to do it again


class HolidaySource(Config, frozen=True, kw_only=True):
    """Public holidays of the `holidays` library. `country` is an ISO 3166 code, `subdivision` a state or province of it.

    `years` replaces the years of publishing. `makeup_like` is the weekday whose hours a make-up working day has; without it, the
    first day from Monday on that has hours.
    """

    country: str
    subdivision: str | None = None
    categories: tuple[str, ...] = ()
    years: tuple[int, ...] = ()
    makeup_like: str | None = None


class CalendarSection(Config, frozen=True, kw_only=True):
    """One calendar as it is written. What a date is: `signalbox eval calendar --playbook DIR` says it of a calendar by its name."""

    tz: str
    """An IANA name."""
    weekly: dict[str, Hours] = msgspec.field(default_factory=dict)
    """By day or days (`mon`, `mon-fri`, `sat,sun`, `daily`): `09:00-12:00` or a list; `22:00-06:00` ends on the next day."""
    holidays: HolidaySource | tuple[HolidaySource, ...] | None = None
    recurring_holidays: tuple[str, ...] = ()
    """Closed each year: `12-31`."""
    icalendar: str | tuple[str, ...] = ()
    """Files beside the playbook, or their text: whole days closed, or made working days (`X-APPLE-SPECIAL-DAY`). Events with a time
    of day are left out."""
    breaks: dict[str, Hours] = msgspec.field(default_factory=dict)
    """By date: hours closed on that day only."""
    exceptions: dict[str, Hours] = msgspec.field(default_factory=dict)
    """By date, before everything else: `closed`, `open` (as on a normal weekday), `mon` (as on a Monday), or hours."""


@dataclass(slots=True)
class _Dates:
    """The dates that differ from their week while a section is published; the last word on a date holds."""

    weekly: dict[str, Segments]
    closed: set[date] = field(default_factory=set)
    opened: dict[date, Segments] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def close(self, day: date) -> None:
        self.opened.pop(day, None)
        self.closed.add(day)

    def open(self, day: date, segments: Segments) -> None:
        self.closed.discard(day)
        self.opened[day] = segments

    def normal_weekday(self, like: str | None, where: str) -> Segments:
        """Return the hours of a normal working day."""
        names = [_day(like, where)] if like else DAYS
        found = next((self.weekly[name] for name in names if self.weekly[name]), None)
        if found is None:
            raise ValueError(f"{where}: no weekday has hours that a make-up working day could take")
        return found


def publish(
    section: CalendarSection, years: Iterable[int], *, read: Callable[[str], str] | None = None
) -> tuple[CalendarSpec, list[str]]:
    """Return the calendar of `section` with the holidays of `years`, and warnings.

    `read` returns the text of an iCalendar file named in the section; without it a named file is refused.

    Raises:
        ValueError: what cannot be read, or never opens from the first of `years` on; begins with the member's path.
    """
    used = sorted(set(years))
    if not used:
        raise ValueError("years: a calendar is published for at least one year")
    dates = _Dates(_weekly(section))
    for where, source in _sources(section.holidays):
        _add_library(dates, source, sorted(set(source.years)) or used, where)
    for where, text in _icalendar_texts(section.icalendar, read):
        _add_icalendar(dates, text, used, where)
    for day, where, hours in _dated(section.exceptions, "exceptions"):
        _add_exception(dates, day, hours, where)
    spec = _spec(section, dates, used)
    if BusinessCalendar(spec).next_open(datetime(used[0], 1, 1, tzinfo=UTC)) is None:
        raise ValueError("weekly: the calendar never opens")
    return spec, dates.warnings


# ---- what is written ----------------------------------------------------------------------------------------------------


def _weekly(section: CalendarSection) -> dict[str, Segments]:
    weekly: dict[str, Segments] = {}
    for key, hours in section.weekly.items():
        segments = _segments(hours, f"weekly.{key}")
        for name in _days(key):
            if name in weekly:
                raise ValueError(f"weekly.{key}: {name} has its hours already")
            weekly[name] = segments
    return {name: weekly.get(name, ()) for name in DAYS}


def _days(key: str) -> Iterator[str]:
    """Read `mon`, `mon-fri`, `fri-mon`, `mon,wed` and `daily`."""
    where = f"weekly.{key}"
    if key.strip().lower() == "daily":
        yield from DAYS
        return
    for part in key.split(","):
        first, dash, last = part.partition("-")
        start = DAYS.index(_day(first, where))
        end = DAYS.index(_day(last, where)) if dash else start
        for step in range((end - start) % 7 + 1):
            yield DAYS[(start + step) % 7]


def _day(text: str, where: str) -> str:
    word = text.strip().lower()
    if len(word) >= 3:
        for short, full in zip(DAYS, _FULL_NAMES, strict=True):
            if full.startswith(word):
                return short
    raise ValueError(f"{where}: not a day (mon … sun): {text!r}")


def _segments(hours: Hours, where: str) -> Segments:
    """Read one or several `09:00-12:00`; `closed` and an empty list are none."""
    if isinstance(hours, str):
        return () if hours.strip().lower() == "closed" else (_segment(hours, where),)
    return tuple(_segment(text, f"{where}[{index}]") for index, text in enumerate(hours))


def _segment(text: str, where: str) -> Segment:
    match = _HOURS.fullmatch(text)
    if not match:
        raise ValueError(f"{where}: not hours like 09:00-17:30: {text!r}")
    start, end = _clock(match.groups()[:3]), _clock(match.groups()[3:])
    if (
        end > "24:00"
        or start >= "24:00"
        or any(int(part or 0) > 59 for part in (match[2], match[3], match[5], match[6]))
    ):
        raise ValueError(f"{where}: no such time of day: {text!r}")
    return Segment(start=start, end=end)


def _clock(parts: Sequence[str | None]) -> str:
    hour, minute, second = parts
    return f"{int(hour or 0):02}:{minute}" + (f":{second}" if second and second != "00" else "")


# ---- where dates come from ----------------------------------------------------------------------------------------------


def _sources(given: HolidaySource | tuple[HolidaySource, ...] | None) -> Iterator[tuple[str, HolidaySource]]:
    if isinstance(given, HolidaySource):
        yield "holidays", given
    elif given is not None:
        for index, source in enumerate(given):
            yield f"holidays[{index}]", source


def _add_library(dates: _Dates, source: HolidaySource, years: list[int], where: str) -> None:
    library, worked = _look_up(source, years, where)
    for day in library:
        if day.year in years:
            dates.close(day)
    adjusted = {day.year for day in worked}
    for day in sorted(worked):
        if day.year in years:
            dates.open(day, dates.normal_weekday(source.makeup_like, f"{where}.makeup_like"))
    newest = max(adjusted, default=0)
    unknown = [year for year in years if year > newest]
    if newest and unknown and unknown[0] <= newest + _ADJUSTED_YEARS_BACK:
        dates.warnings.append(
            f"{where}: the adjusted working days of {source.country} are not published yet for "
            f"{', '.join(map(str, unknown))}: only statutory holidays count there; publish again when they are announced"
        )
    if library.end_year < years[-1]:
        dates.warnings.append(f"{where}: holidays of {source.country} are not known after {library.end_year}")


def _look_up(source: HolidaySource, years: list[int], where: str) -> tuple[Any, set[date]]:
    """Return the library's holidays, and its make-up working days of a few years more, to see the newest ones published."""
    import holidays  # half a second: only publishing needs it

    options: dict[str, Any] = {"subdiv": source.subdivision}
    if source.categories:
        options["categories"] = source.categories
    country = source.country.strip().upper() if len(source.country.strip()) == 2 else source.country.strip()
    around = range(years[0] - _ADJUSTED_YEARS_BACK - 1, years[-1] + 2)
    try:
        library = holidays.country_holidays(country, years=around, **options)
    except (NotImplementedError, ValueError) as error:
        member = "categories" if "ategor" in str(error) else "subdivision" if "subdivision" in str(error) else "country"
        raise ValueError(f"{where}.{member}: {error}") from error
    # Some entries are lists of all years; those outside the years asked for tell nothing about what is published.
    return library, {day for day in library.weekend_workdays if around.start <= day.year < around.stop}


def _icalendar_texts(given: str | tuple[str, ...], read: Callable[[str], str] | None) -> Iterator[tuple[str, str]]:
    for index, one in enumerate((given,) if isinstance(given, str) else given):
        where = "icalendar" if isinstance(given, str) else f"icalendar[{index}]"
        if "BEGIN:VCALENDAR" in one:
            yield where, one
        elif read is None:
            raise ValueError(f"{where}: the file {one!r} cannot be read here; write its text instead")
        else:
            try:
                yield where, read(one)
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"{where}: {error}") from error


def _add_icalendar(dates: _Dates, text: str, years: list[int], where: str) -> None:
    """Close the days of all-day events (RFC 5545). Events that Apple's feeds mark as working days are opened.

    Cancelled events and events with a time of day are left out. `TRANSP` is not looked at: public feeds mark holidays as free.
    """
    import icalendar  # only publishing needs it

    try:
        events = [event for part in icalendar.Calendar.from_ical(text, multiple=True) for event in part.walk("VEVENT")]
        found = [
            (event, list(_event_dates(event, years))) for event in events if str(event.get("STATUS", "")) != "CANCELLED"
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{where}: not an iCalendar text: {error}") from error
    timed = sum(1 for event, days in found if not days and isinstance(event.get("DTSTART").dt, datetime))
    if timed:
        dates.warnings.append(
            f"{where}: {timed} events with a time of day are left out; only all-day events are holidays"
        )
    for event, days in found:
        working = str(event.get("X-APPLE-SPECIAL-DAY", "")) == "ALTERNATE-WORKDAY"
        for day in days:
            if working:
                dates.open(day, dates.normal_weekday(None, where))
            else:
                dates.close(day)


def _event_dates(event: Any, years: list[int]) -> Iterator[date]:
    """Yield the days of an all-day event; a repeating one within `years`."""
    start = event["DTSTART"].dt
    if isinstance(start, datetime):
        return
    end = (
        event["DTEND"].dt
        if "DTEND" in event
        else start + (event["DURATION"].dt if "DURATION" in event else timedelta(days=1))
    )
    length = max((end - start).days, 1)
    skipped = set(_listed(event, "EXDATE"))
    for first in [*_repeats(event, start, years), *_listed(event, "RDATE")]:
        if first not in skipped:
            for step in range(length):
                yield first + timedelta(days=step)


def _repeats(event: Any, start: date, years: list[int]) -> Iterator[date]:
    if "RRULE" not in event:
        yield start
        return
    from dateutil.rrule import rrulestr  # type: ignore[import-untyped]  # comes with icalendar, which has no rule walker of its own

    text = event["RRULE"].to_ical().decode()
    if not any(f"FREQ={name}" in text for name in ("YEARLY", "MONTHLY", "WEEKLY", "DAILY")):
        raise ValueError(f"an all-day event cannot repeat by {text}")
    rule = rrulestr(text, dtstart=datetime(start.year, start.month, start.day), ignoretz=True)
    for at in islice(rule, _MOST_DATES):
        if at.year > years[-1]:
            return
        if at.year >= years[0]:
            yield at.date()


def _listed(event: Any, name: str) -> Iterator[date]:
    given = event.get(name)
    for group in given if isinstance(given, list) else [given] if given is not None else []:
        for one in group.dts:
            yield one.dt.date() if isinstance(one.dt, datetime) else one.dt


def _dated(given: dict[str, Hours], member: str) -> list[tuple[date, str, Hours]]:
    """Read the dates that are keys; in their order, each with its path."""
    found = []
    for text, hours in given.items():
        try:
            found.append((date.fromisoformat(text), f"{member}.{text}", hours))
        except ValueError as error:
            raise ValueError(f"{member}.{text}: not a date YYYY-MM-DD") from error
    return sorted(found, key=lambda entry: entry[0])


def _add_exception(dates: _Dates, day: date, what: Hours, where: str) -> None:
    word = what.strip().lower().removeprefix("like ") if isinstance(what, str) else ""
    if word == "closed" or what == ():
        dates.close(day)
    elif word == "open":
        dates.open(day, dates.weekly[DAYS[day.weekday()]] or dates.normal_weekday(None, where))
    elif word and word[0].isalpha():
        dates.open(day, dates.normal_weekday(word, where))
    else:
        dates.open(day, _segments(what, where))


# ---- the published form -------------------------------------------------------------------------------------------------


def _spec(section: CalendarSection, dates: _Dates, years: list[int]) -> CalendarSpec:
    recurring, expanded = _recurring(section.recurring_holidays, dates, years)
    weekly = [WeeklySegment(day=name, start=s.start, end=s.end) for name in DAYS for s in dates.weekly[name]]
    breaks = [
        Break(date=day, start=s.start, end=s.end)
        for day, where, hours in _dated(section.breaks, "breaks")
        for s in _segments(hours, where)
    ]
    overrides = [
        Override(date=day, segments=segments)
        for day, segments in sorted(dates.opened.items())
        if segments != dates.weekly[DAYS[day.weekday()]]
    ]
    return CalendarSpec(
        tz=section.tz,
        weekly=tuple(weekly),
        holidays=tuple(sorted(dates.closed | expanded)),
        recurring_holidays=recurring,
        breaks=tuple(breaks),
        overrides=tuple(overrides),
    )


def _recurring(given: tuple[str, ...], dates: _Dates, years: list[int]) -> tuple[tuple[str, ...], set[date]]:
    """Return the recurring holidays, and as single dates those of which one year is opened.

    In the published form a holiday beats an override, so a day that must open in one year cannot stay recurring.
    """
    kept, expanded = [], set[date]()
    for text in given:
        clash = {day for day in dates.opened if day.strftime("%m-%d") == text}
        if not clash:
            kept.append(text)
            continue
        for year in range(years[0], max(years[-1], *(day.year for day in clash)) + 1):
            try:
                expanded.add(date.fromisoformat(f"{year:04}-{text}"))
            except ValueError:  # 02-29 in another year
                continue
        expanded -= clash
        dates.warnings.append(
            f"recurring_holidays: {text} is opened in one year by another entry, so it is closed until {years[-1]} only"
        )
    return tuple(kept), expanded
