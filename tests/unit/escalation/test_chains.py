"""Chains step by step: delays, targets, rounds, exhaustion; one table or one story for each promise."""

from __future__ import annotations

from typing import Any

import pytest

from services.escalation.domain.chain.engine import NOBODY_ANSWERED, NOBODY_REACHED
from services.escalation.domain.chain.state import (
    Exhausted,
    MoveDue,
    Status,
    Stepped,
)
from tests.support.chain_world import MONDAY, World, begin, chain, minute

A, B, C = ({"targets": [{"person": name}]} for name in "abc")
PATIENT: dict[str, Any] = {"exhausted_after": "1000d"}


def after(step: dict[str, Any], delay: str, **more: Any) -> dict[str, Any]:
    return {**step, "after": delay, **more}


# ---- delays -----------------------------------------------------------------------------------------------------------------

DELAYS: list[tuple[str, list[dict[str, Any]], dict[str, Any], list[tuple[float, tuple[str, ...]]]]] = [
    ("the first step comes at the stall", [A, after(B, "15m")], {}, [(0, ("a",)), (15, ("b",))]),
    ("from the previous step", [after(A, "10m"), after(B, "15m")], {}, [(10, ("a",)), (25, ("b",))]),
    (
        "from the stall",
        [after(A, "10m", relative_to="stall"), after(B, "15m", relative_to="stall")],
        {},
        [(10, ("a",)), (15, ("b",))],
    ),
    (
        "before and after the due instant",
        [{**A, "before": "30m", "relative_to": "due"}, after(B, "15m", relative_to="due")],
        {"stalled_at": minute(60), "due_at": minute(60)},
        [(30, ("a",)), (75, ("b",))],
    ),
    (
        "a step never overtakes the one before it",
        [after(A, "30m"), after(B, "15m", relative_to="stall")],
        {},
        [(30, ("a",)), (30, ("b",))],
    ),
    ("open time stops at night", [after(A, "11h", on="open")], {}, [(1440 + 60, ("a",))]),
    ("allowed hours wait for the opening", [after(A, "11h", allowed_hours="daytime")], {}, [(1440, ("a",))]),
]


@pytest.mark.parametrize(
    ("steps", "cause", "expected"), [case[1:] for case in DELAYS], ids=[case[0] for case in DELAYS]
)
def test_when_steps_come(steps: list[dict[str, Any]], cause: dict[str, Any], expected: list[Any]) -> None:
    running = begin(chain(*steps, calendar="daytime", **PATIENT), **cause)
    running.run(10_000)
    assert running.steps() == expected


def test_a_worker_that_wakes_late_takes_the_step_once_and_counts_from_there() -> None:
    running = begin(chain(A, after(B, "15m"), after(C, "15m"), **PATIENT))
    running.at(500)
    running.run(1000)
    assert running.steps() == [(0, ("a",)), (500, ("b",)), (515, ("c",))]


def test_a_moved_due_instant_moves_the_steps_that_count_from_it() -> None:
    policy = chain({**A, "before": "30m", "relative_to": "due"}, after(B, "15m", relative_to="due"), **PATIENT)
    running = begin(policy, stalled_at=minute(60), due_at=minute(60))
    running.at(10, MoveDue(minute(120), minute(10)))
    running.run(1000)
    assert running.steps() == [(90, ("a",)), (135, ("b",))]


def test_a_chain_started_ahead_is_raised_at_its_first_step_or_its_stall() -> None:
    early = begin(
        chain({**A, "before": "30m", "relative_to": "due"}, **PATIENT), stalled_at=minute(60), due_at=minute(60)
    )
    late = begin(chain(after(A, "30m"), **PATIENT), stalled_at=minute(60))
    for running, raised in ((early, 30), (late, 60)):
        assert running.kinds() == []
        running.run(1000)
        assert (running.kinds()[0], running.said[0].at) == ("Raised", minute(raised))
    assert late.steps() == [(90, ("a",))]


# ---- targets ----------------------------------------------------------------------------------------------------------------

LINE = {"owner": "boss", "boss": "director", "director": "chief"}
TARGETS: list[tuple[str, dict[str, Any], World, tuple[str, ...], dict[str, str]]] = [
    ("a person", {"person": "a"}, World(), ("a",), {}),
    ("a role", {"role": "lead"}, World(roles={"lead": ["a", "b"]}), ("a", "b"), {}),
    (
        "a group without the owner",
        {"group": "g"},
        World(groups={"g": ["a", "owner"]}),
        ("a",),
        {"owner": "is the overdue owner"},
    ),
    ("whoever is on call", {"schedule": "s"}, World(schedules={"s": ["a"]}), ("a",), {}),
    ("nobody on call", {"schedule": "s"}, World(), (), {"schedule s": "nobody is on call"}),
    ("an empty group", {"group": "g"}, World(), (), {"group g": "the group is empty"}),
    ("the delegate of somebody away", {"person": "a"}, World(away={"a": "b"}), ("b",), {}),
    (
        "somebody away without delegate",
        {"person": "a"},
        World(away={"a": None}),
        (),
        {"a": "away, and nobody stands in"},
    ),
    (
        "a delegate who is the owner",
        {"person": "a"},
        World(away={"a": "owner"}),
        (),
        {"a": "away, and owner who stands in is the overdue owner"},
    ),
    ("somebody who has left", {"person": "a"}, World(gone=frozenset("a")), (), {"a": "not an active person"}),
    (
        "two who share a delegate",
        {"group": "g"},
        World(groups={"g": ["a", "b"]}, away={"a": "c", "b": "c"}),
        ("c",),
        {},
    ),
    ("the manager", {"manager": 1}, World(managers=LINE), ("boss",), {}),
    ("the manager's manager's manager", {"manager": 3}, World(managers=LINE), ("chief",), {}),
    (
        "a manager who has left is passed over",
        {"manager": 1},
        World(managers=LINE, gone=frozenset({"boss"})),
        ("director",),
        {},
    ),
    ("no manager so high", {"manager": 4}, World(managers=LINE), (), {"manager 4": "chief has no manager on record"}),
    (
        "managers in a circle",
        {"manager": 3},
        World(managers={"owner": "boss", "boss": "owner"}),
        (),
        {"manager 3": "the managers of owner run in a circle at owner"},
    ),
]


