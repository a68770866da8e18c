"""Generated calendars around the clock changes of 2000–2037, beside an independent checker; and the algebra of open time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.calendar.business import BusinessCalendar
from shared.calendar.spec import parse_spec
from tests.support.slow_calendar import DAY_NAMES, SECOND, SlowCalendar, changes, to_datetime, to_int

# Half-hour and quarter-hour clocks; changes at midnight, at 00:01 and by half an hour; skipped days; offsets that moved.
ZONES = (
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Europe/London",
    "Asia/Shanghai",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/Sao_Paulo",
    "America/Havana",
    "Asia/Beirut",
    "Asia/Tehran",
    "Africa/Casablanca",
    "Antarctica/Troll",
    "Pacific/Chatham",
    "Asia/Pyongyang",
    "America/Caracas",
    "Europe/Samara",
    "Asia/Gaza",
    "Africa/Cairo",
    "America/Santiago",
    "Atlantic/Azores",
    "America/Scoresbysund",
    "Pacific/Apia",
    "Pacific/Fakaofo",
    "America/St_Johns",
    "Pacific/Kwajalein",
    "Asia/Amman",
    "Africa/Juba",
    "Europe/Volgograd",
    "America/Nuuk",
    "Antarctica/Casey",
)
HOUR = timedelta(hours=1)
QUICK = settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
ALGEBRA = settings(QUICK, max_examples=100)
NIGHTLY = settings(QUICK, max_examples=20_000)


@st.composite
def clock_texts(draw: st.DrawFn, *, end: bool = False) -> str:
    if end and draw(st.integers(0, 5)) == 0:
        return "24:00"
    # Clock changes are in the first hours of the day or around midnight, so most edges are put there.
    hour = draw(st.one_of(st.integers(0, 3), st.integers(0, 23), st.just(23)))
    minute = draw(st.sampled_from([0, 0, 0, 1, 15, 30, 45, 59]))
    second = draw(st.sampled_from([0, 0, 0, 0, 1, 30, 59]))
    return f"{hour:02}:{minute:02}" + (f":{second:02}" if second else "")


@st.composite
def segments(draw: st.DrawFn) -> dict[str, str]:
    return {"start": draw(clock_texts()), "end": draw(clock_texts(end=True))}


@st.composite
def anchors(draw: st.DrawFn) -> tuple[str, datetime]:
    """A zone, and an instant: mostly one of the zone's clock changes."""
    zone, year = draw(st.sampled_from(ZONES)), draw(st.integers(2000, 2037))
    near = changes(zone, year)
    mostly: int = draw(st.integers(0, 9))
    if near and mostly:
        return zone, to_datetime(draw(st.sampled_from(near)) * SECOND)
    return zone, datetime(year, draw(st.integers(1, 12)), draw(st.integers(1, 28)), tzinfo=UTC)


@st.composite
def calendars(draw: st.DrawFn) -> tuple[dict[str, Any], datetime]:
    """A calendar in the neutral form, and the instant around which its exceptions lie."""
    zone, anchor = draw(anchors())
    dates = st.integers(-8, 8).map(lambda n: (anchor.date() + timedelta(days=n)).isoformat())
    day = st.sampled_from(DAY_NAMES)
    weekly = st.builds(lambda day, segment: {"day": day, **segment}, day, segments())
    return {
        "tz": zone,
        "weekly": draw(st.lists(weekly, min_size=1, max_size=9)),
        "holidays": draw(st.lists(dates, max_size=2)),
        "recurring_holidays": draw(st.lists(dates.map(lambda text: text[5:]), max_size=1)),
        "breaks": draw(st.lists(st.builds(lambda d, s: {"date": d, **s}, dates, segments()), max_size=2)),
        "overrides": draw(
            st.lists(
                st.builds(lambda d, s: {"date": d, "segments": s}, dates, st.lists(segments(), max_size=2)),
                max_size=2,
                unique_by=lambda override: override["date"],
            )
        ),
    }, anchor


OFFSETS = st.one_of(
    st.integers(-9 * 86_400, 9 * 86_400).map(lambda seconds: timedelta(seconds=seconds)),
    st.integers(-9 * 96, 9 * 96).map(lambda quarters: timedelta(minutes=15 * quarters)),
    st.timedeltas(timedelta(days=-9), timedelta(days=9)),
)


def both(calendar: dict[str, Any]) -> tuple[BusinessCalendar, SlowCalendar]:
    return BusinessCalendar(parse_spec(calendar)), SlowCalendar(calendar)


