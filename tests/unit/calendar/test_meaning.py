"""The meaning of open time, case by case: edges, nights, holidays, clock changes, and calendars that never open."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from shared.calendar.business import ALWAYS_OPEN, BusinessCalendar
from shared.calendar.spec import DAYS, parse_spec
from shared.calendar.timeline import _KEPT_CHUNKS

HOUR = timedelta(hours=1)
WEEKDAYS = DAYS[:5]


def calendar(
    tz: str = "UTC", days: tuple[str, ...] = WEEKDAYS, hours: tuple[str, ...] = ("09:00-17:00",), **more: Any
) -> BusinessCalendar:
    weekly = [{"day": d, "start": h.split("-")[0], "end": h.split("-")[1]} for d in days for h in hours]
    return BusinessCalendar(parse_spec({"tz": tz, "weekly": weekly, **more}))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


ALL_DAY = calendar("Europe/Berlin", DAYS, ("00:00-24:00",))
NIGHT = calendar("UTC", ("mon",), ("22:00-06:00",), holidays=["2024-01-09"])


@pytest.mark.parametrize(
    ("made", "start", "end", "hours"),
    [
        (calendar(hours=("09:00-12:00", "12:00-17:00")), "2024-01-08T00:00Z", "2024-01-09T00:00Z", 8.0),
        (calendar(hours=("09:00-12:00", "11:00-13:00")), "2024-01-08T00:00Z", "2024-01-09T00:00Z", 4.0),
        (calendar(days=("mon",), hours=("09:00-09:00",)), "2024-01-08T00:00Z", "2024-01-12T00:00Z", 24.0),
        (calendar(days=("mon",), hours=("22:00-06:00",)), "2024-01-08T00:00Z", "2024-01-12T00:00Z", 8.0),
        # a holiday closes its own day, also the part of the night before that falls on it, but not what follows on the next day
        (NIGHT, "2024-01-08T00:00Z", "2024-01-12T00:00Z", 2.0),
        (
            calendar(days=("mon",), hours=("22:00-06:00",), holidays=["2024-01-08"]),
            "2024-01-08T00:00Z",
            "2024-01-12T00:00Z",
            6.0,
        ),
        (calendar(recurring_holidays=["01-08"]), "2024-01-08T00:00Z", "2024-01-10T00:00Z", 8.0),
        (
            calendar(breaks=[{"date": "2024-01-08", "start": "12:00", "end": "13:30"}]),
            "2024-01-08T00:00Z",
            "2024-01-09T00:00Z",
            6.5,
        ),
        (
            calendar(overrides=[{"date": "2024-01-06", "segments": [{"start": "10:00", "end": "12:00"}]}]),
            "2024-01-06T00:00Z",
            "2024-01-07T00:00Z",
            2.0,
        ),
        (calendar(overrides=[{"date": "2024-01-08", "segments": []}]), "2024-01-08T00:00Z", "2024-01-09T00:00Z", 0.0),
        (
            calendar(
                holidays=["2024-01-08"],
                overrides=[{"date": "2024-01-08", "segments": [{"start": "10:00", "end": "12:00"}]}],
            ),
            "2024-01-08T00:00Z",
            "2024-01-09T00:00Z",
            0.0,
        ),
        # clock changes: the days of 23 and 25 hours; a segment in the skipped hour; one in the repeated hour is open once
        (ALL_DAY, "2024-03-31T00:00+01:00", "2024-04-01T00:00+02:00", 23.0),
        (ALL_DAY, "2024-10-27T00:00+02:00", "2024-10-28T00:00+01:00", 25.0),
        (
            calendar("Europe/Berlin", ("sun",), ("02:10-02:50",)),
            "2024-03-31T00:00+01:00",
            "2024-04-01T00:00+02:00",
            0.0,
        ),
        (
            calendar("Europe/Berlin", ("sun",), ("01:30-02:30",)),
            "2024-03-31T00:00+01:00",
            "2024-04-01T00:00+02:00",
            0.5,
        ),
        (
            calendar("Europe/Berlin", ("sun",), ("02:10-02:50",)),
            "2024-10-27T00:00+02:00",
            "2024-10-28T00:00+01:00",
            2 / 3,
        ),
        (
            calendar("Europe/Berlin", ("sun",), ("02:30-03:30",)),
            "2024-10-27T00:00+02:00",
            "2024-10-28T00:00+01:00",
            2.0,
        ),
        # Samoa skipped the whole of Friday 2011-12-30
        (calendar("Pacific/Apia", DAYS, ("09:00-17:00",)), "2011-12-29T00:00-10:00", "2012-01-01T00:00+14:00", 16.0),
    ],
)
def test_open_hours_between(made: BusinessCalendar, start: str, end: str, hours: float) -> None:
    assert made.between(at(start), at(end)) == timedelta(hours=hours)
    assert made.between(at(end), at(start)) == -timedelta(hours=hours)


@pytest.mark.parametrize(
    ("start", "hours", "due"),
    [
        ("2024-01-08T10:00Z", 2, "2024-01-08T12:00Z"),
        ("2024-01-08T10:00Z", 7, "2024-01-08T17:00Z"),
        ("2024-01-08T10:00Z", 8, "2024-01-09T10:00Z"),
        ("2024-01-06T10:00Z", 1, "2024-01-08T10:00Z"),
        ("2024-01-06T10:00Z", 0, "2024-01-08T09:00Z"),
        ("2024-01-08T17:00Z", 0, "2024-01-09T09:00Z"),
        ("2024-01-08T10:00Z", -1, "2024-01-08T09:00Z"),
        ("2024-01-08T10:00Z", -2, "2024-01-05T16:00Z"),
        ("2024-01-08T10:00:00.000001Z", 7, "2024-01-09T09:00:00.000001Z"),
    ],
)
def test_a_target_is_due_at_the_first_instant_with_that_much_open_time(start: str, hours: int, due: str) -> None:
    assert calendar().add(at(start), hours * HOUR) == at(due)


@pytest.mark.parametrize(
    ("start", "since"),
    [
        ("2024-01-08T10:00Z", "2024-01-08T10:00Z"),
        ("2024-01-08T09:00Z", "2024-01-05T17:00Z"),
        ("2024-01-08T17:00Z", "2024-01-08T17:00Z"),
        ("2024-01-06T10:00Z", "2024-01-05T17:00Z"),
    ],
)
def test_no_work_backwards_is_the_instant_itself_or_the_closing_before(start: str, since: str) -> None:
    assert calendar().add(at(start), timedelta(), before=True) == at(since)
    assert calendar().previous_open(at(start)) == at(since)


def test_a_calendar_is_closed_at_its_closing_instant_and_open_at_its_opening() -> None:
    made = calendar()
    assert made.is_open(at("2024-01-08T09:00Z"))
    assert not made.is_open(at("2024-01-08T17:00Z"))
    assert made.is_open(at("2024-01-08T16:59:59.999999Z"))


YEAR_OF_HOLIDAYS = [(date(2000, 1, 1) + timedelta(days=n)).strftime("%m-%d") for n in range(366)]


@pytest.mark.parametrize(
    "made",
    [
        calendar(days=()),
        calendar(recurring_holidays=YEAR_OF_HOLIDAYS),
        calendar(
            "Europe/Berlin",
            days=(),
            overrides=[{"date": "2024-03-31", "segments": [{"start": "02:10", "end": "02:50"}]}],
        ),
    ],
)
def test_a_calendar_that_never_opens_answers_none(made: BusinessCalendar) -> None:
    start = at("2024-01-08T10:00Z")
    assert made.add(start, HOUR) is made.add(start, -HOUR) is made.add(start, timedelta()) is None
    assert made.next_open(start) is made.next_close(start) is made.previous_open(start) is None
    assert made.between(start, start + 1_000 * HOUR) == timedelta()
    assert list(made.stretches_after(start)) == list(made.stretches_before(start)) == []


def test_a_calendar_open_only_on_leap_days_is_found_across_eight_years_without_one() -> None:
    made = calendar(days=DAYS, recurring_holidays=[text for text in YEAR_OF_HOLIDAYS if text != "02-29"])
    assert made.next_open(at("2097-01-01T00:00Z")) == at("2104-02-29T09:00Z")
    assert made.add(at("2096-02-29T16:00Z"), 2 * HOUR) == at("2104-02-29T10:00Z")
    assert made.add_working_days(date(2096, 2, 29), 1) == date(2104, 2, 29)
    assert made.previous_open(at("2104-01-01T00:00Z")) == at("2096-02-29T17:00Z")


def test_a_stretch_that_never_ends_has_no_closing() -> None:
    assert ALL_DAY.next_close(at("2024-01-01T00:00Z")) is None
    assert ALL_DAY.next_start(at("2024-01-01T00:00Z")) is None
    assert list(ALL_DAY.stretches_after(at("2024-01-01T00:00Z"))) == []


def test_a_stretch_over_years_is_one_until_its_holiday() -> None:
    made = calendar("Europe/Berlin", DAYS, ("00:00-24:00",), holidays=["2020-06-01", "2031-06-01"])
    middle = at("2025-01-01T00:00Z")
    assert made.current_start(middle) == at("2020-06-02T00:00+02:00")
    assert made.next_close(middle) == at("2031-06-01T00:00+02:00")
    assert made.next_start(middle) == at("2031-06-02T00:00+02:00")


def test_around_the_clock_is_elapsed_time_in_utc() -> None:
    start = at("2024-03-30T12:00+01:00")
    assert ALWAYS_OPEN.add(start, 24 * HOUR) == start + 24 * HOUR
    assert ALWAYS_OPEN.add(start, -HOUR) == ALWAYS_OPEN.add(start, HOUR, before=True) == start - HOUR
    assert ALWAYS_OPEN.between(start + HOUR, start) == -HOUR
    assert ALWAYS_OPEN.is_open(start)
    assert ALWAYS_OPEN.next_open(start) == ALWAYS_OPEN.previous_open(start) == start
    assert ALWAYS_OPEN.next_close(start) is None
    assert ALWAYS_OPEN.add_days(start, 3) == start + 72 * HOUR
    assert ALWAYS_OPEN.add_days(start, 1, end_of_day=True) == at("2024-04-01T00:00Z")
    found = ALWAYS_OPEN.add(start, HOUR)
    assert found is not None
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    ("made", "start", "days", "end"),
    [
        (calendar(hours=("09:00-12:00", "13:00-17:00")), "2024-01-05T10:00Z", 1, "2024-01-08T17:00Z"),
        (
            calendar(breaks=[{"date": "2024-01-08", "start": "15:00", "end": "20:00"}]),
            "2024-01-05T10:00Z",
            1,
            "2024-01-08T15:00Z",
        ),
        (calendar(hours=("22:00-06:00",)), "2024-01-05T10:00Z", 1, "2024-01-09T06:00Z"),
        # a working day whose only segment is taken out by a break: the nearest closing in the direction of travel
        (
            calendar(breaks=[{"date": "2024-01-08", "start": "08:00", "end": "18:00"}]),
            "2024-01-05T10:00Z",
            1,
            "2024-01-09T17:00Z",
        ),
    ],
)
def test_the_end_of_a_working_day_is_its_last_closing(made: BusinessCalendar, start: str, days: int, end: str) -> None:
    assert made.add_days(at(start), days, end_of_day=True) == at(end)


def test_a_naive_instant_is_refused() -> None:
    naive = datetime(2024, 1, 8)
    for ask in (
        lambda: calendar().is_open(naive),
        lambda: calendar().add(naive, HOUR),
        lambda: calendar().add_days(naive, 1),
        lambda: calendar().between(naive, naive),
    ):
        with pytest.raises(ValueError, match="needs a zone or an offset"):
            ask()


def test_the_cache_of_compiled_time_stays_bounded() -> None:
    made = calendar()
    for year in range(1900, 2100):
        assert made.between(datetime(year, 1, 1, tzinfo=UTC), datetime(year, 12, 31, tzinfo=UTC)) > 2_000 * HOUR
    assert len(made._line._chunks) <= _KEPT_CHUNKS
