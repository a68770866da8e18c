"""What people do to a running chain: acknowledge, pause, hold, escalate now, end; one story for each promise."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from services.escalation.domain.chain.engine import decide
from services.escalation.domain.chain.state import (
    Acknowledge,
    Acknowledged,
    End,
    EscalateNow,
    Facts,
    Pause,
    Resume,
    Status,
    Stepped,
    dumps,
    loads,
)
from services.escalation.errors import StateUnreadable
from tests.support.chain_world import World, begin, chain, minute

A, B, C = ({"targets": [{"person": name}]} for name in "abc")
PATIENT: dict[str, Any] = {"exhausted_after": "1000d"}


def after(step: dict[str, Any], delay: str, **more: Any) -> dict[str, Any]:
    return {**step, "after": delay, **more}


# ---- acknowledgement ----------------------------------------------------------------------------------------------------------


def test_an_acknowledgement_stops_the_chain() -> None:
    running = begin(chain(A, after(B, "15m")))
    running.at(5, Acknowledge("a", minute(5)))
    assert running.due_at is None
    assert running.at(1000).effects == ()


def test_an_acknowledgement_already_given_spares_everybody_a_late_worker_would_tell() -> None:
    running = begin(chain(A, after(B, "15m")))
    running.at(60, Acknowledge("a", minute(20)))
    assert running.steps() == [(0, ("a",))]


def test_an_acknowledgement_twice_is_one() -> None:
    running = begin(chain(A, after(B, "15m")))
    first = running.at(5, Acknowledge("a", minute(5)))
    again = running.at(6, Acknowledge("b", minute(6)))
    assert (len(first.effects), again.effects, again.state) == (1, (), first.state)


def test_an_acknowledgement_that_expires_reminds_and_resumes_at_the_same_step() -> None:
    running = begin(chain(A, after(B, "15m"), after(C, "15m"), acknowledge={"expires": "1h"}, **PATIENT))
    running.run(15)
    running.at(20, Acknowledge("a", minute(20)))
    running.run(200)
    resumed = next(one for one in running.said if isinstance(one, Stepped) and one.again)
    assert (resumed.at, resumed.step, resumed.targets, resumed.reminded) == (minute(80), 1, ("b",), ("a",))
    assert running.steps() == [(0, ("a",)), (15, ("b",)), (80, ("b",)), (95, ("c",))]


def test_everyone_has_to_acknowledge_where_the_chain_says_so_and_delegates_count() -> None:
    world = World(groups={"g": ["a", "b", "c"]}, away={"b": "deputy"})
    everyone = {"needs_everyone": True}
    running = begin(chain({"targets": [{"group": "g"}]}, after(C, "1h"), acknowledge=everyone), world)
    assert running.steps() == [(0, ("a", "deputy", "c"))]
    answers = [
        running.at(1 + index, Acknowledge(who, minute(1))).effects for index, who in enumerate(["a", "x", "b", "c"])
    ]
    assert answers == [
        (Acknowledged(minute(1), "a", complete=False),),
        (),
        (Acknowledged(minute(1), "b", complete=False),),
        (Acknowledged(minute(1), "c", complete=True),),
    ]
    assert running.due_at is None


def test_the_next_step_asks_everyone_anew() -> None:
    running = begin(
        chain({"targets": [{"person": "a"}, {"person": "b"}], "needs_everyone": True}, after(A, "10m"), **PATIENT)
    )
    running.at(1, Acknowledge("a", minute(1)))
    running.run(10)
    assert running.steps()[-1] == (10, ("a",))
    assert running.state.acknowledged_by == ()


# ---- pause, hold, escalate now, end -------------------------------------------------------------------------------------------


def test_a_pause_freezes_what_remains_of_the_delay() -> None:
    running = begin(chain(A, after(B, "15m"), **PATIENT))
    running.at(10, Pause(minute(10)))
    assert running.due_at is None
    running.at(100, Resume(minute(100)))
    running.run(1000)
    assert running.steps() == [(0, ("a",)), (105, ("b",))]


def test_a_pause_freezes_open_time_as_open_time() -> None:
    running = begin(chain(A, after(B, "2h", on="open"), calendar="daytime", **PATIENT))
    running.at(60, Pause(minute(60)))
    running.at(570, Resume(minute(570)))  # 17:30: half an hour is left of Monday, half comes on Tuesday
    running.run(10_000)
    assert running.steps() == [(0, ("a",)), (1440 + 30, ("b",))]


def test_a_pause_freezes_the_time_an_acknowledgement_holds() -> None:
    running = begin(chain(after(A, "0s", on="open"), acknowledge={"expires": "1h"}, calendar="daytime", **PATIENT))
    running.at(0, Acknowledge("a", minute(0)), Pause(minute(20)), Resume(minute(1000)))
    assert running.due_at == minute(1040)


def test_what_is_held_comes_when_it_is_lifted() -> None:
    running = begin(chain(A, after(B, "15m"), **PATIENT))
    running.facts = Facts(owner="owner", held=True)
    assert (running.at(15).effects, running.due_at) == ((), None)
    running.facts = Facts(owner="owner")
    running.at(40)
    assert running.steps()[-1] == (40, ("b",))


def test_escalate_now_takes_the_next_step_and_wraps_after_the_last() -> None:
    running = begin(chain(A, after(B, "15m"), **PATIENT))
    running.at(1, EscalateNow("x", minute(1)))
    running.at(2, EscalateNow("x", minute(2)))
    assert running.steps() == [(0, ("a",)), (1, ("b",)), (2, ("a",))]
    assert running.due_at == minute(17)


def test_a_chain_that_has_ended_stays_ended() -> None:
    running = begin(chain(A, after(B, "15m")))
    running.at(1, End("accepted", minute(1)))
    later = running.at(
        60, EscalateNow("x", minute(2)), Acknowledge("a", minute(3)), Resume(minute(4)), End("again", minute(5))
    )
    assert (later.effects, later.due_at, later.state.status) == ((), None, Status.ENDED)


def test_a_timer_of_an_older_generation_takes_no_step() -> None:
    running = begin(chain(A, after(B, "15m"), **PATIENT))
    old = running.state.generation
    running.at(1, Pause(minute(1)), Resume(minute(2)))
    stale = decide(running.state, (), running.facts, running.world, minute(60), timer=old)
    assert (stale.effects, stale.reason, stale.state) == ((), "stale timer", running.state)
    fresh = decide(running.state, (), running.facts, running.world, minute(60), timer=running.state.generation)
    assert fresh.reason == "stepped"


def test_an_edited_playbook_does_not_touch_a_running_chain() -> None:
    running = begin(chain(A, after(B, "15m"), **PATIENT))
    stored = loads(dumps(running.state))
    assert stored == running.state
    assert stored.chain.steps[1].after == timedelta(minutes=15)


@pytest.mark.parametrize("stored", [b"{", b"[]", b'{"escalation": 1}', {"escalation": "one"}])
def test_a_state_that_cannot_be_read_is_said_so(stored: Any) -> None:
    with pytest.raises(StateUnreadable):
        loads(stored)


STANDING_IN: list[tuple[str, World, World, str]] = [
    ("whoever stands in for somebody who left meanwhile", World(), World(away={"a": "new"}), "new"),
    (
        "whoever stands in by now for somebody away from the start",
        World(away={"a": "old"}),
        World(away={"a": "new"}),
        "new",
    ),
    ("somebody who came back", World(away={"a": "old"}), World(), "a"),
]


@pytest.mark.parametrize(("then", "now", "by"), [one[1:] for one in STANDING_IN], ids=[one[0] for one in STANDING_IN])
def test_who_else_may_acknowledge_where_everyone_has_to(then: World, now: World, by: str) -> None:
    running = begin(chain(A, acknowledge={"needs_everyone": True}), then)
    running.world = now
    assert running.at(1, Acknowledge(by, minute(1))).effects == (Acknowledged(minute(1), by, complete=True),)
