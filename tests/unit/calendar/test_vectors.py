"""What peers' own tests say about calendars, in one neutral form: every vector, and every bad input named."""

from __future__ import annotations

import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from services.control.cli import main
from services.control.evaluate.calendar import evaluate

VECTORS = Path(__file__).parents[2] / "vectors"
KINDS = ("add", "between", "open", "roll", "periods", "days")
FILES = [f"calendar_{kind}.json" for kind in KINDS] + ["local_time.json"]
NINE_TO_FIVE = {"tz": "Europe/Berlin", "weekly": [{"day": "mon", "start": "09:00", "end": "17:00"}]}


def read(file: str) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads((VECTORS / file).read_text())["vectors"]
    return vectors


def as_instants(answer: Any) -> Any:
    """Instants are compared as instants, not as text."""
    if isinstance(answer, list):
        return [as_instants(one) for one in answer]
    return datetime.fromisoformat(answer) if isinstance(answer, str) and "T" in answer else answer


@pytest.mark.parametrize("file", FILES)
def test_every_vector_is_answered_as_its_neutral_meaning_says(file: str) -> None:
    vectors = read(file)
    assert vectors
    wrong = []
    for vector in vectors:
        question = {name: value for name, value in vector.items() if not name.startswith("expected")}
        answered = evaluate(question)
        names = [name for name in vector if name.startswith("expected")]
        judged = ["expected_neutral"] if "semantics" in vector else names
        wrong += [(vector["id"], n, answered[n]) for n in judged if as_instants(answered[n]) != as_instants(vector[n])]
    assert wrong == []


def test_members_keep_their_order_and_an_answer_given_by_a_peer_is_kept() -> None:
    vector = next(v for v in read("calendar_between.json") if "semantics" in v)
    answered = evaluate(vector)
    assert list(answered) == list(vector)
    assert answered["expected_work_seconds"] == vector["expected_work_seconds"] != answered["expected_neutral"]


WORKDAYS = [{"day": day, "start": "09:00", "end": "17:00"} for day in ("mon", "tue", "wed", "thu", "fri")]
OFFICE = {"tz": "UTC", "weekly": WORKDAYS, "holidays": ["2024-05-01"]}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"op": "roll_forward_date", "start_date": "2024-05-01"}, "2024-05-02"),
        ({"op": "roll_forward_date", "start_date": "2024-05-02"}, "2024-05-02"),
        ({"op": "roll_backward_date", "start_date": "2024-05-05"}, "2024-05-03"),
        (
            {"op": "list_dates", "start_date": "2024-04-30", "end_date_exclusive": "2024-05-03"},
            ["2024-04-30", "2024-05-02"],
        ),
        ({"op": "days_between", "start_date": "2024-04-29", "end_date": "2024-05-03", "include_end": True}, 4),
        ({"op": "days_between", "start_date": "2024-05-03", "end_date": "2024-04-29"}, -3),
        ({"op": "days_between_end_of_day", "start_date": "2024-04-29", "end_date": "2024-05-03"}, 3),
        ({"op": "days_between_end_of_day", "start_date": "2024-05-03", "end_date": "2024-04-29"}, -3),
        ({"op": "add_days_date", "start_date": "2024-05-04", "days": 1}, "2024-05-07"),
        ({"op": "add_days_at_time", "start": "2024-04-30T12:00:00+00:00", "days": 1}, "2024-05-02T12:00:00+00:00"),
        ({"op": "add_days_at_time", "start": "2024-05-03T19:00:00+00:00", "days": 1}, "2024-05-07T09:00:00+00:00"),
        ({"op": "add_days_at_time", "start": "2024-05-03T19:00:00+00:00", "days": -1}, "2024-05-02T17:00:00+00:00"),
        ({"op": "add_days_at_time", "start": "2024-05-03T07:00:00+00:00", "days": 0}, "2024-05-03T09:00:00+00:00"),
        (
            {"op": "add_days_at_time", "start": "2024-05-03T10:00:00+00:00", "days": 2, "end_of_day": True},
            "2024-05-07T17:00:00+00:00",
        ),
        ({"op": "first_business_day_keep_time", "start": "2024-05-04T18:00:00+00:00"}, "2024-05-06T18:00:00+00:00"),
    ],
)
def test_an_operation_on_working_days_answers(members: dict[str, Any], expected: Any) -> None:
    assert evaluate({"kind": "calendar_days", "calendar": OFFICE, **members})["expected"] == expected


