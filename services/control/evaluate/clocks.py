"""`signalbox eval clocks`: scenarios of kind `sla_scenario` (tests/vectors/README.md) answered by the SLA service's own functions.

Each clock is computed on its own, over the facts that touch it (`affects`), from the ticket's creation under the policy and
calendar in force at the instant asked about: a change recomputes everything, pauses kept. Options become terms (`working_days`,
`manual_due`, `unpaused_clocks`), facts (`close_recorded`, `policy_attached`) or a matter of showing
(`ignore_statuses_by_clock`, `escalations`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec

from services.sla.domain import facts as f
from services.sla.domain.clock import Clock, State, seconds
from services.sla.domain.compute import Computed, Reading, compute
from services.sla.domain.terms import DEFAULT, Policy, Target, Terms
from services.sla.domain.track import WAIT, mode_of
from shared.calendar import ALWAYS_OPEN, BusinessCalendar, CalendarSpec

METRICS = ("first_response", "next_response", "periodic_update", "resolution")
_RECORDED = "\x00close recorded"
"""Stands for the status of a ticket whose closing was recorded without a change of status."""

Json = dict[str, Any]


def evaluate(obj: Json) -> Json:
    """The scenario with `expected` of every ask computed. Raises `KeyError` or `ValueError` for what is not a scenario."""
    names = _names(obj)
    asks = []
    for ask in obj["asks"]:
        old = ask.get("expected", {})
        wanted = [*names, *(name for name in old.get("clocks", {}) if name not in names)]
        asks.append({**ask, "expected": {**old, **_answer(obj, ask, wanted)}})
    return {**obj, "asks": asks}


def _names(obj: Json) -> list[str]:
    """The clocks of the scenario: the four metrics, and whatever else any of its policies promises."""
    names = dict.fromkeys(METRICS)
    policies = [obj["policy"], *(event.get("policy") for event in obj["timeline"])]
    for policy in policies:
        for targets in (
            (policy.get("targets"), policy.get("manual_due"), *policy.get("targets_by_priority", {}).values())
            if policy
            else ()
        ):
            names.update(dict.fromkeys(targets or {}))
    return list(names)


def _answer(obj: Json, ask: Json, names: list[str]) -> Json:
    moment = _moment(obj, ask)
    clocks = {name: _shown(moment, name) for name in names}
    due = [clock["due"] for clock in clocks.values() if clock["due"] is not None]
    return {"clocks": clocks, "next_due": min(due, default=None)}


# ---- what holds at the instant asked about ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Moment:
    """The scenario up to the instant asked about. `policy` None: none applies (yet)."""

    now: datetime
    ticket: Json
    events: list[Json]
    policy: Json | None
    calendar: Json | None
    starts_at: datetime


def _moment(obj: Json, ask: Json) -> _Moment:
    ticket, timeline = obj["ticket"], obj["timeline"]
    if "after" in ask:
        events = timeline[: ask["after"] + 1]
        now = _instant(events[-1]["at"] if events else ticket["created_at"])
    else:
        now = _instant(ask["at"])
        events = [event for event in timeline if _instant(event["at"]) <= now]
    policy = obj["policy"]
    calendar = policy["calendar"] if policy else None
    attached = not any(event["type"] == "policy_attached" for event in timeline)
    starts_at = _instant(ticket["created_at"])
    for event in events:
        if event["type"] == "policy":
            policy = event["policy"]
            calendar = policy["calendar"] if policy else None
        elif event["type"] == "calendar":
            calendar = event["calendar"]
        elif event["type"] == "priority":
            ticket = {**ticket, "priority": event["to"]}
        elif event["type"] == "policy_attached":
            attached = True
            if (policy or {}).get("starts_from") == "attached":
                starts_at = _instant(event["at"])
    return _Moment(now, ticket, events, policy if attached else None, calendar, starts_at)


def _facts(moment: _Moment, name: str, policy: Policy) -> list[f.Fact]:
    """The events that touch the clock, from the instant it counts from."""
    status = moment.ticket["status"]
    found: list[f.Fact] = []
    recorded = False
    for event in moment.events:
        if "affects" in event and name not in event["affects"]:
            continue
        at = _instant(event["at"])
        match event["type"]:
            case "status":
                reopens = event.get("clears_close") or (
                    status in policy.closed_on and event["to"] not in policy.closed_on
                )
                status = event["to"]
                if recorded and not reopens:
                    continue
                recorded = False
                found.append(f.StatusChanged(at, status))
            case "close_recorded" if name == "resolution":
                recorded = True
                found.append(f.StatusChanged(at, _RECORDED))
            case "agent_reply":
                found.append(f.Replied(at, automated=bool(event.get("automated", False))))
            case "customer_reply":
                found.append(f.CustomerReplied(at, automated=bool(event.get("automated", False))))
    return _from_start(moment, found)


def _from_start(moment: _Moment, found: list[f.Fact]) -> list[f.Fact]:
    """The facts, creation first; where the clock counts from a later instant, what came before leaves only its outcome."""
    status = moment.ticket["status"]
    waiting = answered = False
    while found and found[0].at < moment.starts_at:
        match found.pop(0):
            case f.StatusChanged(status=to):
                status = to
            case f.CustomerReplied(automated=False):
                waiting = True
            case f.Replied(automated=False):
                waiting, answered = False, True
    created = f.Created(moment.starts_at, status, _attributes(moment.ticket))
    before: list[f.Fact] = [f.Replied(moment.starts_at)] if answered else []
    if waiting:
        before.append(f.CustomerReplied(moment.starts_at))
    return [created, *before, *found]


def _attributes(ticket: Json) -> Json:
    return {"priority": ticket["priority"]} if ticket.get("priority") is not None else {}


# ---- the policy ------------------------------------------------------------------------------------------------------------


def _policy(policy: Json, calendar: Json | None) -> Policy:
    by_priority = dict(policy.get("targets_by_priority", {}))
    default = policy.get("targets", {})
    manual = {name: Target(fixed_at=_instant(at)) for name, at in policy.get("manual_due", {}).items()}
    terms = {
        priority: {
            name: _terms(policy, name, target)
            for name, target in {**_targets({**default, **targets}), **manual}.items()
        }
        for priority, targets in {**by_priority, DEFAULT: {}}.items()
    }
    return Policy(
        name="policy",
        version=1,
        calendar=_calendar(calendar),
        terms=terms,
        closed_on=frozenset([*policy.get("closed_statuses", []), _RECORDED]),
        respond_on=frozenset(policy.get("first_response_statuses", [])),
    )


def _targets(targets: Mapping[str, Any]) -> dict[str, Target]:
    return {name: _target(target) for name, target in targets.items() if target is not None}


def _target(target: Any) -> Target:
    if isinstance(target, Mapping):
        return Target(working_days=target["working_days"], end_of_day=bool(target.get("end_of_day", False)))
    return Target(duration=timedelta(seconds=target))


def _terms(policy: Json, name: str, target: Target) -> Terms:
    pauses = () if name in policy.get("unpaused_clocks", []) else policy.get("pause_statuses", [])
    return Terms(target, frozenset(pauses))


def _calendar(spec: Json | None) -> BusinessCalendar:
    return ALWAYS_OPEN if spec is None else _compiled(msgspec.json.encode(spec, order="sorted"))


@lru_cache(maxsize=256)
def _compiled(spec: bytes) -> BusinessCalendar:
    return BusinessCalendar(msgspec.json.decode(spec, type=CalendarSpec))


# ---- showing ---------------------------------------------------------------------------------------------------------------


def _shown(moment: _Moment, name: str) -> Json:
    if moment.policy is None or moment.now < moment.starts_at:
        return _off(())
    policy = _policy(moment.policy, moment.calendar)
    computed = compute(_facts(moment, name, policy), policy, moment.now)
    cycles = computed.of(name)
    if not cycles:
        return _off(())
    last = cycles[-1].clock
    if last.state is State.CANCELLED:
        return {**_off(cycles), "due_computed": _text(cycles[-1].due_computed), "counts_from": _text(last.counts_from)}
    due = _armed(moment.policy, computed, last)
    left = None if last.target is None else last.target - last.elapsed
    return {
        **_worst(cycles),
        "state": last.state.value,
        "due": _text(due),
        "due_computed": _text(cycles[-1].due_computed),
        "target_seconds": None if last.target is None else seconds(last.target),
        "elapsed_seconds": seconds(last.elapsed),
        "diff_seconds": None if left is None else seconds(left),
        "failed_by_seconds": seconds(-left) if left is not None and last.state is State.BREACHED else None,
        "paused_seconds": seconds(last.paused_time),
        "paused_since": _text(_paused_since(computed, policy, last)),
        "completed_at": _text(last.stopped_at if _completed(last) else None),
        "starts_at": _text(policy.calendar.next_open(last.counts_from)),
        "counts_from": _text(last.counts_from),
        "escalations": [_text(at) for at in _escalations(moment.policy, policy.calendar, name, due)],
    }


def _off(cycles: list[Reading] | tuple[()]) -> Json:
    """No such clock, or nothing to wait for."""
    empty = (
        "due", "due_computed", "target_seconds", "elapsed_seconds", "diff_seconds", "failed_by_seconds",
        "paused_since", "completed_at", "starts_at", "counts_from",
    )  # fmt: skip
    return {**_worst(cycles), "state": "off", **dict.fromkeys(empty), "paused_seconds": 0, "escalations": []}


def _completed(clock: Clock) -> bool:
    """Did what was promised happen; a ticket closed unanswered ends its response clocks without it."""
    return clock.stopped_at is not None and (clock.stop_cause == "answered" or clock.metric == "resolution")


def _armed(policy: Json, computed: Computed, clock: Clock) -> datetime | None:
    hidden = policy.get("ignore_statuses_by_clock", {}).get(clock.metric, [])
    if not clock.open or clock.paused or computed.state.status in hidden:
        return None
    return clock.due_at


def _paused_since(computed: Computed, policy: Policy, clock: Clock) -> datetime | None:
    """The beginning of the present pause, also where it leads through several pausing statuses."""
    if not clock.open or not clock.paused:
        return None
    since = clock.as_of
    for phase in reversed(computed.state.phases):
        if mode_of(policy, clock.metric, clock.span.priority, phase.status) != WAIT:
            break
        since = phase.at
    return max(since, clock.counts_from)


def _worst(cycles: list[Reading] | tuple[()]) -> Json:
    """The worst answered cycle, and how many promises were broken (one that goes on after a reopening counts once)."""
    done = [reading.clock for reading in cycles if _completed(reading.clock)]
    worst = max(done, key=lambda clock: clock.elapsed, default=None)
    target = None if worst is None else worst.target
    return {
        "worst_cycle_elapsed_seconds": None if worst is None else seconds(worst.elapsed),
        "worst_cycle_diff_seconds": None if worst is None or target is None else seconds(target - worst.elapsed),
        "breach_count": len({reading.clock.breached_at for reading in cycles if reading.clock.breached_at is not None}),
    }


def _escalations(policy: Json, calendar: BusinessCalendar, name: str, due: datetime | None) -> list[datetime | None]:
    """Instants before (negative offsets) or after the armed due instant, counted in open time or whole working days."""
    if due is None:
        return []
    found: list[datetime | None] = []
    for one in policy.get("escalations", []):
        if one["clock"] != name:
            continue
        if one.get("offset_working_days") is not None:
            found.append(calendar.add_days(due, one["offset_working_days"]))
        else:
            offset = timedelta(seconds=one.get("offset_seconds", 0))
            found.append(calendar.add(due, offset) if offset else due)
    return found


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"an instant without offset: {text}")
    return at.astimezone(UTC)


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
