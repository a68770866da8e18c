"""Many equal values at once count as they would one by one."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from services.notifier.metrics import Spread

BOUNDS = (0.5, 1, 2.5)


@pytest.mark.parametrize("amount", [0.0, 0.3, 0.5, 0.50001, 1, 2.5, 7.0])
def test_many_at_once_count_as_so_many(amount: float) -> None:
    registry = CollectorRegistry()
    together = Spread("together", "", ["channel"], buckets=BOUNDS, registry=registry)
    single = Spread("single", "", ["channel"], buckets=BOUNDS, registry=registry)
    together.labels("sms").observe_many(amount, 3)
    for _ in range(3):
        single.labels("sms").observe(amount)
    found: dict[str, dict[tuple[str, str | None], float]] = {"together": {}, "single": {}}
    for metric in registry.collect():
        for sample in metric.samples:
            if not sample.name.endswith("_created"):
                found[metric.name][sample.name.removeprefix(metric.name), sample.labels.get("le")] = sample.value
    assert found["together"] == pytest.approx(found["single"])
    assert found["together"]["_count", None] == 3
