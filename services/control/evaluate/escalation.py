"""`signalbox eval escalation`: who is told when, by the real chain engine, for a policy and a timeline of events.

Pure; input and answers as in tests/vectors/README.md, kind `escalation`. A policy is translated into a chain (a step's delay
becomes the next step's `after`, the last one's the time between rounds), and every event into a command of the engine. What a
person's own rules then send, which in the product is the notifier's, is worked out here. An event at the very instant at which
something is due comes first: an acknowledgement in the last moment is in time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any

from services.escalation.domain.chain.engine import decide, start
from services.escalation.domain.chain.state import (
    Acknowledge,
    Acknowledged,
    Cause,
    ChainState,
    Command,
    End,
    Ended,
    EscalateNow,
    Facts,
    Status,
    Stepped,
)
from shared.calendar.business import ALWAYS_OPEN, BusinessCalendar
from shared.playbook.escalation import MINIMUM_REPEAT, Chain, Repeat, Step, Target
from shared.playbook.types import Duration

_DAY = timedelta(days=1)
_NOBODY = Target(group="nobody")


def evaluate(obj: dict[str, Any]) -> dict[str, Any]:
    """The same object with its `expected…` members computed; an unknown check is a `ValueError`."""
    check = obj.get("check", "notifications" if "policy" in obj else None)
    answer = _CHECKS.get(check or "")
    if answer is None:
        raise ValueError(f"check: unknown {check!r}, expected one of {', '.join(_CHECKS)}")
    return {**obj, **answer(obj)}


# ---- a policy on a timeline -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Notification:
    at: datetime
    user: str
    channel: str | None


@dataclass(slots=True)
class _People:
    """The engine's view of people: everybody named is active and here; schedules are as the events say."""

    schedules: dict[str, tuple[str, ...]]

    def is_active(self, person: str) -> bool:
        return True

    def manager_of(self, person: str) -> str | None:
        return None

    def members_of(self, group: str) -> Sequence[str]:
        return ()

    def holders_of(self, role: str) -> Sequence[str]:
        return ()

    def delegate_of(self, person: str, at: datetime) -> str | None:
        return person

    def on_call(self, schedule: str, at: datetime) -> Sequence[str]:
        return self.schedules.get(schedule, ())

    def hours(self, calendar: str | None) -> BusinessCalendar:
        return ALWAYS_OPEN


@dataclass(slots=True)
class _Alert:
    """One alert: its chain (none while the policy has no steps), what its people's rules still hold, what was sent."""

    name: str | None
    chain: ChainState | None = None
    wake_at: datetime | None = None
    waiting: list[_Notification] = field(default_factory=list)
    sent: list[_Notification] = field(default_factory=list)


