"""The `calendars` section: what is written, what is published, what is refused, what is warned about."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest

from shared.calendar.business import BusinessCalendar
from shared.calendar.spec import CalendarSpec
from shared.playbook.calendars import CalendarSection, publish
from shared.playbook.types import decode, encode

OFFICE: dict[str, Any] = {"tz": "Asia/Shanghai", "weekly": {"mon-fri": ["09:00-12:00", "13:00-18:00"]}}
CHINA: dict[str, Any] = {**OFFICE, "holidays": {"country": "CN"}}
MAKE_UP_2026 = ["2026-01-04", "2026-02-14", "2026-02-28", "2026-05-09", "2026-09-20", "2026-10-10"]
ICS = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//x//y//EN
BEGIN:VEVENT
UID:1
SUMMARY:Closing days
DTSTART;VALUE=DATE:20261224
DTEND;VALUE=DATE:20261227
END:VEVENT
BEGIN:VEVENT
UID:2
SUMMARY:Founders' day
DTSTART;VALUE=DATE:20200611
RRULE:FREQ=YEARLY;UNTIL=20280101
EXDATE;VALUE=DATE:20270611
END:VEVENT
BEGIN:VEVENT
UID:3
SUMMARY:We work
DTSTART;VALUE=DATE:20261010
X-APPLE-SPECIAL-DAY:ALTERNATE-WORKDAY
END:VEVENT
BEGIN:VEVENT
UID:4
SUMMARY:Party
DTSTART:20261112T100000Z
END:VEVENT
BEGIN:VEVENT
UID:5
SUMMARY:Not this year
STATUS:CANCELLED
DTSTART;VALUE=DATE:20261113
END:VEVENT
END:VCALENDAR
"""


def published(section: dict[str, Any], years: range = range(2026, 2027), **more: Any) -> tuple[CalendarSpec, list[str]]:
    return publish(decode(section, CalendarSection), years, **more)


def hours_on(spec: CalendarSpec, day: str) -> float:
    calendar = BusinessCalendar(spec)
    start = datetime.fromisoformat(day).replace(tzinfo=calendar.zone)
    return calendar.between(start.astimezone(UTC), (start + timedelta(days=1)).astimezone(UTC)) / timedelta(hours=1)


@pytest.mark.parametrize("day", MAKE_UP_2026)
def test_a_make_up_weekend_day_in_china_has_a_normal_weekdays_hours(day: str) -> None:
    spec, warnings = published(CHINA)
    assert warnings == []
    assert date.fromisoformat(day).weekday() >= 5
    assert hours_on(spec, day) == 8
    assert BusinessCalendar(spec).is_working_day(date.fromisoformat(day))


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-10-01", 0), ("2026-10-07", 0), ("2026-10-08", 8), ("2026-02-15", 0), ("2026-10-11", 0)]
)
def test_other_days_in_china_are_holidays_working_days_and_weekends(day: str, hours: float) -> None:
    assert hours_on(published(CHINA)[0], day) == hours


@pytest.mark.parametrize(
    ("day", "what", "hours"),
    [
        ("2026-10-01", "open", 8),
        ("2026-10-01", "10:00-12:00", 2),
        ("2026-10-01", ["10:00-11:00", "20:00-24:00"], 5),
        ("2026-10-03", "open", 8),
        ("2026-10-03", "like mon", 8),
        ("2026-10-10", "closed", 0),
        ("2026-10-12", "closed", 0),
        ("2026-10-12", [], 0),
    ],
)
def test_an_exception_beats_the_library_by_taking_the_date_out_of_its_holidays(
    day: str, what: Any, hours: float
) -> None:
    spec, _ = published({**CHINA, "exceptions": {day: what}})
    assert hours_on(spec, day) == hours
    assert (date.fromisoformat(day) in spec.holidays) == (hours == 0)


def test_a_year_without_published_adjusted_days_is_warned_about_and_a_country_without_any_is_not() -> None:
    _, warnings = published(CHINA, range(2025, 2029))
    assert len(warnings) == 1
    assert "CN" in warnings[0]
    assert "2027, 2028" in warnings[0]
    assert "2026," not in warnings[0]
    assert published({**OFFICE, "holidays": {"country": "DE", "subdivision": "BY"}}, range(2025, 2029))[1] == []


def test_subdivisions_categories_years_and_several_sources_are_taken_as_written() -> None:
    bavaria = {"country": "DE", "subdivision": "BY", "categories": ["public", "catholic"], "years": [2030]}
    spec, _ = published({**OFFICE, "holidays": [bavaria, {"country": "de"}]})
    assert date(2030, 8, 15) in spec.holidays
    assert date(2026, 10, 3) in spec.holidays
    assert {day.year for day in spec.holidays} == {2026, 2030}


def test_make_up_days_can_be_like_another_weekday() -> None:
    weekly = {"mon-thu": "09:00-18:00", "fri": "09:00-14:00"}
    spec, _ = published({"tz": "Asia/Shanghai", "weekly": weekly, "holidays": {"country": "CN", "makeup_like": "fri"}})
    assert hours_on(spec, "2026-10-10") == 5


