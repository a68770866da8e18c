"""The small run of CI: every service dies at each of its crash points and at random, Redis is flushed, PostgreSQL restarted."""

from __future__ import annotations

import pytest

from tests.faults.points import all_of_them
from tests.faults.scenario import FaultPlan, play, running
from tests.faults.verdict import judge_run
from tests.faults.world import world

PLAN = FaultPlan(
    http=700,
    stream=500,
    seconds=25,
    kill_every_seconds=4,
    flush_every_seconds=5,
    restarts=2,
    crash_points=True,
    give_up_seconds=150,
)


@pytest.mark.timeout(400)
def test_nothing_is_lost_doubled_or_made_up_whatever_dies() -> None:
    with world() as made, running(made, crash_points=True) as keeper:
        run = play(made, keeper, PLAN)
        verdict = judge_run(made, run, keeper.urls[0])
        print(verdict.facts, dict(keeper.hits), dict(keeper.killed))
        assert verdict.holds, verdict.wrong
        assert [f"{service} {name}" for service, name in all_of_them() if not keeper.hits[f"{service} {name}"]] == []
        assert run.settled_after is not None
        assert run.settled_after < 30
        assert run.faults.count("flush") >= 3
