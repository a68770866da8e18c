"""What the proof passes must run: sound flows with random changes, and whatever is done to their cases."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.ticket.flow import engine
from shared.ticket.flow.model import read
from shared.ticket.flow.program import Program
from shared.ticket.flow.proof import prove
from shared.ticket.flow.state import FlowState, Result, Token
from tests.support.flow_graphs import changed_flow
from tests.support.flows import condition, flow_data, program_of


def run_if_proven(seed: int) -> bool:
    """Make a flow, prove it, and when it is sound run five cases of it; True when it was."""
    random = Random(seed)
    nodes = changed_flow(random)
    if prove(read(flow_data(nodes)), condition):
        return False
    program = program_of(nodes)
    for _ in range(5):
        _run(program, random)
    return True


def _run(program: Program, random: Random) -> None:
    facts: dict[str, Any] = {"priority": "low"}
    result = engine.start(program, facts)
    _check(program, result)
    for _ in range(50):
        if result.state.done:
            break
        facts["priority"] = random.choice(["low", "urgent"])
        result = _step(program, result.state, random.choice(result.state.open), facts, random)
        _check(program, result)


def _step(program: Program, state: FlowState, token: Token, facts: dict[str, Any], random: Random) -> Result:
    node = program.nodes[token.node]
    if node.timers and 0 not in token.fired and random.random() < 0.3:
        return engine.expire(program, state, token.node, 0, facts, visit=token.visit)
    if node.jumps and random.random() < 0.3:
        return engine.jump(program, state, token.node, node.jumps[0].to, facts, visit=token.visit)
    outcomes: list[str | None] = [*node.outcomes] or [None]
    if node.on_reject is not None:
        outcomes.append("rejected")
    return engine.complete(program, state, token.node, facts, visit=token.visit, outcome=random.choice(outcomes))


def _check(program: Program, result: Result) -> None:
    state = result.state
    assert result.refused is None, "every step that a sound flow offers can be taken"
    assert state.done or state.open, "a live case has a mover"
    assert not (state.done and state.tokens), "no token is stranded"
    forks = {fork.id: fork.node for fork in state.forks}
    places = Counter(
        (token.node, *((forks[step.fork], step.branches) for step in token.path))
        for token in state.open
        if token.beside < 0
    )
    assert max(places.values(), default=0) <= 1, "no node is open twice on the main way"


@settings(max_examples=100, deadline=None)
@given(st.integers(min_value=0))
def test_a_changed_flow_is_refused_or_runs_without_anybody_stranded(seed: int) -> None:
    run_if_proven(seed)


def test_enough_of_the_changed_flows_are_sound_for_this_to_mean_something() -> None:
    assert sum(run_if_proven(seed) for seed in range(60)) >= 10
