"""Several times more than can be taken: refused at the door, urgent tickets first, and nothing that was promised is lost."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from services.gateway.admission import LEAST, Admission
from services.gateway.errors import Problem
from tests.faults.scenario import DUE, is_ready, running
from tests.faults.world import KEY, World, world
from tests.support.open_load import Make, Outcome, offer
from tests.support.wait import until


def mixed(run: str) -> Make:
    """One ticket in ten is urgent, by its words alone."""

    def make(number: int) -> tuple[str, dict[str, Any]]:
        common = {"source": "http", "external_id": f"{run}-{number}", "requester": {"id": "c1", "name": "Customer"}}
        if number % 10 == 0:
            return "urgent", common | {"subject": "network is down"}
        return "normal", common | {"subject": "printer prints blank pages", "body": "all of them " * 10}

    return make


def committed(world: World, run: str) -> int:
    return int(world.scalar("select count(*) from ledger.ticket where external_id like %s", f"{run}-%"))


def held(outcome: Outcome) -> int:
    """Nothing but acceptances, refusals that say when to come again, and callers who lost their patience."""
    for kind in outcome.kinds.values():
        assert set(kind.statuses) <= {202, 503, 0}, kind.statuses
        assert kind.without_retry_after == 0
    return sum(len(kind.accepted) for kind in outcome.kinds.values())


def test_more_than_can_be_taken_is_refused_urgent_tickets_come_first_and_all_goes_on_afterwards() -> None:
    with world() as made, running(made) as keeper:
        url, run = keeper.urls[0], uuid.uuid4().hex
        best = offer(url, KEY, mixed(f"best-{run}"), rate=None, seconds=4)
        assert held(best) == committed(made, f"best-{run}")
        flood = offer(url, KEY, mixed(run), rate=8 * best.goodput(), seconds=5, connections=800, patience=3)
        urgent, normal = flood.kinds["urgent"], flood.kinds["normal"]
        assert normal.statuses[503] > 0
        assert held(flood) <= committed(made, run)  # who lost patience may be in all the same; who was accepted is
        # of those the door answered; who lost patience before that, on a busy machine, was not turned away
        turned_away = {
            name: kind.statuses[503] / (kind.statuses[503] + kind.statuses[202]) for name, kind in flood.kinds.items()
        }
        assert 3 * turned_away["urgent"] < turned_away["normal"], flood.kinds
        assert len(urgent.accepted) > 0
        until(lambda: is_ready(url), seconds=5)
        calm = offer(url, KEY, mixed(f"calm-{run}"), rate=best.goodput() / 4, seconds=3)
        assert {name: set(kind.statuses) for name, kind in calm.kinds.items()} == {"urgent": {202}, "normal": {202}}
        until(lambda: made.scalar(DUE) == 0, seconds=60, what="the backlog is gone")
        assert made.scalar("select count(*) from ledger.ticket where assignee is null") == 0
        assert keeper.strange == []


def test_the_limit_shrinks_while_answers_are_late_and_grows_while_it_is_reached_and_they_are_not() -> None:
    admission = Admission(limit=200)
    late = [admission.admit(urgent=False) for _ in range(200)]
    with pytest.raises(Problem):
        admission.admit(urgent=False)
    admission.leave(late[0] - 10)
    assert admission.limit < 200
    for came_at in late[1:]:
        admission.leave(came_at)
    for _ in range(100):
        admission._shrunk_at = 0.0
        admission.leave(admission.admit(urgent=True) - 10)
    assert admission.limit == LEAST
    inside = [admission.admit(urgent=True) for _ in range(2 * LEAST)]
    with pytest.raises(Problem):
        admission.admit(urgent=True)
    for came_at in inside:
        admission.leave(came_at)
    assert admission.limit > LEAST
    assert admission.under_way == 0
