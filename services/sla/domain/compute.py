"""A ticket's clocks from creation under one policy: what `eval clocks` prints and recomputation in whole means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.sla.domain import facts as f
from services.sla.domain.arming import due_computed, read
from services.sla.domain.clock import Clock
from services.sla.domain.fold import Fold
from services.sla.domain.taking import opening, take_all
from services.sla.domain.terms import Policy, single
from services.sla.domain.ticket import SlaState


@dataclass(frozen=True, slots=True)
class Reading:
    """A clock cycle read at an instant (or at its end): `clock` with elapsed and paused time as of then.

    `due_computed`: the due instant whether armed or not; None when it is never reached.
    """

    clock: Clock
    due_computed: datetime | None


@dataclass(frozen=True, slots=True)
class Computed:
    """Every cycle, ended or not, in the order they began, and the ticket they belong to."""

    readings: tuple[Reading, ...]
    state: SlaState

    def of(self, metric: str) -> list[Reading]:
        """The cycles of one metric."""
        return [reading for reading in self.readings if reading.clock.metric == metric]


def compute(facts: Sequence[f.Fact], policy: Policy, now: datetime) -> Computed:
    """All clocks of a ticket as of `now`, as if `policy` had governed it from its creation; the first fact is its creation.

    Uses the same fold as `decide`. Facts later than `now` are the caller's to leave out. Raises `NotCreated`.
    """
    library = single(policy)
    fold = Fold(opening(facts[0] if facts else f.Fact(now), library), library, now)
    take_all(fold, facts)
    readings = tuple(
        Reading(read(clock, fold.phases, library, now), due_computed(clock, fold.phases, library, now))
        for clock in fold.changed.values()
    )
    return Computed(readings, fold.state())
