"""On-call schedules: tables for the edges of time, and properties against slow, obvious answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import DAILY, HOURLY, MONTHLY, WEEKLY, rrule  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from services.control.evaluate.oncall import evaluate, schedule_spec
from shared.oncall.recurrence import Recurrence
from shared.oncall.schedule import Schedule
from shared.oncall.walltime import instant
from shared.playbook.escalation import DAYS, ShiftSpec
from shared.playbook.types import Duration

BERLIN, CHICAGO, APIA = ZoneInfo("Europe/Berlin"), ZoneInfo("America/Chicago"), ZoneInfo("Pacific/Apia")

WALLS = [
    ("an ordinary time", BERLIN, "2024-05-15T08:30:00", "2024-05-15T06:30:00"),
    ("a skipped time is the jump", BERLIN, "2024-03-31T02:30:00", "2024-03-31T01:00:00"),
    ("the first skipped minute is the jump", BERLIN, "2024-03-31T02:00:00", "2024-03-31T01:00:00"),
    ("the first minute after it is not skipped", BERLIN, "2024-03-31T03:00:00", "2024-03-31T01:00:00"),
    ("a repeated time is its first occurrence", BERLIN, "2024-10-27T02:30:00", "2024-10-27T00:30:00"),
    ("a skipped day is the jump", APIA, "2011-12-30T12:00:00", "2011-12-30T10:00:00"),
    ("a skipped time west of Greenwich", CHICAGO, "2020-03-08T02:30:00", "2020-03-08T08:00:00"),
    ("microseconds of a skipped time", BERLIN, "2024-03-31T02:30:00.250000", "2024-03-31T01:00:00"),
]


@pytest.mark.parametrize(("zone", "wall", "expected"), [case[1:] for case in WALLS], ids=[case[0] for case in WALLS])
def test_a_wall_time_is_one_instant(zone: ZoneInfo, wall: str, expected: str) -> None:
    assert instant(datetime.fromisoformat(wall), zone) == datetime.fromisoformat(expected + "+00:00")


def ask(check: str, schedule: dict[str, Any], **more: Any) -> Any:
    answered = evaluate({"check": check, "schedule": schedule, **more})
    return next(value for key, value in reversed(answered.items()) if key.startswith("expected"))


def test_an_hourly_rotation_over_the_spring_jump_skips_the_missing_hour() -> None:
    schedule = {"tz": "Europe/Berlin", "rotation": {"type": "hourly", "start": "2024-03-31T00:00:00+01:00"}}
    found = ask("handoffs", schedule, **{"from": "2024-03-31T01:00:00+01:00", "to": "2024-03-31T03:30:00+02:00"})
    assert found == ["2024-03-31T00:00:00+00:00", "2024-03-31T01:00:00+00:00", "2024-03-31T02:00:00+00:00"]


def test_a_monthly_rotation_from_the_31st_hands_off_on_the_last_day_of_shorter_months() -> None:
    schedule = {"tz": "UTC", "rotation": {"type": "monthly", "start": "2024-01-31T09:00:00+00:00"}}
    found = ask("handoffs", schedule, **{"from": "2024-02-01T00:00:00+00:00", "to": "2024-04-01T00:00:00+00:00"})
    assert [at[:10] for at in found] == ["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"]


def test_an_overnight_rule_belongs_to_the_day_it_starts_on() -> None:
    rule = {"days": ["fri"], "start": "22:00", "end": "06:00", "target": {"user": "a"}}
    found = ask(
        "shifts",
        {"tz": "UTC", "rules": [rule]},
        **{"from": "2024-05-13T00:00:00+00:00", "to": "2024-05-20T00:00:00+00:00"},
    )
    assert found == [{"user": "a", "start": "2024-05-17T22:00:00+00:00", "end": "2024-05-18T06:00:00+00:00"}]


DAILY_A = {"days": list(DAYS), "start": "08:00", "end": "20:00", "target": {"user": "a"}}
DAY = {"from": "2024-05-15T00:00:00+00:00", "to": "2024-05-16T00:00:00+00:00"}


def span(start: int, end: int, **more: Any) -> dict[str, Any]:
    return {"start": f"2024-05-15T{start:02d}:00:00+00:00", "end": f"2024-05-15T{end:02d}:00:00+00:00", **more}


LAYERS: list[tuple[str, dict[str, Any], list[tuple[str, int, int]]]] = [
    ("add beside the rule", {"overrides": [span(10, 12, add="b")]}, [("a", 8, 20), ("b", 10, 12)]),
    ("remove from the rule", {"overrides": [span(10, 12, remove="a")]}, [("a", 8, 10), ("a", 12, 20)]),
    ("replace only on duty", {"overrides": [span(6, 12, add="b", remove="a")]}, [("b", 8, 12), ("a", 12, 20)]),
    ("adding twice is once", {"overrides": [span(6, 10, add="b"), span(9, 12, add="b")]}, [("b", 6, 12), ("a", 8, 20)]),
    (
        "replacements do not chase each other",
        {"overrides": [span(8, 20, add="b", remove="a"), span(8, 20, add="c", remove="b")]},
        [("b", 8, 20)],
    ),
    (
        "a temporary schedule hides rules, overrides and swaps, and its gaps are gaps",
        {
            "overrides": [span(0, 23, add="x")],
            "swaps": [span(0, 23, beneficiary="t", benefactor="s")],
            "temporary_schedules": [span(10, 16, shifts=[span(9, 12, user="t"), span(14, 18, user="t")])],
        },
        [("x", 0, 10), ("a", 8, 10), ("t", 10, 12), ("t", 14, 16), ("a", 16, 20), ("x", 16, 23)],
    ),
    (
        "a swap takes the beneficiary's place",
        {"swaps": [span(6, 9, beneficiary="a", benefactor="b")]},
        [("b", 8, 9), ("a", 9, 20)],
    ),
]


@pytest.mark.parametrize(("parts", "expected"), [case[1:] for case in LAYERS], ids=[case[0] for case in LAYERS])
def test_layers_of_a_schedule(parts: dict[str, Any], expected: list[tuple[str, int, int]]) -> None:
    found = ask("shifts", {"tz": "UTC", "rules": [DAILY_A], **parts}, **DAY)
    assert sorted((one["user"], int(one["start"][11:13]), int(one["end"][11:13])) for one in found) == sorted(expected)


def test_gaps_are_what_nobody_covers() -> None:
    found = ask("gaps", {"tz": "UTC", "rules": [DAILY_A], "overrides": [span(10, 12, remove="a")]}, **DAY)
    assert [[start[11:13], end[11:13]] for start, end in found] == [["00", "08"], ["10", "12"], ["20", "00"]]


def test_a_level_without_people_hides_nobody() -> None:
    common = {
        "kind": "recurrent",
        "start": "2024-05-15T00:00:00+00:00",
        "duration_seconds": 86_400,
        "frequency": "daily",
    }
    shifts = [{**common, "priority": 1, "users": [["a"]]}, {**common, "priority": 9, "users": []}]
    assert Schedule(schedule_spec({"tz": "UTC", "shifts": shifts})).users_at(datetime(2024, 6, 1, tzinfo=UTC)) == {"a"}


# ---- properties -------------------------------------------------------------------------------------------------------------

ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/Chicago", "Asia/Shanghai", "Pacific/Apia", "Australia/Lord_Howe"]
)
MINUTES = st.integers(0, 60 * 24 * 500)
USERS = st.sampled_from(["a", "b", "c"])
EPOCH = datetime(2023, 10, 1, tzinfo=UTC)


def at_minute(minute: int) -> datetime:
    return EPOCH + timedelta(minutes=minute)


@st.composite
def spans(draw: st.DrawFn) -> dict[str, Any]:
    start = draw(MINUTES)
    return {"start": at_minute(start).isoformat(), "end": at_minute(start + draw(st.integers(1, 20_000))).isoformat()}


@st.composite
def shifts(draw: st.DrawFn) -> dict[str, Any]:
    start = at_minute(draw(MINUTES))
    return {
        "kind": draw(st.sampled_from(["single", "recurrent", "rolling", "override"])),
        "start": start.isoformat(),
        "rotation_start": (start + timedelta(hours=draw(st.integers(0, 100)))).isoformat(),
        "duration_seconds": draw(st.integers(1, 48)) * 1800,
        "frequency": draw(st.sampled_from([None, "hourly", "daily", "weekly", "monthly"])),
        "interval": draw(st.integers(1, 3)),
        "by_day": draw(st.none() | st.lists(st.sampled_from(DAYS), min_size=1, max_size=3, unique=True)),
        "users": draw(st.lists(st.lists(USERS, max_size=2), max_size=3)),
        "priority": draw(st.integers(0, 2)),
        "until": draw(st.none() | MINUTES.map(lambda minute: at_minute(minute).isoformat())),
    }


@st.composite
def schedules(draw: st.DrawFn) -> dict[str, Any]:
    walls = st.tuples(st.integers(0, 23), st.sampled_from([0, 15, 30])).map(lambda wall: f"{wall[0]:02d}:{wall[1]:02d}")
    rotation = {
        "type": draw(st.sampled_from(["hourly", "daily", "weekly", "monthly"])),
        "shift_length": draw(st.integers(1, 9)),
        "start": at_minute(draw(MINUTES)).isoformat(),
        "users": draw(st.lists(USERS, max_size=3)),
    }
    target = st.sampled_from([{"user": "a"}, {"user": "b"}, {"rotation": "r"}])
    rule = st.fixed_dictionaries(
        {
            "days": st.lists(st.sampled_from(DAYS), max_size=4, unique=True),
            "start": walls,
            "end": walls,
            "target": target,
        }
    )
    who = st.sampled_from([{"add": "b"}, {"remove": "a"}, {"add": "c", "remove": "b"}])
    override = st.builds(lambda where, change: {**where, **change}, spans(), who)
    swap = st.builds(lambda where: {**where, "beneficiary": "a", "benefactor": "c"}, spans())
    temporary = st.builds(lambda where, inner: {**where, "shifts": [{**inner, "user": "b"}]}, spans(), spans())
    return {
        "tz": draw(ZONES),
        "rotations": {"r": rotation},
        "rules": draw(st.lists(rule, max_size=2)),
        "shifts": draw(st.lists(shifts(), max_size=2)),
        "overrides": draw(st.lists(override, max_size=2)),
        "swaps": draw(st.lists(swap, max_size=1)),
        "temporary_schedules": draw(st.lists(temporary, max_size=1)),
    }


@settings(max_examples=120, deadline=None)
@given(schedules(), MINUTES, st.integers(1, 20_000), st.lists(st.floats(0, 0.999), max_size=8))
def test_shifts_gaps_and_users_at_never_disagree(
    neutral: dict[str, Any], start: int, length: int, fractions: list[float]
) -> None:
    schedule = Schedule(schedule_spec(neutral))
    low, high = at_minute(start), at_minute(start + length)
    held, empty = schedule.shifts(low, high), schedule.gaps(low, high)
    edges = {one.start for one in held} | {one.end - timedelta(microseconds=1) for one in held}
    for at in {low + (high - low) * fraction for fraction in fractions} | edges:
        on_call = schedule.users_at(at)
        assert on_call == {one.user for one in held if one.start <= at < one.end}
        assert (not on_call) == any(opens <= at < closes for opens, closes in empty)


@settings(max_examples=60, deadline=None)
@given(schedules(), MINUTES, st.integers(2, 20_000), st.floats(0.01, 0.99))
def test_a_window_cut_in_two_says_the_same_as_the_whole(
    neutral: dict[str, Any], start: int, length: int, fraction: float
) -> None:
    schedule = Schedule(schedule_spec(neutral))
    low, high = at_minute(start), at_minute(start + length)
    middle = low + (high - low) * fraction
    total = sum(((one.end - one.start) for one in schedule.shifts(low, high)), timedelta())
    parts = [*schedule.shifts(low, middle), *schedule.shifts(middle, high)]
    assert total == sum(((one.end - one.start) for one in parts), timedelta())


FREQUENCIES = {"hourly": HOURLY, "daily": DAILY, "weekly": WEEKLY, "monthly": MONTHLY}


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(list(FREQUENCIES)),
    st.integers(1, 5),
    st.none() | st.lists(st.sampled_from(DAYS), min_size=1, max_size=4, unique=True),
    st.none() | st.lists(st.integers(1, 31) | st.integers(-31, -1), min_size=1, max_size=4, unique=True),
    st.sampled_from(DAYS),
    MINUTES,
    st.integers(0, 60 * 24 * 90),
)
def test_occurrences_are_those_of_an_independent_calendar_library(
    frequency: Any, interval: int, by_day: Any, by_monthday: Any, week_start: Any, start: int, ahead: int
) -> None:
    first = at_minute(start).replace(tzinfo=None)
    monthdays = None if frequency == "weekly" else by_monthday  # RFC 5545 forbids the two together
    spec = ShiftSpec(
        kind="recurrent",
        start=first,
        duration=Duration(hours=1),
        frequency=frequency,
        interval=interval,
        by_day=tuple(by_day) if by_day else None,
        by_monthday=tuple(monthdays) if monthdays else None,
        week_start=week_start,
    )
    low = first + timedelta(minutes=ahead)
    high = low + timedelta(days=40)
    rule = rrule(
        FREQUENCIES[frequency],
        dtstart=first,
        interval=interval,
        wkst=DAYS.index(week_start),
        byweekday=[DAYS.index(day) for day in by_day] if by_day else None,
        bymonthday=monthdays,
    )
    found = list(Recurrence(spec, first).between(low, high))
    assert [one.start for one in found] == rule.between(low, high, inc=True)
    everything = list(Recurrence(spec, first).between(first, high))
    assert found == [one for one in everything if one.start >= low]
    turns = list(dict.fromkeys(one.turn for one in everything))
    assert turns == list(range(len(turns)))