@pytest.mark.parametrize(
    ("weekly", "days"),
    [
        ({"mon-fri": "09:00-17:00"}, "mon tue wed thu fri"),
        ({"fri-mon": "09:00-17:00"}, "mon fri sat sun"),
        ({"mon,wed": "9:00-17:00"}, "mon wed"),
        ({"daily": ["09:00 – 17:00"]}, "mon tue wed thu fri sat sun"),
        ({"Tuesday": "09:00-17:00", "thu": "closed", "fri": []}, "tue"),
    ],
)
def test_days_are_written_as_people_say_them(weekly: dict[str, Any], days: str) -> None:
    spec, _ = published({"tz": "UTC", "weekly": weekly})
    assert [segment.day for segment in spec.weekly] == days.split()
    assert {(segment.start, segment.end) for segment in spec.weekly} == {("09:00", "17:00")}


def test_all_day_events_of_an_icalendar_text_are_holidays() -> None:
    spec, warnings = published({**OFFICE, "icalendar": ICS}, range(2026, 2029))
    assert [day.isoformat() for day in spec.holidays] == ["2026-06-11", "2026-12-24", "2026-12-25", "2026-12-26"]
    assert hours_on(spec, "2026-10-10") == 8
    assert warnings == ["icalendar: 1 events with a time of day are left out; only all-day events are holidays"]


def test_an_icalendar_file_is_read_by_the_given_reader_and_refused_without_one() -> None:
    spec, _ = published({**OFFICE, "icalendar": ["days.ics"]}, read={"days.ics": ICS}.__getitem__)
    assert date(2026, 12, 24) in spec.holidays
    with pytest.raises(ValueError, match=r"icalendar\[0\]: the file 'days.ics' cannot be read here"):
        published({**OFFICE, "icalendar": ["days.ics"]})


def test_breaks_close_part_of_a_date() -> None:
    assert hours_on(published({**OFFICE, "breaks": {"2026-07-01": "14:00-16:00"}})[0], "2026-07-01") == 6


def test_an_exception_opens_a_recurring_holiday_in_its_year_only() -> None:
    section = {**OFFICE, "recurring_holidays": ["12-31", "02-29"], "exceptions": {"2026-12-31": "10:00-12:00"}}
    spec, warnings = published(section, range(2025, 2028))
    assert [hours_on(spec, f"{year}-12-31") for year in (2025, 2026, 2027)] == [0, 2, 0]
    assert spec.recurring_holidays == ("02-29",)
    assert len(warnings) == 1


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ({"tz": "UTC"}, "weekly: the calendar never opens"),
        ({"tz": "UTC", "exceptions": {"2020-01-01": "09:00-10:00"}}, "weekly: the calendar never opens"),
        (
            {"tz": "UTC", "weekly": {"mon": "09:00-17:00", "mon-fri": "09:00-17:00"}},
            "weekly.mon-fri: mon has its hours already",
        ),
        ({"tz": "UTC", "weekly": {"funday": "09:00-17:00"}}, "weekly.funday: not a day"),
        ({"tz": "UTC", "weekly": {"m": "09:00-17:00"}}, "weekly.m: not a day"),
        ({"tz": "UTC", "weekly": {"mon": "nine to five"}}, "weekly.mon: not hours"),
        ({"tz": "UTC", "weekly": {"mon": ["09:00-12:00", "13:00-25:00"]}}, r"weekly.mon\[1\]: no such time"),
        ({"tz": "UTC", "weekly": {"mon": "09:61-12:00"}}, "weekly.mon: no such time"),
        ({"tz": "Mars/Base", "weekly": {"mon": "09:00-17:00"}}, "tz: not an IANA time zone"),
        ({**OFFICE, "holidays": {"country": "XX"}}, "holidays.country: "),
        (
            {**OFFICE, "holidays": [{"country": "CN"}, {"country": "DE", "subdivision": "ZZ"}]},
            r"holidays\[1\].subdivision: ",
        ),
        ({**OFFICE, "holidays": {"country": "DE", "categories": ["nonsense"]}}, "holidays.categories: "),
        ({**CHINA, "holidays": {"country": "CN", "makeup_like": "sat"}}, "holidays.makeup_like: no weekday has hours"),
        ({**OFFICE, "recurring_holidays": ["31-12"]}, r"recurring_holidays\[0\]"),
        ({**OFFICE, "exceptions": {"2026-02-30": "closed"}}, "exceptions.2026-02-30: not a date"),
        ({**OFFICE, "exceptions": {"2026-02-03": "maybe"}}, "exceptions.2026-02-03: not a day"),
        ({**OFFICE, "exceptions": {"2026-02-03": "like sun"}}, "exceptions.2026-02-03: no weekday has hours"),
        ({**OFFICE, "breaks": {"2026-02-03": "noon"}}, "breaks.2026-02-03: not hours"),
        ({**OFFICE, "icalendar": "BEGIN:VCALENDAR\nnonsense"}, "icalendar: not an iCalendar text"),
        ({**OFFICE, "icalendar": ICS.replace("FREQ=YEARLY", "FREQ=SECONDLY")}, "icalendar: .*SECONDLY"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_path(section: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}"):
        published(section)


def test_a_misspelt_member_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="holiday"):
        decode({**OFFICE, "holiday": {"country": "CN"}}, CalendarSection)


def test_a_section_and_its_published_form_are_stored_and_read_back_equal() -> None:
    section = decode({**CHINA, "exceptions": {"2026-10-01": "open"}}, CalendarSection)
    spec, _ = publish(section, range(2026, 2027))
    assert decode(json.loads(encode(section)), CalendarSection) == section
    assert decode(json.loads(encode(spec)), CalendarSpec) == spec