@pytest.mark.parametrize(
    ("obj", "named"),
    [
        ({"kind": "calendar"}, "kind"),
        ({}, "kind: missing"),
        ({"kind": "calendar_open", "at": "2024-01-01T00:00:00Z"}, "calendar: missing"),
        ({"kind": "calendar_open", "calendar": [], "at": "2024-01-01T00:00:00Z"}, "calendar"),
        ({"kind": "calendar_open", "calendar": {"tz": "Mars/Base"}, "at": "2024-01-01T00:00:00Z"}, "tz.*Mars/Base"),
        (
            {"kind": "calendar_open", "calendar": NINE_TO_FIVE, "at": "2024-01-01T00:00:00"},
            "at: an instant needs an offset",
        ),
        ({"kind": "calendar_open", "calendar": NINE_TO_FIVE, "at": 5}, "at: not text"),
        (
            {"kind": "calendar_roll", "calendar": NINE_TO_FIVE, "op": "last", "at": "2024-01-01T00:00:00Z"},
            "op: not one of",
        ),
        ({"kind": "calendar_add", "calendar": NINE_TO_FIVE, "start": "2024-01-01T00:00:00Z"}, "work_seconds: missing"),
        (
            {"kind": "calendar_add", "calendar": NINE_TO_FIVE, "start": "2024-01-01T00:00:00Z", "work_seconds": "1"},
            "work_seconds",
        ),
        (
            {"kind": "calendar_add", "calendar": NINE_TO_FIVE, "start": "2024-01-01T00:00:00Z", "work_seconds": 1e300},
            "work_seconds",
        ),
        ({"kind": "calendar_days", "calendar": NINE_TO_FIVE, "op": "is_working_day", "date": "2024-02-30"}, "date: "),
        (
            {
                "kind": "calendar_days",
                "calendar": NINE_TO_FIVE,
                "op": "add_days_date",
                "start_date": "2024-02-03",
                "days": 1.5,
            },
            "days",
        ),
        ({"kind": "calendar_periods", "calendar": NINE_TO_FIVE, "origin": "2024-01-01T00:00:00Z", "take": -1}, "take"),
        ({"kind": "local_time", "tz": "UTC", "local": "2024-01-01T00:00:00Z"}, "local"),
    ],
)
def test_bad_input_is_refused_by_the_name_of_its_member(obj: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        evaluate(obj)


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"weekly": [{"day": "Monday", "start": "09:00", "end": "17:00"}]}, r"weekly\[0\]\.day"),
        ({"weekly": [{"day": "mon", "start": "9", "end": "17:00"}]}, r"weekly\[0\]\.start"),
        ({"weekly": [{"day": "mon", "start": "09:00", "end": "24:01"}]}, r"weekly\[0\]\.end"),
        ({"weekly": [{"day": "mon", "start": "24:00", "end": "24:00"}]}, r"weekly\[0\]\.start"),
        ({"weekly": [{"day": "mon", "start": "09:60", "end": "17:00"}]}, r"weekly\[0\]\.start"),
        ({"holidays": ["2024-13-01"]}, r"holidays\[0\]"),
        ({"recurring_holidays": ["02-30"]}, r"recurring_holidays\[0\]"),
        ({"breaks": [{"date": "2024-01-01", "start": "x", "end": "10:00"}]}, r"breaks\[0\]\.start"),
        (
            {"overrides": [{"date": "2024-01-01", "segments": [{"start": "x", "end": "y"}]}]},
            r"overrides\[0\]\.segments\[0\]\.start",
        ),
        ({"weekly": [{"day": "mon", "start": "09:00"}]}, "end"),
    ],
)
def test_a_calendar_that_cannot_be_read_is_refused_with_the_place(members: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        evaluate({"kind": "calendar_open", "calendar": {"tz": "UTC", **members}, "at": "2024-01-01T00:00:00Z"})


# ---- by name ------------------------------------------------------------------------------------------------------------


def test_a_calendar_of_a_playbook_is_named_and_a_name_it_has_not_is_refused(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """`office` of the shipped playbook has the holidays and make-up days of China."""
    days = ["2026-10-09", "2026-10-10", "2026-10-11"]
    lines = [{"kind": "calendar_days", "op": "is_working_day", "calendar": "office", "date": day} for day in days]
    lines.append(lines[0] | {"calendar": "offic"})
    given = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert main(["eval", "calendar", "--playbook", "selected"]) == 1
    told = capfdbinary.readouterr()
    answers = [json.loads(line) for line in told.out.splitlines()]
    assert [one["expected"] for one in answers] == [True, True, False]
    assert {one["calendar"] for one in answers} == {"office"}
    assert b"standard input:4: ValueError: calendar: the playbook selected has none called 'offic'" in told.err
