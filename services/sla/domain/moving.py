"""Moving running tickets to another playbook version: what would change, and taking it back.

`preview` decides without keeping: what it lists is what `decide` would do with the same fact at the same instant. `take_back`
undoes a move: a ticket that nothing has touched since gets its former state back byte for byte; the clocks of any other are
recomputed as if the move had never been made, only that a cycle which ended since stays ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from msgspec.structs import replace

from services.sla.domain import facts as f
from services.sla.domain.clock import Clock
from services.sla.domain.decide import Decision, Reason, decide
from services.sla.domain.fold import met, ref
from services.sla.domain.terms import Library
from services.sla.domain.ticket import SlaState
from shared.contracts import events as e

Mode = Literal["from-now", "whole"]


@dataclass(frozen=True, slots=True)
class Change:
    """One clock cycle before and after; None: it did not exist, or (`after`) there is none in its place."""

    metric: str
    cycle: int
    before: Clock | None
    after: Clock | None

    @property
    def breaks(self) -> bool:
        """Would the move itself break the promise."""
        was = self.before is not None and self.before.breached_at is not None
        return self.after is not None and self.after.breached_at is not None and not was


@dataclass(frozen=True, slots=True)
class Preview:
    """What a move would change, and the decision that would do it."""

    changes: tuple[Change, ...]
    decision: Decision


def preview(state: SlaState, version: int, mode: Mode, now: datetime, library: Library) -> Preview:
    """What moving the ticket to `version` at `now` would change, compared with leaving it alone; ended cycles never do."""
    settled = decide(state, (), now, library).state
    decision = decide(settled, [f.RulesChanged(now, version, mode)], now, library)
    return Preview(changes(settled, decision.state), decision)


def changes(before: SlaState, after: SlaState) -> tuple[Change, ...]:
    """The latest cycles that people would see differently: another state, due instant, target or policy."""
    old = {(clock.metric, clock.cycle): clock for clock in before.clocks}
    new = {(clock.metric, clock.cycle): clock for clock in after.clocks}
    keys = sorted(old.keys() | new.keys())
    found = (Change(*key, old.get(key), new.get(key)) for key in keys)
    return tuple(one for one in found if _seen(one.before) != _seen(one.after))


def _seen(clock: Clock | None) -> tuple[object, ...] | None:
    if clock is None:
        return None
    return (
        clock.state,
        clock.due_at,
        clock.target,
        clock.span.policy,
        clock.calendar,
        clock.stopped_at,
    )


@dataclass(frozen=True, slots=True)
class Undone:
    """`decision`: what to keep and tell. `lifted`: when the move ended cycles, they ended at this instant and are open again."""

    decision: Decision
    changes: tuple[Change, ...]
    lifted: datetime


def take_back(
    present: SlaState, facts: Sequence[f.Fact], moved_at: datetime, at: datetime, now: datetime, library: Library
) -> Undone:
    """Undo, at `at`, a move that was made at `moved_at`: the clocks are what they would be had it never been made.

    `facts`: all of the ticket's, from its creation on, without the move. A ticket that nothing has happened to since gets its
    former state back byte for byte, as the clocks are a function of the facts. A cycle that a fact ended since then stays as it
    ended; one that only the move ended goes on. What fell due meanwhile without the move is told now, late.
    """
    would = decide(None, facts, now, library)
    told = _Telling(at, moved_at)
    before = {clock.metric: clock for clock in present.clocks}
    kept: list[Clock] = []
    for clock in would.state.clocks:
        kept.append(told.choose(before.pop(clock.metric, None), clock))
    kept += [left for one in before.values() if (left := told.leave(one)) is not None]
    state = replace(would.state, clocks=tuple(kept))
    settled = decide(state, (), now, library)
    ended = [clock for clock in would.clocks if clock.stopped_at is not None and clock.stopped_at > moved_at]
    decision = Decision(
        state=settled.state,
        clocks=(*ended, *settled.clocks),
        events=(*told.events(), *_timers(would, present, kept, moved_at), *settled.events),
        next_due_at=settled.next_due_at,
        reason=Reason.CHANGED,
    )
    return Undone(decision, changes(present, settled.state), moved_at)


class _Telling:
    """Chooses each clock of an undone move, and notes what people are told of it."""

    def __init__(self, at: datetime, moved_at: datetime) -> None:
        self.at, self.moved_at = at, moved_at
        self.started: list[Clock] = []
        self.moved: list[Clock] = []
        self.ends: list[e.Data] = []

    def choose(self, present: Clock | None, would: Clock) -> Clock:
        """The cycle that holds from now on, of the one that is and the one that would be."""
        if present is None:
            if would.open:
                self.started.append(would)
            return would
        if not present.open and not self._by_move(present):
            return present if present.cycle >= would.cycle else would
        if not would.open:
            self.ends.append(met(would))
        elif _seen(present) != _seen(would):
            self.moved.append(would)
        return would

    def leave(self, present: Clock) -> Clock | None:
        """Only the move promised this clock: ended by a fact it stays ended; running it is called off and leaves no trace."""
        if not present.open:
            return None if self._by_move(present) else present
        self.ends.append(e.SlaCancelled(metric=present.metric, cycle=present.cycle, cause="undo"))
        return None

    def _by_move(self, clock: Clock) -> bool:
        return clock.stopped_at == self.moved_at and clock.stop_cause == "policy"

    def events(self) -> Iterator[tuple[datetime, e.Data]]:
        if self.started:
            yield self.at, e.SlaStarted(clocks=tuple(ref(clock) for clock in self.started))
        if self.moved:
            yield self.at, e.SlaMoved(clocks=tuple(ref(clock) for clock in self.moved), cause="undo")
        for data in self.ends:
            yield self.at, data


def _timers(
    would: Decision, present: SlaState, kept: Sequence[Clock], moved_at: datetime
) -> Iterator[tuple[datetime, e.Data]]:
    """Warnings and breaches since the move that nobody was told of."""
    held = {(clock.metric, clock.cycle) for clock in kept if clock.open}
    told = {clock.metric: clock for clock in present.clocks}
    for at, data in would.events:
        if at <= moved_at or not isinstance(data, e.SlaWarned | e.SlaBreached) or (data.metric, data.cycle) not in held:
            continue
        known = told.get(data.metric)
        if known is not None and at in (known.breached_at, *known.warned_at):
            continue
        yield at, data
