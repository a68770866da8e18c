"""Clocks and shares of time in words, as `signalbox explain` prints them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.control import telling

START = datetime(2026, 11, 30, 9, 0, tzinfo=UTC)
CLOCK: dict[str, Any] = {
    "metric": "resolution", "cycle": 1, "state": "running", "paused": False, "started_at": START,
    "due_at": START + timedelta(hours=2), "target_seconds": 7200.0, "elapsed_seconds": 326.4, "paused_seconds": 0.0,
    "warned_at": [], "breached_at": None, "stopped_at": None, "policy": "urgent", "policy_version": 3, "calendar": None,
    "breach_probability": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (45.4, "45 s"),
        (326, "5 min 26 s"),
        (7200, "2 h"),
        (7385, "2 h 3 min"),
        (273_600, "3 d 4 h"),
        (-61, "1 min 1 s"),
    ],
)
def test_a_length_has_its_two_largest_units(seconds: float, words: str) -> None:
    assert telling.length(seconds) == words


def test_a_clock_says_whose_promise_it_is_and_what_was_counted_of_what() -> None:
    assert telling.clock(CLOCK) == (
        "Clock resolution (policy urgent of version 3, around the clock): running; due 2026-11-30 11:00:00 UTC, "
        "5 min 26 s of 2 h counted."
    )


def test_a_clock_tells_its_pauses_warnings_breach_forecast_and_end() -> None:
    told = telling.clock(CLOCK | {
        "cycle": 2, "state": "breached", "paused": True, "calendar": "office", "paused_seconds": 60.0,
        "warned_at": ["2026-11-30T10:30:00Z"], "breached_at": CLOCK["due_at"], "breach_probability": 0.834,
        "stopped_at": START + timedelta(hours=3),
    })  # fmt: skip
    assert told == (
        "Clock resolution 2 (policy urgent of version 3, calendar office): breached, paused; due 2026-11-30 11:00:00 UTC, "
        "5 min 26 s of 2 h counted, 1 min paused, warned 2026-11-30 10:30:00 UTC, breached 2026-11-30 11:00:00 UTC, "
        "over 2026-11-30 12:00:00 UTC, breach expected with 83%."
    )


def test_shares_of_time_name_who_waited_and_leave_out_what_is_nothing() -> None:
    parts = [("queue", "lab", 90.0), ("person", "cid", 323.0), ("customer", None, 4.0), ("queue", "desk", 0.4)]
    found = {
        "seconds": 417.4,
        "person": [{"part": part, "name": name, "seconds": length} for part, name, length in parts],
    }
    assert telling.shares(found) == "Of 6 min 57 s: cid 5 min 23 s, waiting in lab 1 min 30 s, customer 4 s."
