"""Generated timelines through the clocks and through an independent, slower checker: no difference allowed.

    python -m tests.nightly.sla_timelines [COUNT] [SEED]        # 1,000,000 by default, on all cores

Each timeline is a ticket's life around a clock change of some zone, 2000 to 2037, under up to three policies on different
calendars, and is handled as the service would: facts in batches of any size, timers in between early, late or never, the state
through its JSON.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from services.sla.domain import facts as f
from services.sla.domain.arming import due_computed, read
from services.sla.domain.clock import Clock
from services.sla.domain.decide import Decision, decide
from services.sla.domain.kept import from_json, to_json
from services.sla.domain.terms import DEFAULT, Library, Policy, Rules, Target, Terms, Threshold
from services.sla.domain.ticket import SlaState
from shared.calendar import ALWAYS_OPEN, BusinessCalendar
from shared.calendar.spec import parse_spec
from shared.contracts import events as e
from tests.unit.sla.slow_clock import Life, SlowCalendar, Walk, walk
from tests.unit.sla.timelines import (
    CLOSED,
    METRICS,
    Event,
    Promise,
    Teller,
    Timeline,
    calendar,
    continued,
    near_a_change,
    timeline,
    with_exceptions,
)

POOL = 24
CHUNK = 1_000
WARN = (
    Threshold("30m", timedelta(minutes=30)),
    Threshold("50%", share=0.5),
    Threshold("1h wall", timedelta(hours=1), wall=True),
)
Differences = list[tuple[Any, ...]]


def check(count: int, seed: int = 1) -> Differences:
    """Run `count` timelines; return every difference found as (seed of the chunk, number, what, …), at most those of one chunk."""
    for number in range(0, count, CHUNK):
        if found := _chunk(min(CHUNK, count - number), seed * 1_000_003 + number):
            return found
    return []


def _chunk(count: int, seed: int) -> Differences:
    random = Random(seed)
    specs, anchors = [], []
    for _ in range(POOL):
        spec = calendar(random)
        anchors.append(near_a_change(random, spec["tz"]))
        specs.append(with_exceptions(random, spec, anchors[-1]))
    slow = [SlowCalendar(spec) for spec in specs]
    fast = [BusinessCalendar(parse_spec({**spec, "recurring_holidays": [], "breaks": []})) for spec in specs]
    found: Differences = []
    for number in range(count):
        found += [(seed, number, *one) for one in compare(timeline(random, slow, anchors), slow, fast, random)]
    return found


def compare(line: Timeline, slow: list[SlowCalendar], fast: list[BusinessCalendar], random: Random) -> Differences:
    """The differences between the clocks and the checker on one timeline."""
    library = library_of(line, fast)
    clocks, state, found = run(line, library, random)
    told = Teller(slow, line.policies).tell(line)
    now = instant(line.now)
    for metric in METRICS:
        ours = [clock for (name, _), clock in sorted(clocks.items()) if name == metric]
        if len(ours) != len(told.lives[metric]):
            found.append((metric, "cycles", len(ours), len(told.lives[metric])))
            continue
        for clock, (last, life) in zip(ours, continued(told.lives[metric]), strict=True):
            life.breached_at = None if last is None else last.breached_at
            walked = walk(life, told.statuses, CLOSED, line.now)
            life.breached_at = walked.breached_at
            expected = shown(life, walked)
            if (answer := reading(clock, state, library, now)) != expected:
                found.append((metric, clock.cycle, answer, expected))
    return found


def shown(life: Life, walked: Walk) -> dict[str, Any]:
    """What the checker says of a cycle."""
    if life.end is None:
        name = "paused" if walked.waits else "running"
    else:
        name = "met" if life.kept else "cancelled"
    return {
        "state": "breached" if walked.breached_at is not None else name,
        "started": life.start,
        "stopped": life.end,
        "breached": walked.breached_at,
        "elapsed": walked.elapsed,
        "paused": walked.paused,
        "due": walked.due,
    }


def reading(clock: Clock, state: SlaState, library: Library, now: datetime) -> dict[str, Any]:
    """The same of ours."""
    due = due_computed(clock, state.phases, library, now)
    if clock.open and not clock.paused and clock.due_at != due:
        return {"armed": clock.due_at, "computed": due}
    clock = read(clock, state.phases, library, now)
    return {
        "state": clock.state.value,
        "started": second(clock.started_at),
        "stopped": second(clock.stopped_at),
        "breached": second(clock.breached_at),
        "elapsed": clock.elapsed.total_seconds(),
        "paused": clock.paused_time.total_seconds(),
        "due": second(due),
    }


# ---- through the service's decisions ---------------------------------------------------------------------------------------


def run(line: Timeline, library: Library, random: Random) -> tuple[dict[tuple[str, int], Clock], SlaState, Differences]:
    """Handle the facts in batches, with looks in between; the clocks by (metric, cycle), the last state, and broken invariants."""
    facts = [fact(event) for event in line.events]
    clocks: dict[tuple[str, int], Clock] = {}
    found: Differences = []
    told: list[e.Data] = []
    state: SlaState | None = None
    while facts or state is None:
        size = random.randint(1, len(facts))
        batch, facts = facts[:size], facts[size:]
        decision = decide(state, batch, batch[-1].at, library)
        found += note(decision, clocks, told)
        state = decision.state if random.random() < 0.7 else from_json(to_json(decision.state))
        until = facts[0].at if facts else instant(line.now)
        if decision.next_due_at is not None and decision.next_due_at < until and random.random() < 0.5:
            decision = decide(state, (), decision.next_due_at, library)
            found += note(decision, clocks, told)
            if not decision.events:
                found.append(("timer", "nothing happened", decision.next_due_at))
            state = decision.state
    decision = decide(state, (), instant(line.now), library)
    found += note(decision, clocks, told)
    return clocks, decision.state, found + once(told)


def note(decision: Decision, clocks: dict[tuple[str, int], Clock], told: list[e.Data]) -> Differences:
    """Take in a decision's clocks and events; ended cycles never change."""
    found: Differences = []
    for clock in decision.clocks:
        before = clocks.get((clock.metric, clock.cycle))
        if before is not None and not before.open and before != clock:
            found.append((clock.metric, clock.cycle, "an ended cycle changed"))
        clocks[clock.metric, clock.cycle] = clock
    told += [data for _, data in decision.events]
    return found


