"""What is looked at of a ticket's clock at an instant. Pure; the same function serves history and the live service."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timedelta

from services.sla.domain.arming import terms_of
from services.sla.domain.clock import Clock
from services.sla.domain.terms import Library
from services.sla.domain.ticket import SlaState

LOOKS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Shares of the target at which a clock is looked at although nothing happened."""
STEPS = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
STILL = (0.02, 0.1, 0.25, 0.5, 1.0)
LOAD = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)

Features = dict[str, float]


def foreseeable(clock: Clock) -> bool:
    """Is there anything to foresee: the clock has a target, runs or waits, and is not breached yet."""
    return clock.stopped_at is None and clock.breached_at is None and bool(clock.target)


def share_used(clock: Clock, library: Library, now: datetime) -> float:
    """How much of the target has been counted at `now`; 1 at the due instant."""
    assert clock.target is not None
    if clock.due_at is None or now <= clock.as_of:
        return clock.elapsed / clock.target
    calendar = terms_of(clock, library)[0].calendar
    return 1 - calendar.between(now, clock.due_at) / clock.target if clock.due_at > now else 1.0


def looks(clock: Clock, library: Library) -> Iterator[datetime]:
    """The instants at which a running clock is looked at although nothing happens, as its due instant stands now."""
    if clock.due_at is None or clock.target is None or not foreseeable(clock):
        return
    calendar = terms_of(clock, library)[0].calendar
    for share in LOOKS:
        at = calendar.add(clock.due_at, -clock.target * (1 - share))
        if at is not None:
            yield at


def next_look(state: SlaState, library: Library, now: datetime) -> datetime | None:
    """When the ticket is to be looked at again although nothing happens."""
    return min((at for clock in state.clocks for at in looks(clock, library) if at > now), default=None)


def features(state: SlaState, clock: Clock, library: Library, now: datetime, load: float) -> Features:
    """The named numbers of one clock. `load`: open tickets of its group for each person who has any of them.

    Names with `=` are choices (one of each is 1). `queue:` and `kind:` stand for what history says of that queue and kind.
    """
    assert clock.target is not None
    used = share_used(clock, library, now)
    step = bisect_right(STEPS, used)
    status = state.status.partition(":")[0]
    moved = max(state.phases[-1].at, state.places[-1].at if state.places else state.created_at)
    still = bisect_right(STILL, (now - moved) / max(clock.target, timedelta(seconds=1)))
    hands = min(sum(one.kind == "person" for one in state.places), 4)
    metric = clock.metric.partition(":")[0]
    return {
        f"metric={metric}": 1.0,
        f"used={step}": 1.0,
        f"status={status}": 1.0,
        f"used={step} status={status}": 1.0,
        f"status={status} still={still}": 1.0,
        f"priority={clock.span.priority or ''}": 1.0,
        f"hands={hands}": 1.0,
        f"load={bisect_right(LOAD, load)}": 1.0,
        f"weekday={now.weekday()}": 1.0,
        f"queue:{state.group or ''}": 1.0 - min(used, 1.0),
        f"kind:{state.attributes.get('kind') or ''}": 1.0 - min(used, 1.0),
    }
