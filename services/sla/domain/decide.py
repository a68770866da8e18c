"""What should be true of a ticket's clocks now: the pure heart of the SLA service."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from services.sla.domain import facts as f
from services.sla.domain.clock import Clock
from services.sla.domain.fold import Fold
from services.sla.domain.taking import opening, take_all
from services.sla.domain.terms import Choice, Library
from services.sla.domain.ticket import SlaState
from shared.contracts import events as e


class Reason(StrEnum):
    """Why a decision is what it is; the weightiest of all that applies.

    `BREACHED`, `WARNED`: a timer fired. `CHANGED`: clocks began, moved or ended. `NOTED`: facts came in that change no clock.
    `NOT_DUE`: nothing new, nothing due; the timer moved on since this was scheduled.
    """

    BREACHED = "breached"
    WARNED = "warned"
    CHANGED = "changed"
    NOTED = "noted"
    NOT_DUE = "not_due"


class Decision(msgspec.Struct, frozen=True):
    """The state to keep, the clock cycles to write (each once, as they are now), events with their effective instants.

    `next_due_at`: when to look again. None: nothing to wait for. `choice`: the policies looked at, when the ticket's policy was
    chosen anew.
    """

    state: SlaState
    clocks: tuple[Clock, ...]
    events: tuple[tuple[datetime, e.Data], ...]
    next_due_at: datetime | None
    reason: Reason
    choice: Choice | None = None


def decide(state: SlaState | None, facts: Sequence[f.Fact], now: datetime, library: Library) -> Decision:
    """Take the facts since `state` (None: the first is the ticket's creation) and fire what is due up to `now`.

    Taking the same facts in one call or many, in time or late, gives the same state; only the mark `late` on events differs.
    Calling again with no facts and the same `now` changes nothing.

    Raises:
        NotCreated: no state, and the first fact is not the creation (or there is none).
        UnknownVersion, UnknownPolicy: the library misses what the ticket is pinned to.
    """
    if state is None:
        state = opening(facts[0] if facts else f.Fact(now), library)
    fold = Fold(state, library, now)
    take_all(fold, facts)
    return Decision(
        state=fold.state() if facts or fold.changed else state,
        clocks=tuple(fold.changed.values()),
        events=tuple(fold.events),
        next_due_at=fold.next_due_at(),
        reason=_reason(fold, bool(facts)),
        choice=fold.choice,
    )


def _reason(fold: Fold, facts: bool) -> Reason:
    kinds = {type(data) for _, data in fold.events}
    if e.SlaBreached in kinds:
        return Reason.BREACHED
    if e.SlaWarned in kinds:
        return Reason.WARNED
    if fold.changed:
        return Reason.CHANGED
    return Reason.NOTED if facts else Reason.NOT_DUE
