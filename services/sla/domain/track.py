"""All the arithmetic: which stretches of a ticket's life count, under which calendar, and what follows from that.

A ticket has *phases* (from when on it was in which status); a clock has *spans* (from when on which policy governed it).
Together they cut the time from the clock's start into segments that count (`RUN`), wait (`WAIT`) or are left out (`SHUT`).
Rules: tests/vectors/README.md, "sla_scenario": time counts only while the calendar is open and the status is neither pausing
nor closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from services.sla.domain.terms import Library, Policy, Target, Terms
from shared.calendar import BusinessCalendar

RUN, WAIT, SHUT = "run", "wait", "shut"
ZERO = timedelta(0)


class Phase(msgspec.Struct, frozen=True, array_like=True):
    """From `at` on the ticket was in `status`."""

    at: datetime
    status: str


class Span(msgspec.Struct, frozen=True, array_like=True):
    """From `at` on a clock was governed by this policy of this playbook version, at this priority."""

    at: datetime
    version: int
    policy: str
    priority: str | None = None


class Segment(msgspec.Struct, frozen=True):
    """A stretch `[start, end)` of one mode under one calendar, with its open time."""

    start: datetime
    end: datetime
    mode: str
    calendar: BusinessCalendar
    open: timedelta


def mode_of(policy: Policy, metric: str, priority: str | None, status: str) -> str:
    """Does a clock count, wait or stand still in this status. Closed wins where a status is both closed and pausing."""
    if status in policy.closed_on:
        return SHUT
    terms = policy.terms_of(metric, priority)
    return WAIT if terms is not None and terms.pause_on and terms.pauses(status) else RUN


def waits(policy: Policy, terms: Terms, status: str) -> bool:
    """Is it `WAIT`, for terms that are there."""
    return bool(terms.pause_on) and terms.pauses(status) and status not in policy.closed_on


def segments(
    phases: Sequence[Phase], spans: Sequence[Span], metric: str, library: Library, start: datetime, until: datetime
) -> list[Segment]:
    """The segments of `[start, until)`, neighbours of one mode and calendar joined; empty when `until` is not later than `start`.

    The first phase and the first span also hold before their own instants.
    """
    if until <= start:
        return []
    if len(phases) == 1 and len(spans) == 1:
        rule = spans[0]
        policy = library.policy(rule.version, rule.policy)
        mode, calendar = mode_of(policy, metric, rule.priority, phases[0].status), policy.calendar
        return [Segment(start, until, mode, calendar, calendar.between(start, until))]  # what a new ticket's clocks ask
    cuts = sorted(set(_inside(phases, spans, start, until)))
    found: list[tuple[datetime, datetime, str, BusinessCalendar]] = []
    phase = span = 0
    begin = start
    for end in [*cuts, until]:
        while phase + 1 < len(phases) and phases[phase + 1].at <= begin:
            phase += 1
        while span + 1 < len(spans) and spans[span + 1].at <= begin:
            span += 1
        rule = spans[span]
        policy = library.policy(rule.version, rule.policy)
        mode = mode_of(policy, metric, rule.priority, phases[phase].status)
        if found and found[-1][2] is mode and found[-1][3] is policy.calendar:
            found[-1] = (found[-1][0], end, mode, policy.calendar)
        else:
            found.append((begin, end, mode, policy.calendar))
        begin = end
    return [Segment(*one, one[3].between(one[0], one[1])) for one in found]


def _inside(phases: Sequence[Phase], spans: Sequence[Span], start: datetime, until: datetime) -> list[datetime]:
    """Where the mode may change; the first of each kind changes nothing."""
    return [mark.at for marks in (phases, spans) for mark in marks[1:] if start < mark.at < until]


def spent(parts: Sequence[Segment]) -> tuple[timedelta, timedelta]:
    """Open time of the segments that count, and of those that wait."""
    counted = waited = ZERO
    for part in parts:
        if part.mode is RUN:
            counted += part.open
        elif part.mode is WAIT:
            waited += part.open
    return counted, waited


def deadline(
    parts: Sequence[Segment], target: Target, start: datetime, until: datetime, calendar: BusinessCalendar
) -> datetime | None:
    """The instant at which the target is used up, supposing the clock counts from `until` on under `calendar`.

    It lies in the past (or at `until`) when the segments already used it up; None when it is never reached. A pause that begins
    when the target is used up moves nothing.
    """
    if target.duration is not None:
        return _deadline_of_duration(parts, target.duration, start, until, calendar)
    due = target.base(start, calendar)
    for index, part in enumerate(parts):
        if due is None or (part.mode is RUN and part.end >= due):
            break
        if part.mode is RUN:
            continue
        if part.open:
            due = calendar.add(due, part.open)
        waited = index + 1 == len(parts) or parts[index + 1].mode is RUN
        if waited and due is not None and due < part.end:
            # No open time was left, only closed hours. A clock cannot become late while it waits: it is due when work begins again.
            due = calendar.next_open(part.end)
    return due


def _deadline_of_duration(
    parts: Sequence[Segment], target: timedelta, start: datetime, until: datetime, calendar: BusinessCalendar
) -> datetime | None:
    left = target
    if not parts:
        return calendar.add(max(start, until), left)
    last = parts[-1]
    for part in parts[:-1]:
        if part.mode is not RUN:
            continue
        if part.open >= left:
            return part.calendar.add(part.start, left)
        left -= part.open
    if last.mode is not RUN:
        return calendar.add(until, left)
    if last.calendar is calendar:
        return calendar.add(last.start, left)  # one step instead of two, the commonest case
    return last.calendar.add(last.start, left) if last.open >= left else calendar.add(until, left - last.open)
