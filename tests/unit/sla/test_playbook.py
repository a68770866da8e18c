"""The `sla` section as an operations team writes it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from services.sla.domain.terms import Target, Threshold
from shared.playbook.sla import SlaPolicy, WorkingDays
from shared.playbook.types import decode
from tests.unit.sla.world import rules


def policy(**members: Any) -> SlaPolicy:
    return decode({"name": "p", "targets": {"resolution": "4h"}, **members}, SlaPolicy)


def test_targets_are_plain_or_by_priority_durations_or_working_days() -> None:
    targets = {
        "first_response": {"urgent": "15m", "default": "2h"},
        "resolution": {"working_days": 3, "end_of_day": True},
        "node:inspect": 90,
    }
    written = policy(targets=targets)
    assert written.targets_of("first_response") == {"urgent": timedelta(minutes=15), "default": timedelta(hours=2)}
    assert written.targets_of("resolution") == {"default": WorkingDays(working_days=3, end_of_day=True)}
    compiled = rules({"targets": targets, "calendar": "office"}).policies[0][1]
    assert compiled.of("urgent")["first_response"].target == Target(timedelta(minutes=15))
    assert compiled.of("low")["first_response"].target == Target(timedelta(hours=2))
    assert compiled.of("urgent")["resolution"].target == Target(working_days=3, end_of_day=True)
    assert compiled.of(None)["node:inspect"].target == Target(timedelta(seconds=90))


def test_pauses_and_warnings_are_for_all_metrics_or_by_metric_and_have_defaults() -> None:
    written = policy(
        pause_on={"resolution": ["pending", "waiting"], "node:*": []},
        warn={"resolution": ["1h", "80%", {"before": "2h", "on": "wall"}]},
    )
    assert written.pauses_of("resolution") == {"pending", "waiting"}
    assert written.pauses_of("node:inspect") == frozenset()
    assert written.pauses_of("first_response") == {"pending"}
    assert [one.key for one in written.thresholds_of("resolution")] == ["1h", "80%", "2h wall"]
    assert [one.key for one in written.thresholds_of("first_response")] == ["30m"]
    compiled = rules({"targets": {"resolution": "4h"}, "warn": ["80%"]}).policies[0][1]
    assert compiled.of(None)["resolution"].warn == (Threshold("80%", share=0.8),)


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ({"targets": {}}, "promises something"),
        ({"targets": {"first_reply": "1h"}}, "unknown metric 'first_reply'"),
        ({"targets": {"node:": "1h"}}, "unknown metric 'node:'"),
        ({"targets": {"resolution": "soon"}}, r"targets\.resolution: not a duration"),
        ({"targets": {"resolution": {"urgent": "0s"}}}, r"targets\.resolution\.urgent: a target is longer than 0"),
        ({"targets": {"resolution": {"working_days": 0}}}, r"working_days is 1 to 1000"),
        ({"targets": {"resolution": {"working_days": 1, "end": True}}}, "unknown member 'end'"),
        ({"warn": ["100%"]}, r"warn\[0\]: percent is more than 0 and less than 100, not '100%'"),
        ({"warn": [{"before": "1h", "percent": 50}]}, "either before or percent"),
        ({"warn": [{"before": "1h", "on": "business"}]}, "on is open or wall"),
        ({"pause_on": {"resolutions": []}}, "pause_on: unknown metric"),
        ({"on_change": "reset"}, "on_change"),
        ({"colour": "red"}, "colour"),
        ({"name": ""}, "has a name"),
    ],
)
def test_a_mistake_is_refused_with_its_place(members: dict[str, Any], complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=complaint):
        policy(**members)