class _Timeline:
    """The alerts of one object, driven event by event; time moves only through `advance`."""

    def __init__(self, policy: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> None:
        self._schedules = {name for event in events for name in event.get("on_call") or {}}
        self._people = _People(dict.fromkeys(self._schedules, ()))
        self._alerts: list[_Alert] = []
        self._held = False
        self._rules: Mapping[str, Sequence[Mapping[str, Any]]] = {}
        self._adopt(policy)

    def _adopt(self, policy: Mapping[str, Any]) -> None:
        self._chain = chain_of(policy, self._schedules)
        self._rules = policy.get(
            "user_rules", self._rules
        )  # people keep their rules under a policy that says nothing of them

    def advance(self, until: datetime, *, inclusive: bool) -> None:
        """Let everything happen that is due before `until` (or at it, when inclusive)."""
        for alert in self._alerts:
            while alert.wake_at is not None and (alert.wake_at < until or (inclusive and alert.wake_at == until)):
                self._send(alert, alert.wake_at, inclusive=True)
                self._decide(alert, (), alert.wake_at)
            self._send(alert, until, inclusive=inclusive)

    def _send(self, alert: _Alert, until: datetime, *, inclusive: bool) -> None:
        if self._held:
            return
        waiting: list[_Notification] = []
        for one in alert.waiting:
            due = one.at < until or (inclusive and one.at == until)
            (alert.sent if due else waiting).append(one)
        alert.waiting = waiting

    def _decide(self, alert: _Alert, commands: Sequence[Command], now: datetime) -> None:
        if alert.chain is None:
            return
        decision = decide(alert.chain, commands, Facts(held=self._held), self._people, now)
        alert.chain, alert.wake_at = decision.state, decision.due_at
        for effect in decision.effects:
            match effect:
                case Acknowledged(complete=False, by=by):
                    alert.waiting = [one for one in alert.waiting if one.user != by]
                case Acknowledged() | Ended():
                    alert.waiting = []
                case Stepped():
                    self._tell(alert, effect)

    def _tell(self, alert: _Alert, step: Stepped) -> None:
        """Start the rules of everybody told; a person's earlier rules for this alert give way to the new ones."""
        alert.waiting = [one for one in alert.waiting if one.user not in step.targets]
        for user in step.targets:
            for rule in self._rules.get(user) or ({"delay_seconds": 0},):
                told = _Notification(step.at + timedelta(seconds=rule["delay_seconds"]), user, rule.get("channel"))
                (alert.sent if told.at <= step.at else alert.waiting).append(told)

    # ---- events

    def happen(self, event: Mapping[str, Any], at: datetime) -> None:
        for name, people in (event.get("on_call") or {}).items():
            self._people.schedules[name] = tuple(people)
        kind = event["type"]
        if kind == "created":
            self._create(event, at)
        elif kind in ("maintenance_start", "maintenance_end"):
            self._maintain(kind == "maintenance_start", at)
        else:
            if kind == "policy":
                self._adopt(event["policy"])
            for alert in self._alerts:
                if event.get("alert") in (None, alert.name):
                    self._change(alert, kind, str(event.get("user") or ""), at)

    def _create(self, event: Mapping[str, Any], at: datetime) -> None:
        name = event.get("alert")
        if any(alert.name == name and alert.chain is not None and _is_open(alert) for alert in self._alerts):
            return  # the same alert again while it is open is the same alert
        alert = _Alert(name)
        self._alerts.append(alert)
        self._begin(alert, at, acknowledged=bool(event.get("acknowledged")), by=str(event.get("user") or ""))

    def _begin(self, alert: _Alert, at: datetime, *, acknowledged: bool = False, by: str = "") -> None:
        alert.waiting, alert.chain, alert.wake_at = [], None, None
        if self._chain is not None:
            alert.chain = start(1, self._chain, Cause(kind="alert", stalled_at=at), self._people, at)
            self._decide(alert, (Acknowledge(by, at),) if acknowledged else (), at)

    def _maintain(self, held: bool, at: datetime) -> None:
        self._held = held
        if held:
            return
        for alert in self._alerts:
            late = [_Notification(at, one.user, one.channel) for one in alert.waiting if one.at < at]
            alert.waiting = [one for one in alert.waiting if one.at >= at]
            alert.sent.extend(dict.fromkeys(late))  # what was held back is sent once, however often it came due
            self._decide(alert, (), at)

    def _change(self, alert: _Alert, kind: str, user: str, at: datetime) -> None:
        if kind == "policy" and (alert.chain is None or _is_open(alert)):
            self._begin(alert, at, acknowledged=alert.chain is not None and alert.chain.status is Status.ACKNOWLEDGED)
        elif kind == "ack":
            self._decide(alert, (Acknowledge(user, at),), at)
        elif kind == "escalate":
            self._decide(alert, (EscalateNow(user, at),), at)
        elif kind in ("resolve", "close"):
            self._decide(alert, (End("resolved", at),), at)

    def told(self) -> list[dict[str, Any]]:
        found = []
        for alert in self._alerts:
            for one in alert.sent:
                entry = {"at": one.at.isoformat(), "user": one.user, "channel": one.channel, "alert": alert.name}
                found.append((one.at, {key: value for key, value in entry.items() if value is not None}))
        return [entry for _, entry in sorted(found, key=lambda pair: pair[0])]


def _is_open(alert: _Alert) -> bool:
    return alert.chain is not None and alert.chain.status is not Status.ENDED


def chain_of(policy: Mapping[str, Any], schedules: set[str]) -> Chain | None:
    """A policy of the neutral form as a chain; None when it has no steps. A chain never goes round faster than every minute."""
    steps = policy.get("steps") or ()
    if not steps:
        return None
    delays = [Duration(seconds=step.get("delay_seconds") or 0) for step in steps]
    rounds = policy.get("repeat") or 0
    every = Duration(seconds=max(delays[-1], MINIMUM_REPEAT).total_seconds())
    return Chain(
        name="policy",
        steps=tuple(
            Step(
                targets=tuple(_target(name, schedules) for name in step.get("targets") or ()) or (_NOBODY,),
                after=delays[index - 1] if index else Duration(0),
                needs_everyone=bool(step.get("multi_ack")),
            )
            for index, step in enumerate(steps)
        ),
        repeat=Repeat(every=every, max=rounds if rounds > 0 else None) if rounds else None,
        exhausted_after=every,
    )


def _target(name: str | Mapping[str, str], schedules: set[str]) -> Target:
    if not isinstance(name, str):
        return Target(schedule=name["schedule"]) if "schedule" in name else Target(person=name["user"])
    return Target(schedule=name) if name in schedules else Target(person=name)


def _notifications(obj: dict[str, Any]) -> dict[str, Any]:
    events = obj.get("events") or []
    timeline = _Timeline(obj["policy"], events)
    for at, event in sorted(((_at(event["at"]), event) for event in events), key=lambda pair: pair[0]):
        timeline.advance(at, inclusive=False)
        timeline.happen(event, at)
    if obj.get("until") is not None:
        timeline.advance(_at(obj["until"]), inclusive=True)
    return {"expected_notifications": timeline.told()}


def _at(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)


# ---- one step, and the order of steps ---------------------------------------------------------------------------------------


def _step(obj: dict[str, Any]) -> dict[str, Any]:
    """One step of a chain. A step that only tells people has no delay of its own: the next one follows at once, or not at all."""
    step = obj["step"]
    kind = step["type"]
    inactive = set(step.get("inactive") or ())
    users = [user for user in step.get("on_call" if "on_call" in step else "users") or () if user not in inactive]
    expected: dict[str, Any] = {
        "next_step_in_seconds": 0,
        "stop": False,
        "paused": False,
        "restart": False,
        "notified": [],
    }
    if kind == "wait":
        expected["next_step_in_seconds"] = step["seconds"]
    elif kind == "resolve":
        expected.update(next_step_in_seconds=None, stop=True)
    elif kind.startswith("repeat"):
        expected["restart"] = True
    elif "time" in kind:
        expected["next_step_in_seconds"] = _until_window(step, _at(obj["at"]))
    else:
        expected["notified"] = list(dict.fromkeys(users))
        if not users:
            expected["logged"] = "failed"
    return {"expected": expected}


def _until_window(step: Mapping[str, Any], at: datetime) -> int:
    """Seconds until the step's daily window (wall times of UTC) is open; 0 inside it."""
    opens, closes = (
        time.fromisoformat(next(step[name] for name in names if name in step))
        for names in (("from", "from_time", "start"), ("to", "to_time", "end"))
    )
    now = at.time()
    if opens <= now < closes or (closes <= opens and (now >= opens or now < closes)):
        return 0
    opening = datetime.combine(at.date(), opens, UTC)
    return int(((opening if opening > at else opening + _DAY) - at).total_seconds())


def _next_step(obj: dict[str, Any]) -> dict[str, Any]:
    """Steps are taken in the order they stand in, whatever their numbers; after the last there is none."""
    count = len(obj["step_orders"]) if "step_orders" in obj else obj["step_count"]
    cases = []
    for case in obj["cases"]:
        following = 0 if case["last_executed"] is None else case["last_executed"] + 1
        cases.append({**case, "expected_next": following if following < count else None})
    return {"cases": cases}


_CHECKS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "notifications": _notifications,
    "step": _step,
    "next_step": _next_step,
}