def once(told: Sequence[e.Data]) -> Differences:
    """Warnings and breaches that were told twice."""
    keys = Counter[tuple[object, ...]]()
    keys.update((x.metric, x.cycle, x.threshold, x.generation) for x in told if isinstance(x, e.SlaWarned))
    keys.update((x.metric, x.cycle) for x in told if isinstance(x, e.SlaBreached))
    return [("twice", key) for key, count in keys.items() if count > 1]


def fact(event: Event) -> f.Fact:
    at, value = instant(event.at), event.value
    match event.kind:
        case "created":
            return f.Created(at, value[0], {"p": value[1]}, by_customer=value[2])
        case "status":
            return f.StatusChanged(at, value)
        case "reply":
            return f.Replied(at, automated=value)
        case "customer":
            return f.CustomerReplied(at, automated=value)
        case "accept":
            return f.Accepted(at, "anna")
        case "policy":
            return f.Described(at, {"p": value})
        case "group":
            return f.GroupChanged(at, value)
        case "node":
            return f.NodeEntered(at, "n", 1)
        case _:
            return f.NodeCompleted(at, "n", 1)


def library_of(line: Timeline, fast: list[BusinessCalendar]) -> Library:
    """The timeline's policies, each chosen by its value of `p`."""
    chosen = [
        (lambda attributes, name=name: attributes.get("p") == name, policy(name, promise, fast))
        for name, promise in line.policies.items()
    ]
    return Library(1, {1: Rules(1, chosen)})


def policy(name: str, promise: Promise, fast: list[BusinessCalendar]) -> Policy:
    terms = {
        metric: Terms(
            Target(working_days=target[0], end_of_day=target[1])
            if isinstance(target, tuple)
            else Target(timedelta(seconds=target)),
            frozenset(promise.pauses[metric]),
            WARN,
        )
        for metric, target in promise.targets.items()
    }
    return Policy(
        name, 1, ALWAYS_OPEN if promise.calendar is None else fast[promise.calendar], {DEFAULT: terms},
        closed_on=frozenset(CLOSED), accept_responds=promise.accept_responds,
    )  # fmt: skip


def instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def second(at: datetime | None) -> int | None:
    if at is None:
        return None
    assert at.microsecond == 0
    return int(at.timestamp())


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    done, size = 0, 10_000
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        starts = range(0, count, size)
        for found in pool.map(check, [min(size, count - s) for s in starts], [seed * 100_003 + s for s in starts]):
            if found:
                print(*found[:20], sep="\n")
                return 1
            done += size
            print(f"{min(done, count):,} of {count:,} timelines, 0 differences", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
