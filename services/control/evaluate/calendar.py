"""`signalbox eval calendar`: one `calendar_*` or `local_time` object in, the same object with its answers out.

The kinds, operations and meanings are those of tests/vectors/README.md, "Calendar". `calendar: null` is around the clock. Where the
object carries `semantics`, its own answer is somebody else's meaning and is left as given; ours is in `expected_neutral`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

from shared.calendar.business import ALWAYS_OPEN, BusinessCalendar
from shared.calendar.spec import CalendarSpec, parse_spec
from shared.calendar.walltime import instant_of, zone_named

Object = dict[str, Any]
T = TypeVar("T")


def evaluate(obj: Object, named: Callable[[str], CalendarSpec] | None = None) -> Object:
    """Return `obj` with every `expected…` member computed; raise `ValueError` naming the member that cannot be read.

    `named` finds a calendar that is given by its name.
    """
    kind = _choice(obj, "kind", _KINDS)
    name, answer = _KINDS[kind]
    calendar = obj.get("calendar")
    known = named(calendar) if named is not None and isinstance(calendar, str) else calendar
    try:
        value = answer(obj if known is calendar else obj | {"calendar": known})
    except OverflowError as error:
        raise ValueError(f"{kind}: beyond the years 1 to 9999: {error}") from error
    filled = dict(obj)
    if "semantics" in obj:
        filled.setdefault(name, value)
        filled["expected_neutral"] = value
    else:
        filled[name] = value
    return filled


def _add(obj: Object) -> str | None:
    work = _work(obj)
    before = _choice(obj, "direction", ("after", "before"), default="after") == "before"
    return _text(_calendar(obj).add(_instant(obj, "start"), work, before=before))


def _between(obj: Object) -> int | float:
    passed = _calendar(obj).between(_instant(obj, "start"), _instant(obj, "end"))
    seconds = passed.total_seconds()
    return int(seconds) if not passed.microseconds else seconds


def _open(obj: Object) -> bool:
    return _calendar(obj).is_open(_instant(obj, "at"))


def _roll(obj: Object) -> str | None:
    op = _choice(obj, "op", _ROLLS)
    return _text(_ROLLS[op](_calendar(obj), _instant(obj, "at")))


def _periods(obj: Object) -> list[list[str | None]]:
    calendar, origin, take = _calendar(obj), _instant(obj, "origin"), _whole(obj, "take")
    if take < 0:
        raise ValueError(f"take: not negative, please: {take}")
    before = _choice(obj, "direction", ("after", "before"), default="after") == "before"
    stretches = calendar.stretches_before(origin) if before else calendar.stretches_after(origin)
    return [[_text(start), _text(end)] for start, end in islice(stretches, take)]


def _days(obj: Object) -> Any:
    return _DAY_OPS[_choice(obj, "op", _DAY_OPS)](_calendar(obj), obj)


def _days_between(calendar: BusinessCalendar, obj: Object) -> int:
    start, end = _day(obj, "start_date"), _day(obj, "end_date")
    sign, first, last = (1, start, end) if start <= end else (-1, end, start)
    if _flag(obj, "include_end"):
        last += timedelta(days=1)
    return sign * calendar.count_working_days(first, last)


def _days_between_end_of_day(calendar: BusinessCalendar, obj: Object) -> int:
    start, end = _day(obj, "start_date"), _day(obj, "end_date")
    sign, first, last = (1, start, end) if start <= end else (-1, end, start)
    return sign * calendar.count_working_days(first + timedelta(days=1), last + timedelta(days=1))


def _list_dates(calendar: BusinessCalendar, obj: Object) -> list[str]:
    return [day.isoformat() for day in calendar.working_days(_day(obj, "start_date"), _day(obj, "end_date_exclusive"))]


def _add_days_at_time(calendar: BusinessCalendar, obj: Object) -> str | None:
    return _text(calendar.add_days(_instant(obj, "start"), _whole(obj, "days"), end_of_day=_flag(obj, "end_of_day")))


def _local_time(obj: Object) -> str | None:
    zone = _read(obj, "tz", zone_named)
    wall = _read(obj, "local", datetime.fromisoformat)
    if wall.tzinfo is not None:
        raise ValueError(f"local: a wall time has no offset: {obj['local']!r}")
    return _text(instant_of(wall, zone))


_ROLLS: dict[str, Callable[[BusinessCalendar, datetime], datetime | None]] = {
    "next_open": BusinessCalendar.next_open,
    "next_close": BusinessCalendar.next_close,
    "next_period_start": BusinessCalendar.next_start,
    "current_or_next_start": BusinessCalendar.current_start,
    "previous_open": BusinessCalendar.previous_open,
}

_DAY_OPS: dict[str, Callable[[BusinessCalendar, Object], Any]] = {
    "is_working_day": lambda calendar, obj: calendar.is_working_day(_day(obj, "date")),
    "roll_forward_date": lambda calendar, obj: _text(calendar.roll_day(_day(obj, "start_date"), forward=True)),
    "roll_backward_date": lambda calendar, obj: _text(calendar.roll_day(_day(obj, "start_date"), forward=False)),
    "add_days_date": lambda calendar, obj: _text(
        calendar.add_working_days(_day(obj, "start_date"), _whole(obj, "days"))
    ),
    "days_between": _days_between,
    "days_between_end_of_day": _days_between_end_of_day,
    "list_dates": _list_dates,
    "add_days_at_time": _add_days_at_time,
    "first_business_day_keep_time": lambda calendar, obj: _text(
        calendar.first_working_day_keep_time(_instant(obj, "start"))
    ),
}

_KINDS: dict[str, tuple[str, Callable[[Object], Any]]] = {
    "calendar_add": ("expected_due", _add),
    "calendar_between": ("expected_work_seconds", _between),
    "calendar_open": ("expected_open", _open),
    "calendar_roll": ("expected", _roll),
    "calendar_periods": ("expected_periods", _periods),
    "calendar_days": ("expected", _days),
    "local_time": ("expected_instant", _local_time),
}


def _calendar(obj: Object) -> BusinessCalendar:
    found = _member(obj, "calendar")
    if found is None:
        return ALWAYS_OPEN
    return _compiled(found if isinstance(found, CalendarSpec) else parse_spec(found))


@lru_cache(maxsize=64)
def _compiled(spec: CalendarSpec) -> BusinessCalendar:
    return BusinessCalendar(spec)


def _member(obj: Object, name: str) -> Any:
    if name not in obj:
        raise ValueError(f"{name}: missing")
    return obj[name]


def _choice(obj: Object, name: str, known: Any, *, default: str | None = None) -> str:
    value = _member(obj, name) if default is None else obj.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}: not one of {', '.join(known)}: {value!r}")
    return value


def _string(obj: Object, name: str) -> str:
    value = _member(obj, name)
    if not isinstance(value, str):
        raise ValueError(f"{name}: not text: {value!r}")
    return value


def _read(obj: Object, name: str, reader: Callable[[str], T]) -> T:
    text = _string(obj, name)
    try:
        return reader(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _instant(obj: Object, name: str) -> datetime:
    at = _read(obj, name, datetime.fromisoformat)
    if at.tzinfo is None:
        raise ValueError(f"{name}: an instant needs an offset: {obj[name]!r}")
    return at


def _day(obj: Object, name: str) -> date:
    return _read(obj, name, date.fromisoformat)


def _whole(obj: Object, name: str) -> int:
    value = _member(obj, name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name}: not a whole number: {value!r}")
    return value


def _work(obj: Object) -> timedelta:
    value = _member(obj, "work_seconds")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"work_seconds: not a number of seconds: {value!r}")
    try:
        return timedelta(seconds=value)
    except (OverflowError, ValueError) as error:
        raise ValueError(f"work_seconds: {error}") from error


def _flag(obj: Object, name: str) -> bool:
    value = obj.get(name, False)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise ValueError(f"{name}: neither true nor false: {value!r}")
    return value


def _text(value: date | datetime | None) -> str | None:
    """Return an instant with its offset, or a date; None stays None."""
    return None if value is None else value.isoformat()