def agree_on_everything(calendar: dict[str, Any], start: datetime, end: datetime) -> None:
    fast, slow = both(calendar)
    first, last = to_int(start), to_int(end)
    passed = slow.between(first, last)
    assert fast.is_open(start) == slow.is_open(first)
    assert fast.between(start, end) == timedelta(microseconds=passed)
    work = abs(passed)
    if work:
        early, late = min(first, last), max(first, last)
        # All of it lands on an edge or on the end of the range; a third of it inside.
        for amount in (work, work // 3 + 1):
            assert fast.add(to_datetime(early), timedelta(microseconds=amount)) == to_datetime(
                slow.add(early, amount) or 0
            )
            assert fast.add(to_datetime(late), timedelta(microseconds=-amount)) == to_datetime(
                slow.take(late, amount) or 0
            )
    for asked, answer in (
        (fast.next_open(start), slow.next_open(first)),
        (fast.next_close(start), slow.next_close(first)),
        (fast.previous_open(start), slow.previous_open(first)),
    ):
        assert answer is None or asked == to_datetime(answer)


@QUICK
@given(calendars(), OFFSETS, OFFSETS)
def test_open_time_is_what_the_slow_checker_walks(
    made: tuple[dict[str, Any], datetime], one: timedelta, two: timedelta
) -> None:
    calendar, anchor = made
    agree_on_everything(calendar, anchor + one, anchor + two)


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
@NIGHTLY
@given(calendars(), OFFSETS, OFFSETS)
def test_open_time_is_what_the_slow_checker_walks_many_times(
    made: tuple[dict[str, Any], datetime], one: timedelta, two: timedelta
) -> None:
    calendar, anchor = made
    agree_on_everything(calendar, anchor + one, anchor + two)


@QUICK
@given(calendars(), st.integers(-20, 20), st.integers(-12, 12))
def test_working_days_are_those_the_slow_checker_steps_over(
    made: tuple[dict[str, Any], datetime], away: int, days: int
) -> None:
    calendar, anchor = made
    fast, slow = both(calendar)
    day = anchor.date() + timedelta(days=away)
    other = day + timedelta(days=abs(days) * 3)
    assert fast.is_working_day(day) == slow.is_working_day(day)
    assert fast.add_working_days(day, days) == slow.add_working_days(day, days)
    walked = [
        day + timedelta(days=n) for n in range((other - day).days) if slow.is_working_day(day + timedelta(days=n))
    ]
    assert list(fast.working_days(day, other)) == walked
    assert fast.count_working_days(day, other) == len(walked) == -fast.count_working_days(other, day)


@ALGEBRA
@given(calendars(), OFFSETS, st.timedeltas(timedelta(0), timedelta(hours=90)))
def test_adding_and_measuring_are_inverse(
    made: tuple[dict[str, Any], datetime], offset: timedelta, work: timedelta
) -> None:
    calendar, anchor = made
    fast, start = BusinessCalendar(parse_spec(calendar)), anchor + offset
    due, since = fast.add(start, work), fast.add(start, -work)
    if due is not None:
        assert due >= start
        assert fast.between(start, due) == work
    if since is not None and work:
        assert since <= start
        assert fast.between(since, start) == work


@ALGEBRA
@given(calendars(), OFFSETS, st.timedeltas(timedelta(0), 60 * HOUR), st.timedeltas(timedelta(0), 60 * HOUR))
def test_more_work_is_never_due_earlier_and_a_later_start_never_ends_sooner(
    made: tuple[dict[str, Any], datetime], offset: timedelta, work: timedelta, more: timedelta
) -> None:
    calendar, anchor = made
    fast, start = BusinessCalendar(parse_spec(calendar)), anchor + offset
    due = fast.add(start, work)
    longer, later = fast.add(start, work + more), fast.add(start + more, work)
    if work and due and longer and later:
        assert due <= longer
        assert due <= later
        assert not more or fast.add(due, more) == longer


@ALGEBRA
@given(calendars(), st.lists(OFFSETS, min_size=3, max_size=3))
def test_open_time_adds_up(made: tuple[dict[str, Any], datetime], offsets: list[timedelta]) -> None:
    calendar, anchor = made
    fast = BusinessCalendar(parse_spec(calendar))
    a, b, c = (anchor + offset for offset in offsets)
    assert fast.between(a, b) + fast.between(b, c) == fast.between(a, c)
    assert fast.between(a, b) == -fast.between(b, a)
    assert abs(fast.between(a, b)) <= abs(b - a)


@ALGEBRA
@given(calendars(), OFFSETS)
def test_stretches_follow_each_other_and_hold_all_open_time(
    made: tuple[dict[str, Any], datetime], offset: timedelta
) -> None:
    calendar, anchor = made
    fast, origin = BusinessCalendar(parse_spec(calendar)), anchor + offset
    reached, total = origin, timedelta()
    for (opened, closed), _ in zip(fast.stretches_after(origin), range(12), strict=False):
        assert reached <= opened < closed
        assert fast.is_open(opened)
        assert not fast.is_open(closed)
        reached, total = closed, total + (closed - opened)
    assert fast.between(origin, reached) == total
    reached, total = origin, timedelta()
    for (opened, closed), _ in zip(fast.stretches_before(origin), range(12), strict=False):
        assert opened < closed <= reached
        reached, total = opened, total + (closed - opened)
    assert fast.between(reached, origin) == total


@ALGEBRA
@given(calendars(), OFFSETS, st.integers(-6, 6))
def test_days_at_the_same_wall_time_land_on_that_working_day_or_the_next_open_time(
    made: tuple[dict[str, Any], datetime], offset: timedelta, days: int
) -> None:
    calendar, anchor = made
    fast, start = BusinessCalendar(parse_spec(calendar)), anchor + offset
    local = start.astimezone(fast.zone)
    day = fast.add_working_days(local.date(), days)
    assert day is not None
    same_time = fast.local_instant(day, local.time())
    found = fast.add_days(start, days)
    if fast.is_open(same_time):
        assert found == same_time
    elif found is not None:
        assert found == (fast.next_open(same_time) if days >= 0 else fast.previous_open(same_time))


def test_a_calendar_of_single_dates_ends_with_them() -> None:
    calendar = {
        "tz": "Europe/Berlin",
        "overrides": [{"date": "2030-05-01", "segments": [{"start": "09:00", "end": "10:00"}]}],
    }
    fast, slow = both(calendar)
    start = datetime(2029, 12, 1, tzinfo=UTC)
    assert fast.add(start, HOUR) == to_datetime(slow.add(to_int(start), 3_600 * SECOND) or 0)
    assert fast.add(start, HOUR + timedelta(microseconds=1)) is None
    assert slow.add(to_int(start), 3_600 * SECOND + 1) is None
    assert fast.roll_day(date(2030, 5, 2), forward=True) is None
