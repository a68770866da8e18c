"""When a step is due: its delay from its anchor, by the wall clock or in open time, moved into its allowed hours."""

from __future__ import annotations

from datetime import datetime, timedelta

from services.escalation.domain.chain.state import Cause, Frozen
from services.escalation.domain.chain.view import View
from shared.playbook.escalation import Chain, Step

_NOTHING = timedelta()


def first_round_due(chain: Chain, cause: Cause, index: int, previous_at: datetime, view: View) -> datetime:
    """The instant of step `index` in the first round; never before `previous_at`, the instant of the step ahead of it.

    For the first step `previous_at` is the start of the chain; one `after` nothing but the start counts from the stall.
    """
    step = chain.steps[index]
    anchor = max(previous_at, cause.stalled_at) if index == 0 else previous_at
    if step.relative_to == "stall":
        anchor = cause.stalled_at
    elif step.relative_to == "due":
        anchor = cause.due_at or cause.stalled_at
    return allowed(step, max(away(chain, step, anchor, offset(step), view), previous_at), view)


def later_round_due(chain: Chain, index: int, previous_at: datetime, view: View) -> datetime:
    """The instant of step `index` in a repeated round.

    Stall and due instant are long past then, so steps keep their distance from one another instead.
    """
    step = chain.steps[index]
    distance = offset(step)
    if step.relative_to != "previous":
        before = chain.steps[index - 1]
        same_anchor = before.relative_to == step.relative_to
        distance = max(_NOTHING, offset(step) - offset(before)) if same_anchor else max(_NOTHING, offset(step))
    return allowed(step, away(chain, step, previous_at, distance, view), view)


def offset(step: Step) -> timedelta:
    """The step's distance from its anchor, negative before it."""
    return -step.before if step.before is not None else timedelta(seconds=step.after.total_seconds())


def away(chain: Chain, step: Step, anchor: datetime, distance: timedelta, view: View) -> datetime:
    """`distance` from `anchor`; open time that never comes (a calendar that does not open again) is counted by the clock."""
    if step.on == "open" and distance:
        found = view.hours(chain.calendar).add(anchor, distance)
        if found is not None:
            return found
    return anchor + distance


def allowed(step: Step, at: datetime, view: View) -> datetime:
    """`at`, or the next opening of the step's allowed hours; hours that never come are ignored."""
    if step.allowed_hours is None:
        return at
    return view.hours(step.allowed_hours).next_open(at) or at


def freeze(chain: Chain, due_at: datetime, now: datetime, counts_open: bool, view: View) -> Frozen:
    """What is left until `due_at`; nothing when it has passed."""
    if due_at <= now:
        return Frozen(0.0, counts_open)
    left = view.hours(chain.calendar).between(now, due_at) if counts_open else due_at - now
    return Frozen(left.total_seconds(), counts_open)


def thaw(chain: Chain, frozen: Frozen, now: datetime, view: View) -> datetime:
    """The instant at which what was left has passed, counted from `now`."""
    left = timedelta(seconds=frozen.seconds)
    if frozen.open and left:
        return view.hours(chain.calendar).add(now, left) or now + left
    return now + left
