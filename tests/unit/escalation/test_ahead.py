"""Looking ahead on a schedule: gaps, conflicts with leave, the calendar feed; and what a playbook may not say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from icalendar import Calendar

from shared.oncall.conflicts import Absence, Conflict, Outlook, outlook, uncovered
from shared.oncall.feed import calendar_feed
from shared.oncall.schedule import Schedule
from shared.playbook.escalation import Chain, ScheduleSpec, chain_references, schedule_references
from shared.playbook.types import decode

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


def schedule(**parts: Any) -> Schedule:
    return Schedule(decode({"name": "duty", "tz": "UTC", **parts}, ScheduleSpec))


def day(number: int, hour: int = 0) -> datetime:
    return datetime(2026, 11, number, hour, tzinfo=UTC)


WEEKLY = {"rotation": {"type": "weekly", "start": "2026-11-23T00:00:00Z", "users": ["a", "b"]}}
A_AND_C = {"rules": [{"target": {"user": "a"}}, {"target": {"user": "c"}}]}

LEAVE: list[tuple[str, dict[str, Any], list[Absence], list[Conflict]]] = [
    ("nobody away", WEEKLY, [], []),
    ("away while not on duty", WEEKLY, [Absence("b", day(24), day(26))], []),
    ("away on duty", WEEKLY, [Absence("a", day(28), day(30, 12))], [Conflict(day(28), day(30), "a")]),
    (
        "a delegate stands in",
        WEEKLY,
        [Absence("a", day(28), day(29), "d")],
        [Conflict(day(28), day(29), "a", "d", covered=True)],
    ),
    (
        "others are on call",
        A_AND_C,
        [Absence("a", day(28), day(29))],
        [Conflict(day(28), day(29), "a", covered=True)],
    ),
    (
        "others are away themselves for a while",
        A_AND_C,
        [Absence("a", day(28), day(30)), Absence("c", day(29), day(29, 6))],
        [Conflict(day(28), day(30), "a"), Conflict(day(29), day(29, 6), "c")],
    ),
]


@pytest.mark.parametrize(
    ("parts", "absences", "expected"), [case[1:] for case in LEAVE], ids=[case[0] for case in LEAVE]
)
def test_leave_on_duty_is_found_ahead(parts: dict[str, Any], absences: list[Absence], expected: list[Conflict]) -> None:
    found = outlook(schedule(**parts), absences, day(24))
    assert list(found.conflicts) == expected
    assert found.sound == all(conflict.covered for conflict in expected)


def test_gaps_of_the_next_thirty_days_are_told_in_a_sentence() -> None:
    weekdays = schedule(rules=[{"days": ["mon", "tue", "wed", "thu", "fri"], "target": {"user": "a"}}])
    found = outlook(weekdays, [], NOW)
    assert [opens for opens, _ in found.gaps] == [day(28), *(day(28) + timedelta(days=7 * week) for week in (1, 2, 3))]
    first = "schedule duty: nobody is on call from 2026-11-28T00:00+00:00 to 2026-11-30T00:00+00:00"
    assert uncovered({"duty": found})[0] == first


def test_a_conflict_is_told_with_whoever_helps() -> None:
    conflicts = (Conflict(day(28), day(29), "a"), Conflict(day(28), day(29), "a", "d", covered=True))
    assert [line.rsplit(", ", 1)[1] for line in uncovered({"duty": Outlook((), conflicts)})] == [
        "nobody stands in",
        "d stands in",
    ]


def events(feed: bytes) -> list[tuple[str, datetime, datetime]]:
    walked: Any = Calendar.from_ical(feed).walk("VEVENT")
    return [(str(one["SUMMARY"]), one["DTSTART"].dt, one["DTEND"].dt) for one in walked]


def test_the_feed_reads_back_as_the_stretches_of_duty() -> None:
    found = events(
        calendar_feed(schedule(**WEEKLY), NOW, names={"a": "Ann"}, past=timedelta(0), ahead=timedelta(days=7))
    )
    assert found == [("Ann on call: duty", day(24), day(30)), ("b on call: duty", day(30), day(30) + timedelta(days=1))]


def test_a_feed_of_one_person_has_nobody_elses_duty() -> None:
    assert {name for name, _, _ in events(calendar_feed(schedule(**WEEKLY), NOW, only="b"))} == {"b on call: duty"}


def test_polling_the_feed_a_day_later_doubles_no_event() -> None:
    def uids(now: datetime) -> dict[str, datetime]:
        walked: Any = Calendar.from_ical(calendar_feed(schedule(**WEEKLY), now)).walk("VEVENT")
        return {str(one["UID"]): one["DTSTART"].dt for one in walked}

    today, tomorrow = uids(NOW), uids(NOW + timedelta(days=1))
    shared = today.keys() & tomorrow.keys()
    assert len(shared) == len(today)
    assert sum(today[uid] != tomorrow[uid] for uid in shared) == 1  # the stretch that the window cuts


STEP = {"targets": [{"person": "a"}]}
REFUSED: list[tuple[str, type, dict[str, Any], str]] = [
    ("a zone that is none", ScheduleSpec, {"tz": "Mars/Olympus"}, "unknown time zone"),
    (
        "a rule for an unknown rotation",
        ScheduleSpec,
        {"tz": "UTC", "rules": [{"target": {"rotation": "r"}}]},
        "unknown rotation 'r'",
    ),
    (
        "a rule at no wall time",
        ScheduleSpec,
        {"tz": "UTC", "rules": [{"start": "8am", "target": {"user": "a"}}]},
        r"rules\[0\]",
    ),
    (
        "an override of nobody",
        ScheduleSpec,
        {"tz": "UTC", "overrides": [{"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}]},
        "adds or removes",
    ),
    ("an unknown member", ScheduleSpec, {"tz": "UTC", "rota": []}, "rota"),
    ("a chain without steps", Chain, {"name": "c", "steps": []}, "at least one step"),
    ("a step without anything", Chain, {"name": "c", "steps": [{}]}, r"steps\[0\]"),
    (
        "a target of two kinds",
        Chain,
        {"name": "c", "steps": [{"targets": [{"person": "a", "group": "g"}]}]},
        "exactly one",
    ),
    ("before what has no instant ahead", Chain, {"name": "c", "steps": [{**STEP, "before": "1h"}]}, "relative_to: due"),
    ("a busy repetition", Chain, {"name": "c", "steps": [STEP], "repeat": {"every": "5s"}}, "every minute at most"),
    ("a webhook to nowhere", Chain, {"name": "c", "steps": [{"actions": [{"do": "webhook"}]}]}, "endpoint"),
]


@pytest.mark.parametrize(
    ("kind", "section", "reason"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_a_playbook_that_cannot_work_is_refused_with_the_place(
    kind: type, section: dict[str, Any], reason: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=reason):
        decode(section, kind)


def test_a_chain_names_what_it_borrows_and_where() -> None:
    step = {"targets": [{"group": "g"}, {"manager": 1}, {"schedule": "s"}], "allowed_hours": "day"}
    policy = decode({"name": "c", "steps": [step], "calendar": "open", "fallback": "head"}, Chain)
    assert [(one.path, one.kind, one.name) for one in chain_references(policy)] == [
        ("$.steps[0].targets[0].group", "group", "g"),
        ("$.steps[0].targets[2].schedule", "schedule", "s"),
        ("$.calendar", "calendar", "open"),
        ("$.steps[0].allowed_hours", "calendar", "day"),
        ("$.fallback", "person", "head"),
    ]


def test_a_schedule_names_everybody_in_it() -> None:
    span = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}
    spec = decode(
        {
            "tz": "UTC",
            "rotation": {"type": "daily", "start": "2026-01-01T00:00:00Z", "users": ["a"]},
            "rules": [{"target": {"user": "b"}}],
            "shifts": [{"kind": "single", "start": "2026-01-01T00:00:00Z", "duration": "8h", "users": [["c"]]}],
            "overrides": [{**span, "add": "d", "remove": "e"}],
            "swaps": [{**span, "beneficiary": "f", "benefactor": "g"}],
            "temporary_schedules": [{**span, "shifts": [{**span, "user": "h"}]}],
        },
        ScheduleSpec,
    )
    assert sorted(one.name for one in schedule_references(spec)) == list("abcdefgh")
