"""What holds for every timeline: three ways to say the due instant, any batching, through JSON, and the parts of a life."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from random import Random

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.sla.domain import facts as f
from services.sla.domain.attribution import attribute, split
from services.sla.domain.clock import Clock
from services.sla.domain.compute import compute
from services.sla.domain.decide import decide
from services.sla.domain.kept import from_json, to_json
from services.sla.domain.terms import DEFAULT, Library, Policy, Target, Terms, single
from services.sla.domain.ticket import SlaState
from shared.calendar import BusinessCalendar
from shared.calendar.spec import parse_spec
from shared.contracts import events as e
from tests.nightly.sla_timelines import check, fact, instant, library_of
from tests.unit.sla.slow_clock import SlowCalendar
from tests.unit.sla.timelines import Timeline, calendar, near_a_change, timeline

SPECS = [calendar(Random(seed)) for seed in range(12)]
ANCHORS = [near_a_change(Random(seed), spec["tz"]) for seed, spec in enumerate(SPECS)]
SLOW = [SlowCalendar(spec) for spec in SPECS]
FAST = [BusinessCalendar(parse_spec({**spec, "recurring_holidays": [], "breaks": []})) for spec in SPECS]
SEEDS = st.integers(0, 2**32)


def made(seed: int) -> tuple[Timeline, list[f.Fact], Library, datetime]:
    line = timeline(Random(seed), SLOW, ANCHORS)
    return line, [fact(event) for event in line.events], library_of(line, FAST), instant(line.now)


def test_twenty_thousand_timelines_agree_with_the_independent_checker() -> None:
    assert check(20_000, seed=2026) == []


# ---- three formulations -----------------------------------------------------------------------------------------------------


def due_from_remaining(
    start: datetime, target: timedelta, waits: Sequence[tuple[datetime, datetime]], line: BusinessCalendar
) -> datetime:
    """What was left at the last change, from there on."""
    left, begin = target, start
    for a, b in waits:
        counted = line.between(begin, a)
        if counted >= left:
            break
        left, begin = left - counted, b
    due = line.add(begin, left)
    assert due is not None
    return due


def due_from_pauses(
    start: datetime, target: timedelta, waits: Sequence[tuple[datetime, datetime]], line: BusinessCalendar
) -> datetime:
    """The target plus the open time of every pause that began before it was used up."""
    due = line.add(start, target)
    total = target
    for a, b in waits:
        assert due is not None
        if a >= due:
            break
        total += line.between(a, b)
        due = line.add(start, total)
    assert due is not None
    return due


def due_from_cut_calendar(
    start: datetime, target: timedelta, waits: Sequence[tuple[datetime, datetime]], line: BusinessCalendar
) -> datetime:
    """The opening hours with the pauses cut out of them, walked until the target is reached."""
    left = target
    for a, b in line.stretches_after(start):
        pieces = [(a, b)]
        for low, high in waits:
            pieces = [
                piece for x, y in pieces for piece in ((x, min(y, low)), (max(x, high), y)) if piece[0] < piece[1]
            ]
        for x, y in pieces:
            if y - x >= left:
                return x + left
            left -= y - x
    raise AssertionError("the calendar opens every week")


@settings(max_examples=1_500, deadline=None)
@given(
    number=st.integers(0, len(FAST) - 1),
    offset=st.integers(-400_000, 400_000),
    target=st.integers(1, 200_000),
    gaps=st.lists(st.integers(1, 150_000), max_size=12),
)
def test_three_formulations_of_the_due_instant_are_equal(
    number: int, offset: int, target: int, gaps: list[int]
) -> None:
    line, start = FAST[number], instant(ANCHORS[number] + offset)
    marks = [start + timedelta(seconds=sum(gaps[: index + 1])) for index in range(len(gaps))]
    waits = list(zip(marks[::2], marks[1::2], strict=False))
    facts: list[f.Fact] = [f.Created(start, "open")]
    for a, b in waits:
        facts += [f.StatusChanged(a, "wait"), f.StatusChanged(b, "open")]
    policy = Policy(
        "p", 1, line, {DEFAULT: {"resolution": Terms(Target(timedelta(seconds=target)), frozenset({"wait"}))}}
    )
    ours = compute(facts, policy, facts[-1].at).of("resolution")[0].due_computed
    wanted = timedelta(seconds=target)
    assert ours == due_from_remaining(start, wanted, waits, line) == due_from_pauses(start, wanted, waits, line)
    if line.next_close(start) is not None:  # open around the clock, a stretch never ends and cannot be walked
        assert ours == due_from_cut_calendar(start, wanted, waits, line)


# ---- any batching -----------------------------------------------------------------------------------------------------------


def in_time(facts: list[f.Fact], library: Library, now: datetime) -> tuple[SlaState, list[tuple[datetime, e.Data]]]:
    """One decision a fact, and one at every instant asked for, as on a healthy system."""
    decision = decide(None, facts[:1], facts[0].at, library)
    told = list(decision.events)
    for index in range(1, len(facts) + 1):
        until = facts[index].at if index < len(facts) else now
        while decision.next_due_at is not None and (
            decision.next_due_at < until or (index == len(facts) and decision.next_due_at <= now)
        ):
            decision = decide(decision.state, (), decision.next_due_at, library)
            told += decision.events
        if index < len(facts):
            decision = decide(decision.state, [facts[index]], facts[index].at, library)
            told += decision.events
    return decision.state, told


def on_time(told: Sequence[tuple[datetime, e.Data]]) -> list[tuple[datetime, e.Data]]:
    return [(at, msgspec.structs.replace(data, late=False) if hasattr(data, "late") else data) for at, data in told]


@settings(max_examples=400, deadline=None)
@example(seed=420)  # a breach made by a change and a due instant in the same instant
@given(SEEDS)
def test_an_outage_over_the_whole_life_gives_the_same_clocks_and_events_as_none(seed: int) -> None:
    _, facts, library, now = made(seed)
    late = decide(None, facts, now, library)
    state, told = in_time(facts, library, now)
    assert late.state == state
    assert on_time(late.events) == on_time(told)


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_deciding_twice_changes_nothing_and_the_state_survives_json(seed: int) -> None:
    _, facts, library, now = made(seed)
    first = decide(None, facts, now, library)
    again = decide(from_json(to_json(first.state)), (), now, library)
    assert (again.state, again.events, again.clocks, again.next_due_at) == (first.state, (), (), first.next_due_at)


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_nothing_is_due_before_the_instant_a_decision_asks_for(seed: int) -> None:
    _, facts, library, _ = made(seed)
    decision = decide(None, facts, facts[-1].at, library)
    if decision.next_due_at is None:
        assert decide(decision.state, (), facts[-1].at + timedelta(days=400), library).events == ()
    else:
        assert decide(decision.state, (), decision.next_due_at - timedelta(microseconds=1), library).events == ()
        assert decide(decision.state, (), decision.next_due_at, library).events != ()


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_one_policy_from_creation_to_now_is_the_same_through_compute_and_decide(seed: int) -> None:
    line, facts, _, now = made(seed)
    facts = [one for one in facts if not isinstance(one, f.Described)]
    policy = library_of(line, FAST).policy(1, "a")
    decided = decide(None, facts, now, single(policy))
    computed = compute(facts, policy, now)
    assert decided.state == computed.state
    assert [_ended(clock) for clock in decided.clocks] == [_ended(reading.clock) for reading in computed.readings]


def _ended(clock: Clock) -> tuple[object, ...]:
    return clock.metric, clock.cycle, clock.state, clock.due_at, clock.breached_at, clock.stopped_at, clock.warned_at


# ---- attribution ------------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(SEEDS, st.integers(0, len(FAST) - 1))
def test_the_parts_of_a_ticket_life_add_up_without_remainder(seed: int, number: int) -> None:
    _, facts, _, now = made(seed)
    random = Random(seed)
    people = [
        f.PersonChanged(one.at, random.choice(("anna", "ben", None))) for one in facts[1:] if random.random() < 0.5
    ]
    everything = sorted([*facts, *people], key=lambda one: one.at)
    slices = attribute(everything, now, closed_on=frozenset({"done", "closed"}), waiting_on=frozenset({"wait"}))
    for one, following in pairwise(slices):
        assert one.end == following.start
    for line in (None, FAST[number]):
        whole = now - facts[0].at if line is None else line.between(facts[0].at, now)
        for view in ("kind", "team", "person", "node"):
            parts = split(slices, view) if line is None else split(slices, view, line)
            assert sum(parts.values(), timedelta()) == whole
