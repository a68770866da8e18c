"""Moving cases between versions of a flow: what is kept, what is refused, and that nobody is left waiting."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.ticket.flow import engine
from shared.ticket.flow.migrate import migrate
from shared.ticket.flow.state import FlowState, Visit
from tests.support.flow_trees import TreeMaker, drawn
from tests.support.flows import program_of

END = {"name": "z", "kind": "end"}
LINE = [{"name": "a", "next": "b"}, {"name": "b", "next": "z"}, END]


def _par(need: Any = "all", branches: tuple[str, ...] = ("a", "b", "c"), last: str = "z") -> list[dict[str, Any]]:
    return [
        {"name": "f", "kind": "fork", "next": list(branches)},
        *({"name": name, "next": "j"} for name in branches),
        {"name": "j", "kind": "join", "need": need, "next": "d"},
        {"name": "d", "next": "z"},
        END,
    ]


def _state(nodes: list[dict[str, Any]], *completed: str) -> FlowState:
    program = program_of(nodes)
    state = engine.start(program).state
    for name in completed:
        state = engine.complete(program, state, name).state
    return state


def _open(state: FlowState) -> list[tuple[str, int]]:
    return [(token.node, token.visit) for token in state.open]


def test_a_visit_of_a_node_that_is_still_there_stays_the_same_visit() -> None:
    new = [{"name": "a", "next": "x"}, {"name": "x", "next": "b"}, {"name": "b", "next": "z"}, END]
    plan = migrate(_state(LINE, "a"), program_of(LINE), program_of(new), version=7)
    assert (plan.possible, _open(plan.state), plan.state.version) == (True, [("b", 1)], 7)
    assert [(move.visit, move.to, move.kept) for move in plan.moves] == [(Visit("b", 1), Visit("b", 1), True)]


def test_a_node_that_is_gone_is_an_obstacle_and_nothing_changes() -> None:
    state = _state(LINE, "a")
    plan = migrate(state, program_of(LINE), program_of([{"name": "a", "next": "z"}, END]), version=7)
    assert not plan.possible
    assert plan.state == state
    assert [(one.node, one.reason) for one in plan.obstacles] == [("b", "the new flow has no node b; map it")]


def test_a_mapped_visit_begins_as_the_next_visit_of_its_new_node() -> None:
    new = [{"name": "a", "next": "x"}, {"name": "x", "needs": [{"check": "safe"}], "next": "z"}, END]
    plan = migrate(_state(LINE, "a"), program_of(LINE), program_of(new), {"b": "x"}, version=2)
    assert _open(plan.state) == [("x", 1)]
    assert [(move.kept, move.needs) for move in plan.moves] == [(False, ("safe",))]


def test_a_mapping_to_a_node_that_is_not_there_is_an_obstacle() -> None:
    plan = migrate(_state(LINE), program_of(LINE), program_of(LINE), {"b": "nowhere"}, version=2)
    assert not plan.possible


def test_arrivals_at_a_join_are_kept() -> None:
    new = program_of(_par(branches=("c", "b", "a")))
    plan = migrate(_state(_par(), "a", "b"), program_of(_par()), new, version=2)
    assert plan.possible
    assert _open(engine.complete(new, plan.state, "c").state) == [("d", 1)]


def test_a_join_that_needs_less_in_the_new_flow_goes_on_at_once() -> None:
    plan = migrate(_state(_par(), "a", "b"), program_of(_par()), program_of(_par(need=2)), version=2)
    assert _open(plan.state) == [("d", 1)]
    assert (plan.result.entered, plan.result.cancelled) == ((Visit("d", 1),), (Visit("c", 1),))


def test_a_branch_that_the_new_flow_adds_is_not_waited_for_by_a_case_under_way() -> None:
    new = program_of(_par(branches=("a", "b", "c", "e")))
    state = migrate(_state(_par(), "a"), program_of(_par()), new, version=2).state
    for name in ("b", "c"):
        state = engine.complete(new, state, name).state
    assert _open(state) == [("d", 1)]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("a", "inside"),  # from outside into a branch
        ("j", "of kind join"),
        ("z", "of kind end"),
    ],
)
def test_a_case_is_not_moved_to_where_a_join_would_be_deceived(target: str, reason: str) -> None:
    old = [{"name": "p", "next": "z"}, END]
    plan = migrate(_state(old), program_of(old), program_of(_par()), {"p": target}, version=2)
    assert not plan.possible
    assert reason in plan.obstacles[0].reason


def test_a_fork_that_is_gone_is_an_obstacle_for_those_inside_it() -> None:
    new = [
        {"name": "a", "next": "b"},
        {"name": "b", "next": "c"},
        {"name": "c", "next": "d"},
        {"name": "d", "next": "z"},
    ]
    plan = migrate(_state(_par(), "a"), program_of(_par()), program_of([*new, END]), version=2)
    assert not plan.possible


def test_a_token_may_be_ended_by_the_mapping() -> None:
    new = program_of(_par(branches=("a", "b")))
    plan = migrate(_state(_par(), "a", "b"), program_of(_par()), new, {"c": None}, version=2)
    assert _open(plan.state) == [("d", 1)]
    assert [(move.visit, move.to) for move in plan.moves] == [(Visit("c", 1), None)]


def test_a_case_that_is_done_stays_on_its_version() -> None:
    state = _state(LINE, "a", "b")
    assert migrate(state, program_of(LINE), program_of(_par()), version=9).state is state


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0))
def test_moving_to_the_same_flow_changes_nothing_but_the_version(seed: int) -> None:
    random = Random(seed)
    program = program_of(drawn(TreeMaker(random, size=12).tree()))
    state = engine.start(program).state
    for _ in range(12):
        if state.done:
            return
        plan = migrate(state, program, program, version=state.version + 1)
        assert plan.possible, plan.obstacles
        assert (plan.state.tokens, plan.state.forks) == (state.tokens, state.forks)
        state = plan.state
        token = random.choice(state.open)
        outcome = random.choice([*program.nodes[token.node].outcomes, "rejected"])
        outcome = outcome if program.nodes[token.node].outcomes != [] and outcome != "rejected" else None
        state = engine.complete(program, state, token.node, visit=token.visit, outcome=outcome).state


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0))
def test_moving_to_any_other_flow_is_refused_or_leaves_a_mover(seed: int) -> None:
    random = Random(seed)
    old = program_of(drawn(TreeMaker(random, size=10).tree()))
    new = program_of(drawn(TreeMaker(random, size=10).tree()))
    state = engine.start(old).state
    for _ in range(random.randint(0, 8)):
        if not state.done:
            token = random.choice(state.open)
            outcome = random.choice(old.nodes[token.node].outcomes or [None])
            state = engine.complete(old, state, token.node, visit=token.visit, outcome=outcome).state
    plan = migrate(state, old, new, version=1)
    assert plan.possible or plan.state == state
    assert plan.state.done or plan.state.open
