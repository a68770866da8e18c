"""What came of a request: somebody takes it, or it waits; and the look at the staff that the reason points to."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from services.router.domain.desk import Desk, Filter, How, Step
from services.router.domain.filters import Screened
from services.router.domain.pool import Agent
from services.router.domain.strategies import Key, names_of
from shared.contracts import reasons

Entry = tuple[tuple[float, ...], int, Agent]
Scores = tuple[tuple[str, tuple[float, ...]], ...]


@dataclass(slots=True)
class View:
    """One demand's look at one group, shared by all tickets of the batch with that demand.

    `full` and `rated` grow as agents fill up; a decision remembers how long they were, not their content.
    """

    desk: Desk
    step: Step
    screened: Screened
    key: Key
    heap: list[Entry]
    by_id: dict[str, Agent]
    full: list[str] = field(default_factory=list)
    rated: list[str] = field(default_factory=list)
    wakes: datetime | None = None
    wakes_known: bool = False
    shown: dict[str, Any] | None = None
    """What every reason of this view has in common, made once."""
    considered: str | list[str] | None = None
    """The names in it as events keep them."""


class Assigned(msgspec.Struct, frozen=True):
    """Somebody takes it. `score` is the key that won, `runner_up` who would have been next.

    `tight` have capacity, but not for this weight; `full` and `rated` count into the view's lists. `at` is the Unix time that
    the agent's last assignment has now.
    """

    ticket: int | str
    group: str
    agent: str
    weight: int
    step: Step
    how: How
    view: Any
    score: tuple[float, ...] = ()
    runner_up: str | None = None
    declined: tuple[str, ...] = ()
    full: int = 0
    rated: int = 0
    tight: tuple[str, ...] = ()
    stands_in_for: str | None = None
    notes: tuple[str, ...] = ()
    at: float = 0.0
    tried: tuple[Waiting, ...] = ()
    """Steps before this one, in which nobody could take it."""
    scores: Scores = ()
    """The standing of everybody who could take it, as it was before the choice."""

    def as_dict(self) -> dict[str, Any]:
        """The reason, as explained: who was considered, which filter dropped whom, what decided."""
        found = _considered(self)
        found["step"], found["how"] = self.step, self.how
        found["chosen"], found["score"] = self.agent, _shown(self.score)
        if self.scores:
            found["scores"] = {agent: _shown(score) for agent, score in self.scores}
        if self.score:
            found["score_of"] = names_of(self.view.desk.strategy)
        if self.runner_up is not None:
            found["runner_up"] = self.runner_up
        if self.stands_in_for is not None:
            found["stands_in_for"] = self.stands_in_for
        if self.tried:
            found["relaxed_from"] = [one.step_dict() for one in self.tried]
        if self.notes:
            found["notes"] = list(self.notes)
        return found


class Waiting(msgspec.Struct, frozen=True):
    """Nobody can take it now. `cause` is the last filter somebody reached; `retry_at` when time alone may change the
    answer.

    `all_declined`: everybody who could was asked and declined, also in the overflow group.
    """

    ticket: int | str
    group: str
    cause: Filter
    retry_at: datetime | None
    view: Any
    declined: tuple[str, ...] = ()
    full: int = 0
    rated: int = 0
    tight: tuple[str, ...] = ()
    all_declined: bool = False
    notes: tuple[str, ...] = ()
    tried: tuple[Waiting, ...] = ()
    """The other steps that were tried, where the demand gives way with waiting time."""

    def step_dict(self) -> dict[str, Any]:
        """One step: in which group, what was upheld, whom each filter dropped."""
        found = _considered(self)
        return {name: found[name] for name in ("group", "dropped")} | {"step": self.view.step, "cause": self.cause}

    def as_dict(self) -> dict[str, Any]:
        """The reason, as explained."""
        found = _considered(self)
        found |= {"cause": self.cause, "retry_at": None if self.retry_at is None else self.retry_at.isoformat()}
        if self.tried:
            found |= {"step": self.view.step, "also_tried": [one.step_dict() for one in self.tried]}
        if self.notes:
            found["notes"] = list(self.notes)
        return found


Outcome = Assigned | Waiting


def stored(outcome: Outcome) -> dict[str, Any]:
    """The reason as its event keeps it; `shared.contracts.reasons` reads it."""
    found, view = outcome.as_dict(), outcome.view
    if view.considered is None:
        view.considered = reasons.kept(found["considered"])
    found["considered"] = view.considered
    return found


@lru_cache(4096)
def _shown(score: tuple[float, ...]) -> tuple[float, ...]:
    """For people to read. From one ticket to the next most of a group stand as they stood."""
    return tuple([part if part.__class__ is int else round(part, 3) for part in score])


def _considered(outcome: Outcome) -> dict[str, Any]:
    view = outcome.view
    if view.shown is None:
        view.shown = _common(view)
    found: dict[str, Any] = view.shown.copy()
    if outcome.declined or outcome.full or outcome.tight or outcome.rated:
        full = [*view.full[: outcome.full], *outcome.tight]
        changing = (
            (Filter.DECLINED, outcome.declined),
            (Filter.CAPACITY, full),
            (Filter.RATE, view.rated[: outcome.rated]),
        )
        found["dropped"] = found["dropped"] | {str(name): list(ids) for name, ids in changing if ids}
    return found


def _common(view: View) -> dict[str, Any]:
    found: dict[str, Any] = {
        "group": view.desk.name,
        "strategy": view.desk.strategy,
        "considered": [agent.id for agent in view.screened.eligible],
        "dropped": {str(one): list(ids) for one, ids in view.screened.dropped.items()},
    }
    if view.screened.standing_in:
        found["standing_in"] = dict(view.screened.standing_in)
    if view.screened.loops:
        found["delegate_loops"] = [list(loop) for loop in view.screened.loops]
    return found
