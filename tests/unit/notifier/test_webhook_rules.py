"""What a webhook subscription wants, and what follows from an attempt."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.notifier.channels.base import Kind, Outcome
from services.notifier.topics.webhook import RETRY_AFTER_MOST, SCHEDULE, Verdict, judge, wants


@pytest.mark.parametrize(
    ("outcome", "attempts", "verdict", "wait"),
    [
        (Outcome(Kind.ACCEPTED), 1, Verdict.DELIVERED, None),
        (Outcome(Kind.BAD_RECIPIENT, code="410"), 1, Verdict.GONE, None),
        (Outcome(Kind.TRANSIENT, code="500"), 1, Verdict.RETRY, SCHEDULE[0]),
        (Outcome(Kind.UNKNOWN), 2, Verdict.RETRY, SCHEDULE[1]),
        (Outcome(Kind.BAD_RECIPIENT, code="url"), 3, Verdict.RETRY, SCHEDULE[2]),
        (Outcome(Kind.THROTTLED, after=timedelta(hours=1)), 1, Verdict.RETRY, timedelta(hours=1)),
        (Outcome(Kind.THROTTLED, after=timedelta(days=9)), 1, Verdict.RETRY, RETRY_AFTER_MOST),
        (Outcome(Kind.TRANSIENT), len(SCHEDULE), Verdict.RETRY, SCHEDULE[-1]),
        (Outcome(Kind.TRANSIENT), len(SCHEDULE) + 1, Verdict.PARKED, None),
    ],
)
def test_an_attempt_is_judged(outcome: Outcome, attempts: int, verdict: Verdict, wait: timedelta | None) -> None:
    found, after = judge(outcome, attempts, 0.999_999)
    assert found is verdict
    assert after == (None if wait is None else pytest.approx(wait, abs=timedelta(seconds=1)))


def test_waits_are_jittered_downwards_so_that_endpoints_are_not_hit_in_step() -> None:
    _, early = judge(Outcome(Kind.TRANSIENT), 2, 0.0)
    assert early == SCHEDULE[1] * 0.8


def test_a_filter_compares_members_by_path_and_value() -> None:
    event = {
        "subject": "7",
        "data": {"priority": "urgent", "labels": {"impact": {"value": "high"}}, "fields": {"n": 3}},
    }
    assert wants({}, event)
    assert wants({"subject": ("7", "8"), "data.priority": ("urgent",)}, event)
    assert wants({"data.labels.impact.value": ("high",), "data.fields.n": (3,)}, event)
    assert not wants({"data.priority": ("normal",)}, event)
    assert not wants({"data.missing.deeper": ("x",)}, event)
    assert not wants({"data.labels": ("high",)}, event)
