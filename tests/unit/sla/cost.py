"""What a decision costs: `python -m tests.unit.sla.cost` prints microseconds of CPU for each kind, on a ticket with two clocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from services.sla.domain import facts as f
from services.sla.domain.decide import decide
from services.sla.domain.fold import NOTICED
from services.sla.domain.kept import from_json, to_json
from services.sla.domain.ticket import SlaState
from tests.unit.sla.world import at, library, opened

POLICY = {
    "calendar": "office",
    "targets": {"first_response": {"urgent": "15m", "default": "2h"}, "resolution": {"urgent": "2h", "default": "24h"}},
}
LIBRARY = library(POLICY)


def measured(work: Callable[[], object], rounds: int = 4_000) -> float:
    """Best of three, in microseconds of CPU."""
    best = float("inf")
    for _ in range(3):
        begin = time.process_time()
        for _ in range(rounds):
            work()
        best = min(best, (time.process_time() - begin) / rounds * 1e6)
    return best


def costs() -> dict[str, float]:
    """Microseconds by kind of decision; `life` is the mean of the six decisions of an ordinary ticket."""
    steps: list[tuple[str, Sequence[f.Fact], datetime]] = [
        ("opened", [opened(at("10:00"), priority="normal")], at("10:00")),
        ("assigned", [f.StatusChanged(at("10:01"), "assigned")], at("10:01")),
        ("paused", [f.StatusChanged(at("10:06"), "pending")], at("10:06")),
        ("resumed", [f.StatusChanged(at("11:06"), "assigned")], at("11:06")),
        ("warned", [], at("12:30") + NOTICED),
        ("answered", [f.Replied(at("12:40"))], at("12:40")),
        ("priority", [f.Described(at("12:45"), {"priority": "urgent"})], at("12:45")),
        ("resolved", [f.StatusChanged(at("12:50"), "resolved")], at("12:50")),
    ]
    found: dict[str, float] = {}
    state: SlaState | None = None
    for name, facts, now in steps:
        before = state
        found[name] = measured(lambda b=before, x=facts, n=now: decide(b, x, n, LIBRARY))  # type: ignore[misc]
        state = decide(before, facts, now, LIBRARY).state
    assert state is not None
    text = to_json(state)
    found["mean"] = sum(found.values()) / len(found)
    found["to JSON"] = measured(lambda: to_json(state))
    found["from JSON"] = measured(lambda: from_json(text))
    return found


if __name__ == "__main__":
    for kind, microseconds in costs().items():
        print(f"{kind:10} {microseconds:6.1f} us")
