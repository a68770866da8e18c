"""What an acknowledgement is worth: whether it stops the chain, or one of several that all have to come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.escalation.domain.chain.state import ChainState
from services.escalation.domain.chain.targets import Told
from services.escalation.domain.chain.view import View


@dataclass(frozen=True, slots=True)
class Answer:
    """Who has acknowledged the present step so far, and whether that is enough."""

    by: tuple[str, ...]
    complete: bool


def answer(state: ChainState, by: str, at: datetime, view: View) -> Answer | None:
    """What the acknowledgement by `by` makes of the present step; None when it changes nothing.

    Where one is enough, anybody's counts (whoever may act on the ticket is the door's business). Where everyone has to, only
    those told count, whoever they stand in for, and whoever stands in for them at `at`.
    """
    so_far = (*state.acknowledged_by, by) if by not in state.acknowledged_by else state.acknowledged_by
    if not needs_everyone(state) or not state.told:
        return Answer(so_far, complete=True)
    if by in state.acknowledged_by or not any(counts_for(by, told, at, view) for told in state.told):
        return None
    complete = all(any(counts_for(person, told, at, view) for person in so_far) for told in state.told)
    return Answer(so_far, complete)


def needs_everyone(state: ChainState) -> bool:
    """As the step taken last says, else as the chain says."""
    last = state.step - 1
    own = state.chain.steps[last].needs_everyone if 0 <= last < len(state.chain.steps) else None
    return state.chain.acknowledge.needs_everyone if own is None else own


def counts_for(by: str, told: Told, at: datetime, view: View) -> bool:
    """Whether an acknowledgement by `by` is one by the person told: themselves, whom they stand in for, who stands in for them."""
    return (
        by in (told.person, told.meant)
        or view.delegate_of(told.person, at) == by
        or view.delegate_of(told.meant, at) == by
    )
