"""Any chain, any people, any commands, woken at any time: what holds always."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.escalation.domain.chain.state import (
    Acknowledge,
    Command,
    End,
    Ended,
    EscalateNow,
    Exhausted,
    Facts,
    Pause,
    Raised,
    Resume,
    Status,
    Stepped,
    dumps,
    loads,
)
from tests.support.chain_world import Running, World, begin, chain, minute

PEOPLE = ["owner", "a", "b", "c", "d"]
PERSON = st.sampled_from(PEOPLE)
SOME = st.lists(PERSON, max_size=3)
DELAY = st.sampled_from(["0s", "1m", "15m", "3h", "2d"])

TARGET = st.one_of(
    st.builds(lambda name, copy: {"person": name, "copy": copy}, PERSON, st.booleans()),
    st.sampled_from([{"group": "g"}, {"role": "r"}, {"schedule": "s"}, {"manager": 1}, {"manager": 2}]),
)
STEP = st.fixed_dictionaries(
    {
        "targets": st.lists(TARGET, min_size=1, max_size=3),
        "actions": st.lists(st.sampled_from(["urge", "reassign", "raise_priority"]), max_size=1),
        "after": DELAY,
        "on": st.sampled_from(["open", "wall"]),
        "relative_to": st.sampled_from(["previous", "stall", "due"]),
        "allowed_hours": st.sampled_from([None, "daytime"]),
    }
)
REPEAT = st.none() | st.fixed_dictionaries(
    {"every": st.sampled_from(["1m", "2h"]), "max": st.sampled_from([1, 2, None])}
)
ACKNOWLEDGE = st.fixed_dictionaries({"expires": st.sampled_from([None, "30m"]), "needs_everyone": st.booleans()})
POLICY = st.builds(
    lambda steps, repeat, ack: chain(*steps, repeat=repeat, acknowledge=ack, calendar="daytime", fallback="d"),
    st.lists(STEP, min_size=1, max_size=4),
    REPEAT,
    ACKNOWLEDGE,
)
WORLD = st.builds(
    World,
    managers=st.dictionaries(PERSON, PERSON),
    groups=st.fixed_dictionaries({"g": SOME}),
    roles=st.fixed_dictionaries({"r": SOME}),
    schedules=st.fixed_dictionaries({"s": SOME}),
    away=st.dictionaries(PERSON, st.none() | PERSON, max_size=2),
    gone=st.frozensets(PERSON, max_size=2),
)
COMMAND = st.sampled_from(["acknowledge", "escalate", "pause", "resume", "end", "hold", "release"])
HAPPENING = st.tuples(st.integers(0, 3 * 24 * 60), COMMAND, PERSON)


def command(kind: str, who: str, at: datetime) -> Command | None:
    made: dict[str, Command] = {
        "acknowledge": Acknowledge(who, at),
        "escalate": EscalateNow(who, at),
        "pause": Pause(at),
        "resume": Resume(at),
        "end": End("moved", at),
    }
    return made.get(kind)


def live(running: Running, happenings: list[tuple[int, str, str]], until: float) -> int:
    """Let the happenings come in order, waking the chain whenever it asks; the number of times it was woken."""
    woken = 0
    for count, kind, who in [*sorted(happenings, key=lambda one: one[0]), (int(until), "", "")]:
        now = minute(count)
        while running.due_at is not None and running.due_at < now:
            before = running.due_at
            running.decide(before)
            assert running.due_at is None or running.due_at > before, "woken twice for one instant"
            woken += 1
        if kind in ("hold", "release"):
            running.facts = Facts(owner=running.facts.owner, held=kind == "hold")
        one = command(kind, who, now)
        running.decide(now, *((one,) if one is not None else ()))
    return woken


def one_of_each(running: Running) -> None:
    """Invariants of everything a chain has said."""
    for effect in running.said:
        if isinstance(effect, Stepped):
            told = [*effect.targets, *effect.copies]
            assert len(told) == len(set(told)), "somebody told twice in one step"
            assert "owner" not in told, "the overdue owner was escalated to"
        if isinstance(effect, Exhausted):
            assert effect.fallback != "owner"
    assert sum(isinstance(effect, Raised) for effect in running.said) <= 1
    assert sum(isinstance(effect, Ended) for effect in running.said) <= 1
    if any(isinstance(effect, Ended) for effect in running.said):
        assert isinstance(running.said[-1], Ended), "something was said after the end"


@settings(max_examples=200, deadline=None)
@given(POLICY, WORLD, st.lists(HAPPENING, max_size=8))
def test_whatever_happens_nobody_is_told_twice_and_it_never_spins(
    policy: Any, world: World, happenings: list[tuple[int, str, str]]
) -> None:
    running = begin(policy, world)
    days = 4
    woken = live(running, happenings, days * 24 * 60)
    one_of_each(running)
    # The fastest chain goes round once a minute, with at most its steps and the moving into allowed hours on the way.
    assert woken <= days * 24 * 60 * (len(policy.steps) + 1)


@settings(max_examples=200, deadline=None)
@given(POLICY, WORLD)
def test_without_anybody_each_step_comes_once_a_round_in_order_and_one_exhausted_ends_it(
    policy: Any, world: World
) -> None:
    running = begin(policy, world)
    live(running, [], 30 * 24 * 60)
    taken = [(one.round, one.step) for one in running.said if isinstance(one, Stepped)]
    assert taken == sorted(set(taken))
    rounds = Counter(round_ for round_, _ in taken)
    last = max(rounds, default=0)
    assert all(count == len(policy.steps) for round_, count in rounds.items() if round_ < last)
    exhausted = [one for one in running.said if isinstance(one, Exhausted)]
    endless = (
        policy.repeat is not None
        and policy.repeat.max is None
        and any(one.targets or one.urged for one in running.said if isinstance(one, Stepped))
    )
    assert len(exhausted) == (0 if endless else 1)
    assert (running.state.status is Status.EXHAUSTED) == (not endless)


@settings(max_examples=100, deadline=None)
@given(POLICY, WORLD, st.lists(HAPPENING, max_size=6))
def test_a_chain_stored_and_read_back_at_any_moment_goes_on_the_same(
    policy: Any, world: World, happenings: list[tuple[int, str, str]]
) -> None:
    kept, restarted = begin(policy, world), begin(policy, world)
    for count, kind, who in sorted(happenings, key=lambda one: one[0]):
        live(kept, [(count, kind, who)], count)
        live(restarted, [(count, kind, who)], count)
        restarted.state = loads(dumps(restarted.state))
    live(kept, [], 5 * 24 * 60)
    live(restarted, [], 5 * 24 * 60)
    assert restarted.said == kept.said
    assert restarted.state == kept.state


@settings(max_examples=150, deadline=None)
@given(POLICY, WORLD, st.lists(HAPPENING, max_size=6), st.integers(0, 4 * 24 * 60))
def test_deciding_again_changes_nothing(
    policy: Any, world: World, happenings: list[tuple[int, str, str]], count: int
) -> None:
    running = begin(policy, world)
    live(running, happenings, 4 * 24 * 60)
    running.at(4 * 24 * 60 + count)
    state, said = running.state, len(running.said)
    again = running.at(4 * 24 * 60 + count)
    assert (again.effects, again.state, len(running.said)) == ((), state, said)


@settings(max_examples=150, deadline=None)
@given(POLICY, WORLD, st.integers(0, 2 * 24 * 60), st.integers(0, 24 * 60), st.integers(0, 24 * 60))
def test_a_pause_moves_what_is_to_come_by_its_length_and_never_tells_anybody(
    policy: Any, world: World, until: int, pause: int, early: int
) -> None:
    running = begin(policy, world)
    live(running, [], until)
    due_at, said = running.due_at, len(running.said)
    running.at(until, Pause(minute(until)))
    running.at(until + pause // 2)
    assert (running.due_at, len(running.said)) == (None, said)
    by_clock = not running.state.counts_open
    resumed = running.decide(minute(until + pause), Resume(minute(until + pause)))
    if due_at is not None and by_clock and running.state.raised and not resumed.effects:
        assert resumed.due_at == max(due_at, minute(until)) + timedelta(minutes=pause)
