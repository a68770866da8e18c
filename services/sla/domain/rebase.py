"""Priority, policy or playbook version changed under running clocks.

| mode | the clock |
|---|---|
| `carry` | keeps what counted; the new target applies from the clock's start, new rules from now on |
| `whole` | is recomputed from its start under the new rules alone, the ticket's pauses kept |
| `restart` | counts from now; going back to a target that was in force before takes up that target's own start again |
| `keep` | stays under the policy it has; only cycles that begin later follow the new one |

A new target that is already used up makes exactly one breach, at the instant of the change. What was breached stays breached.
So a hundred changes to and fro gain nothing.
"""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from services.sla.domain.arming import arm, terms_of
from services.sla.domain.clock import Clock
from services.sla.domain.fold import Fold
from services.sla.domain.track import Span


def choose_policy(fold: Fold, at: datetime, cause: str, mode: str | None = None) -> None:
    """Choose the ticket's policy anew and bring its open clocks under it. `mode` None: as the new policy's `on_change` says."""
    choice = fold.library.rules(fold.version).choose(fold.attributes)
    priority = fold.attributes.get("priority")
    before = fold.policy
    if choice.policy is before and priority == fold.priority and mode is None:
        return
    fold.choice = choice
    changed_policy = before is None or choice.policy is None or before.name != choice.policy.name
    fold.policy, fold.priority = choice.policy, priority
    cause = cause if not changed_policy or cause == "playbook" else "policy"
    for clock in fold.open_clocks():
        _bring(fold, clock, at, cause, mode)


def _bring(fold: Fold, clock: Clock, at: datetime, cause: str, mode: str | None) -> None:
    policy = fold.policy
    mode = mode or ("carry" if policy is None else policy.on_change)
    if mode == "keep":
        return
    if policy is None or policy.terms_of(clock.metric, fold.priority) is None:
        fold.cancel(clock, at, "policy")
        return
    span = Span(at, policy.version, policy.name, fold.priority)
    if mode != "whole" and span_key(clock.span) == span_key(span):
        return
    rebased = replace(rebase(clock, span, mode, fold), generation=clock.generation + 1)
    moved = arm(rebased, fold.phases, fold.status, fold.library, at, cause)
    if moved.due_at == clock.due_at and moved.paused == clock.paused and moved.target == clock.target:
        kept = replace(moved, armed_at=clock.armed_at, cause=clock.cause, generation=clock.generation)
        fold.put(kept)
    else:
        fold.moved(moved, cause)


def span_key(span: Span) -> tuple[int, str, str | None]:
    """What governs in a span, whenever it began."""
    return span.version, span.policy, span.priority


def rebase(clock: Clock, span: Span, mode: str, fold: Fold) -> Clock:
    """The clock governed by `span` from its instant on, in one of the modes but `keep`."""
    if mode == "whole":
        return replace(clock, spans=(replace(span, at=clock.counts_from),))
    if mode == "restart":
        return _restarted(clock, span)
    return replace(clock, spans=_appended(clock, span, fold))


def _restarted(clock: Clock, span: Span) -> Clock:
    anchors = dict(clock.anchors) or {_anchor(clock.span): clock.counts_from}
    start = anchors.setdefault(_anchor(span), span.at)
    return replace(clock, counts_from=start, spans=(replace(span, at=start),), anchors=anchors)


def _anchor(span: Span) -> str:
    return f"{span.policy}/{span.priority or ''}"


def _appended(clock: Clock, span: Span, fold: Fold) -> tuple[Span, ...]:
    """A change that counts, pauses and closes as before replaces the last span, so that flips do not grow the clock."""
    last = clock.span
    policy, terms = terms_of(clock, fold.library)
    new = fold.library.policy(span.version, span.policy)
    new_terms = new.terms_of(clock.metric, span.priority)
    assert new_terms is not None
    same = (
        new.calendar is policy.calendar and new.closed_on == policy.closed_on and new_terms.pause_on == terms.pause_on
    )
    if same or last.at >= span.at:
        return (*clock.spans[:-1], replace(span, at=last.at))
    return (*clock.spans, span)
