"""Random flows, random actions: the engine against a naive model, and what must hold after every step."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.ticket.flow import engine
from shared.ticket.flow.model import read
from shared.ticket.flow.proof import prove
from shared.ticket.flow.state import FlowState, Result, dump, load
from tests.support.flow_model import Model
from tests.support.flow_trees import TreeMaker, drawn
from tests.support.flows import condition, flow_data, program_of

STEPS = 100_000


class Case:
    """One case run by the engine and by the model side by side."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        tree = TreeMaker(self.random, size=self.random.choice([4, 10, 20])).tree()
        self.tree = tree
        self.program = program_of(drawn(tree))
        self.steps = 0
        self.begin()

    def begin(self) -> None:
        """Open another case of the same flow."""
        self.model = Model(self.tree)
        self.joined: Counter[tuple[str, int]] = Counter()
        self.open: set[tuple[str, int]] = set()
        self.check(engine.start(self.program))

    def run(self, limit: int) -> None:
        until = self.steps + limit
        while not self.state.done and self.steps < until:
            self.step()

    def step(self) -> None:
        visit = self.random.choice(sorted(self.open))
        outcome = self.random.choice(self.model.choices(visit))
        result = engine.complete(self.program, self.state, visit[0], visit=visit[1], outcome=outcome)
        self.model.complete(visit, outcome)
        self.steps += 1
        self.check(result)

    def check(self, result: Result) -> None:
        assert result.refused is None
        self.state = result.state
        self.open |= {(visit.node, visit.visit) for visit in result.entered}
        gone = {(visit.node, visit.visit) for visit in (*result.completed, *result.cancelled)}
        assert gone <= self.open, "only what was open can be completed or cancelled"
        self.open -= gone
        seen = {(token.node, token.visit) for token in self.state.open}
        assert len(seen) == len(self.state.open), "a visit is open once"
        assert seen == self.open, "what was entered and has not gone is open"
        assert seen == set(self.model.open()), "the model agrees"
        assert self.state.done == self.model.done()
        assert self.state.done or seen, "a live case has a mover"
        if self.state.done:
            assert not self.state.tokens, "no token is stranded"
            assert self.state.outcome == self.model.outcome
        self.joined.update((joined.node, joined.fork) for joined in result.joined)
        assert max(self.joined.values(), default=1) == 1, "no join goes on twice for one passing of its fork"
        used = {step.fork for token in self.state.tokens for step in token.path}
        assert used == {fork.id for fork in self.state.forks}, "passings are kept exactly as long as they are needed"


def test_the_engine_does_what_a_naive_model_does_for_a_hundred_thousand_steps() -> None:
    steps, seed = 0, 0
    while steps < STEPS:
        case = Case(seed)
        for _ in range(4):
            case.begin()
            case.run(60)
        steps += case.steps
        seed += 1
    assert steps >= STEPS


@settings(max_examples=25, deadline=None)
@given(st.integers(min_value=1_000_000))
def test_a_random_block_structured_flow_is_proven_sound_and_runs_as_the_model_says(seed: int) -> None:
    random = Random(seed)
    tree = TreeMaker(random, size=8).tree()
    assert prove(read(flow_data(drawn(tree))), condition) == []
    Case(seed).run(40)


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0))
def test_a_state_survives_being_written_and_read_at_every_step(seed: int) -> None:
    case = Case(seed)
    for _ in range(20):
        if case.state.done:
            break
        assert load(dump(case.state)) == case.state
        case.state = load(dump(case.state))
        case.step()


@settings(max_examples=80, deadline=None)
@given(st.integers(min_value=0))
def test_jumps_anywhere_are_taken_whole_or_refused_and_leave_nobody_waiting_for_ever(seed: int) -> None:
    random = Random(seed)
    program = program_of(drawn(TreeMaker(random, size=12).tree()))
    state = engine.start(program).state
    for _ in range(40):
        if state.done:
            break
        result = _any_step(program, state, random)
        if result.refused is not None:
            assert result.state == state
        state = result.state
        assert state.done or state.open
        assert not (state.done and state.tokens)


def _any_step(program: engine.Program, state: FlowState, random: Random) -> Result:
    token = random.choice(state.tokens)
    if random.random() < 0.4 or not token.visit:
        to = random.choice(sorted(program.nodes))
        siblings = random.choice(list(engine.Siblings))
        return engine.jump(program, state, token.node, to, siblings=siblings, free=True)
    node = program.nodes[token.node]
    outcomes: list[str | None] = [*node.outcomes] or [None, "rejected"]
    return engine.complete(program, state, token.node, visit=token.visit, outcome=random.choice(outcomes))