@pytest.mark.parametrize(
    ("target", "world", "people", "skipped"), [one[1:] for one in TARGETS], ids=[one[0] for one in TARGETS]
)
def test_who_a_target_means(
    target: dict[str, Any], world: World, people: tuple[str, ...], skipped: dict[str, str]
) -> None:
    running = begin(chain({"targets": [target]}), world)
    step = next(one for one in running.said if isinstance(one, Stepped))
    assert step.targets == people
    assert dict(step.skipped) == skipped


def test_somebody_who_is_to_act_gets_no_copy_too() -> None:
    targets = [{"person": "vp", "copy": True}, {"person": "a", "copy": True}, {"group": "g"}]
    running = begin(chain({"targets": targets}), World(groups={"g": ["a", "b"]}))
    step = next(one for one in running.said if isinstance(one, Stepped))
    assert (step.targets, step.copies) == (("a", "b"), ("vp",))


def test_targets_are_resolved_when_the_step_comes() -> None:
    running = begin(
        chain(A, {"targets": [{"schedule": "s"}], "after": "15m"}, **PATIENT), World(schedules={"s": ["early"]})
    )
    running.world = World(schedules={"s": ["late"]})
    running.run(15)
    assert running.steps()[-1] == (15, ("late",))


def test_actions_go_with_the_step_and_urging_the_owner_is_not_escalating_to_them() -> None:
    actions = ["urge", "reassign", {"do": "raise_priority", "to": "urgent"}, {"do": "webhook", "to": "mes"}]
    step = next(one for one in begin(chain({**A, "actions": actions})).said if isinstance(one, Stepped))
    assert step.urged == "owner"
    assert step.targets == ("a",)
    assert [(one.do, one.to) for one in step.actions] == [
        ("reassign", "a"),
        ("raise_priority", "urgent"),
        ("webhook", "mes"),
    ]


# ---- empty steps, rounds, exhaustion ------------------------------------------------------------------------------------------

NOBODY = {"targets": [{"schedule": "nobody"}]}


def test_an_empty_step_is_passed_at_once_with_its_reason() -> None:
    running = begin(chain(NOBODY, after(A, "2h"), **PATIENT))
    assert running.steps() == [(0, ("a",))]
    assert running.said[1].skipped == (("schedule nobody", "nobody is on call"),)  # type: ignore[union-attr]


def test_passing_an_empty_step_does_not_hurry_a_step_with_an_instant_of_its_own() -> None:
    running = begin(chain(NOBODY, after(A, "2h", relative_to="stall"), **PATIENT))
    running.run(1000)
    assert running.steps() == [(120, ("a",))]


def test_a_round_that_reaches_nobody_is_exhausted_once_however_often_it_may_repeat() -> None:
    policy = chain(NOBODY, after(NOBODY, "10m"), repeat={"every": "1m", "max": None}, fallback="head")
    running = begin(policy)
    assert running.kinds() == ["Raised", "Stepped", "Stepped", "Exhausted"]
    assert running.said[-1] == Exhausted(MONDAY, "head", NOBODY_REACHED)
    assert (running.state.status, running.due_at) == (Status.EXHAUSTED, None)


def test_rounds_repeat_with_their_distances_until_the_cap_and_then_exhaust_once() -> None:
    running = begin(chain(A, after(B, "10m"), repeat={"every": "1h", "max": 1}, fallback="head", exhausted_after="30m"))
    running.run(100_000)
    assert running.steps() == [(0, ("a",)), (10, ("b",)), (70, ("a",)), (80, ("b",))]
    assert [one for one in running.said if isinstance(one, Exhausted)] == [
        Exhausted(minute(110), "head", NOBODY_ANSWERED)
    ]


FALLBACKS: list[tuple[str, World, str | None]] = [
    ("the person named", World(), "head"),
    ("their delegate", World(away={"head": "deputy"}), "deputy"),
    ("their manager when nobody stands in", World(away={"head": None}, managers={"head": "chief"}), "chief"),
    ("themselves when there is nobody else", World(away={"head": None}), "head"),
]


@pytest.mark.parametrize(("world", "expected"), [case[1:] for case in FALLBACKS], ids=[case[0] for case in FALLBACKS])
def test_who_gets_what_nobody_took(world: World, expected: str | None) -> None:
    last = begin(chain(NOBODY, fallback="head"), world).said[-1]
    assert isinstance(last, Exhausted)
    assert last.fallback == expected


def test_the_overdue_owner_is_no_fallback_for_themselves() -> None:
    last = begin(chain(NOBODY, fallback="owner"), World(managers={"owner": "boss"})).said[-1]
    assert isinstance(last, Exhausted)
    assert last.fallback == "boss"
