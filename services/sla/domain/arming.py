"""Setting a clock's due instant and warnings: at its start, after a pause, and when its policy changed."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from services.sla.domain.clock import Clock, State, Warning, WarningState
from services.sla.domain.terms import Library, Policy, Terms, Threshold
from services.sla.domain.track import ZERO, Phase, deadline, segments, spent, waits


def read(clock: Clock, phases: tuple[Phase, ...], library: Library, until: datetime) -> Clock:
    """The clock with elapsed and paused time as of `until` (or its end, whichever is first)."""
    until = until if clock.stopped_at is None else min(until, clock.stopped_at)
    parts = segments(phases, clock.spans, clock.metric, library, clock.counts_from, until)
    elapsed, paused_time = spent(parts)
    return replace(clock, elapsed=elapsed, paused_time=paused_time, as_of=until)


def due_computed(clock: Clock, phases: tuple[Phase, ...], library: Library, until: datetime) -> datetime | None:
    """The due instant whether armed or not: as if the clock counted again from `until` (or stopped at its end)."""
    until = until if clock.stopped_at is None else min(until, clock.stopped_at)
    policy, terms = terms_of(clock, library)
    parts = segments(phases, clock.spans, clock.metric, library, clock.counts_from, until)
    return deadline(parts, terms.target, clock.counts_from, until, policy.calendar)


def terms_of(clock: Clock, library: Library) -> tuple[Policy, Terms]:
    """The policy and terms that govern the clock now."""
    span = clock.spans[-1]
    policy = library.policy(span.version, span.policy)
    terms = policy.terms_of(clock.metric, span.priority)
    if terms is None:
        raise AssertionError(f"clock {clock.metric} is governed by {span.policy}, which promises nothing for it")
    return policy, terms


def arm(clock: Clock, phases: tuple[Phase, ...], status: str, library: Library, at: datetime, cause: str) -> Clock:
    """The clock with state, due instant, warnings and readings as they are from `at` on.

    A warning whose instant has passed is skipped, except after a pause (`cause` resumed): then it is given at once. The
    generation is the caller's: it goes up when something that was armed may no longer fire.
    """
    policy, terms = terms_of(clock, library)
    start, calendar = clock.counts_from, policy.calendar
    parts = segments(phases, clock.spans, clock.metric, library, start, at)
    due = deadline(parts, terms.target, start, at, calendar)
    elapsed, paused_time = spent(parts)
    paused = waits(policy, terms, status)
    target = terms.target.length(start, calendar)
    if cause == "resumed" and due is not None and due < at:
        armed_at, cause = clock.armed_at, clock.cause  # used up by a change while it waited: that change breaks it
    else:
        armed_at = at
    warnings = clock.warnings
    if not paused and due is not None and target is not None:
        warnings = _warnings(clock, policy, terms, target, due, at, skip_passed=cause != "resumed" or due < at)
    return replace(
        clock,
        state=_state(clock, paused=paused),
        paused=paused,
        calendar=policy.calendar_name,
        target=target,
        due_at=None if paused else due,
        armed_at=armed_at,
        cause=cause,
        warnings=warnings,
        elapsed=elapsed,
        paused_time=paused_time,
        as_of=at,
    )


def _state(clock: Clock, *, paused: bool) -> State:
    if clock.breached_at is not None:
        return State.BREACHED
    return State.PAUSED if paused else State.RUNNING


def _warnings(
    clock: Clock, policy: Policy, terms: Terms, target: timedelta, due: datetime, at: datetime, *, skip_passed: bool
) -> tuple[Warning, ...]:
    """Each threshold anew for this due instant: what is still ahead is armed, what was given and has passed stays given."""
    before = {warning.threshold: warning.state for warning in clock.warnings}
    found, start = [], clock.counts_from
    for threshold in terms.warn:
        instant = _instant(threshold, policy, target, start, due)
        if instant is None:
            continue
        state = WarningState.ARMED
        if instant <= at:
            state = before.get(threshold.key, WarningState.ARMED)
            if state is WarningState.ARMED and skip_passed:
                state = WarningState.SKIPPED
            elif state is WarningState.ARMED:
                instant = at
        found.append(Warning(threshold.key, instant, state))
    return tuple(found)


def _instant(
    threshold: Threshold, policy: Policy, target: timedelta, start: datetime, due: datetime
) -> datetime | None:
    if threshold.share is None:
        ahead = threshold.before or ZERO
    elif threshold.wall:
        return start + (due - start) * threshold.share
    else:
        ahead = target * (1 - threshold.share)
    if threshold.wall or not ahead:
        return due - ahead
    return policy.calendar.add(due, -ahead)
