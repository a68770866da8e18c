"""Moving running tickets to another playbook version: what would change, and taking it back.

`preview` decides without keeping: what it lists is what `decide` would do with the same fact at the same instant. `take_back`
undoes a move: a ticket that nothing has touched since gets its former state back byte for byte; the clocks of any other are
recomputed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.sla.domain import facts as f
from services.sla.domain.clock import Clock
from services.sla.domain.decide import Decision, decide
from services.sla.domain.terms import Library
from services.sla.domain.ticket import SlaState

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
        clock.span.version,
        clock.calendar,
        clock.stopped_at,
    )


@dataclass(frozen=True, slots=True)
class Undone:
    """`exact`: the former state was given back. Else `decision` recomputed the clocks, and `changes` lists what differs."""

    exact: bool
    state: SlaState
    changes: tuple[Change, ...]
    decision: Decision | None


def take_back(before: SlaState, after: SlaState, present: SlaState, now: datetime, library: Library) -> Undone:
    """Undo the move that made `after` of `before`, on a ticket that is at `present` now.

    Untouched since (`present` equals `after`): `before`, exactly; the caller lets `decide` fire what fell due meanwhile, late.
    Touched: recomputed in whole under the version it had, the pauses and answers since then kept.
    """
    if present == after:
        return Undone(True, before, changes(present, before), None)
    decision = decide(present, [f.RulesChanged(now, before.version, "whole")], now, library)
    return Undone(False, decision.state, changes(present, decision.state), decision)
