"""The past as samples: tickets walked fact by fact, their clocks looked at whenever the live service would have looked. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.sla.domain import facts as f
from services.sla.domain.attribution import Kind, attribute
from services.sla.domain.decide import decide
from services.sla.domain.terms import Library
from services.sla.domain.ticket import SlaState
from services.sla.forecast.features import Features, features, foreseeable, looks, share_used


@dataclass(frozen=True, slots=True)
class Sample:
    """A clock as it was seen at `at`, and what became of it. `scheduled`: seen because time had passed, not because of an event."""

    ticket: int
    metric: str
    cycle: int
    at: datetime
    due_at: datetime | None
    used: float
    scheduled: bool
    features: Features
    breached: bool


@dataclass(frozen=True, slots=True)
class Life:
    """A past ticket: its facts from its creation to its end."""

    ticket: int
    facts: Sequence[f.Fact]


class Loads:
    """How many open tickets a group had for each person who held one, at any instant of the past."""

    def __init__(self, lives: Iterable[Life], until: datetime) -> None:
        events: dict[str, list[tuple[datetime, int, str | None]]] = {}
        for life in lives:
            for one in attribute(life.facts, until):
                if one.kind is not Kind.CLOSED and one.team is not None:
                    events.setdefault(one.team, []).extend(((one.start, 1, one.person), (one.end, -1, one.person)))
        self._curves = {team: _curve(found) for team, found in events.items()}

    def at(self, team: str | None, at: datetime) -> float:
        """The load of a group just before `at`."""
        times, loads = self._curves.get(team or "", ((), ()))
        place = bisect_right(times, at)
        return loads[place - 1] if place else 0.0


def _curve(events: list[tuple[datetime, int, str | None]]) -> tuple[list[datetime], list[float]]:
    events.sort(key=lambda one: (one[0], one[1]))
    times: list[datetime] = []
    loads: list[float] = []
    held: dict[str, int] = {}
    count = 0
    for at, step, person in events:
        count += step
        if person is not None:
            held[person] = held.get(person, 0) + step
            if not held[person]:
                del held[person]
        times.append(at)
        loads.append(count / max(1, len(held)))
    return times, loads


def samples_of(life: Life, library: Library, loads: Loads) -> list[Sample]:
    """Every look at every clock of one life that has ended by its last fact."""
    seen: list[tuple[SlaState, str, int, datetime, bool]] = []
    ends: dict[tuple[str, int], bool] = {}
    state: SlaState | None = None
    for fact, following in zip(life.facts, [*life.facts[1:], None], strict=True):
        if state is not None:
            seen += _scheduled(state, library, max(fact.at, state.at))
        decision = decide(state, [fact], max(fact.at, state.at if state else fact.at), library)
        state = decision.state
        ends.update({(c.metric, c.cycle): c.breached_at is not None for c in decision.clocks if not c.open})
        if following is None or following.at > state.at:  # what happens in one instant is seen as one
            seen += [(state, c.metric, c.cycle, state.at, False) for c in state.clocks if foreseeable(c)]
    found = []
    for then, metric, cycle, at, scheduled in seen:
        outcome = ends.get((metric, cycle))
        if outcome is None:
            continue
        clock = next(one for one in then.clocks if one.metric == metric)
        load = loads.at(then.group, at)
        found.append(
            Sample(
                life.ticket, metric, cycle, at, clock.due_at, share_used(clock, library, at), scheduled,
                features(then, clock, library, at, load), outcome,
            )
        )  # fmt: skip
    return found


def _scheduled(state: SlaState, library: Library, until: datetime) -> list[tuple[SlaState, str, int, datetime, bool]]:
    return [
        (state, clock.metric, clock.cycle, at, True)
        for clock in state.clocks
        for at in looks(clock, library)
        if state.at < at < until
    ]
