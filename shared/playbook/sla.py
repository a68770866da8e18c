"""The `sla` section of a playbook: what is promised, to whom, by when.

Policies are ordered; the first whose `when` holds governs the ticket. Written so:

    - name: urgent
      when: {priority: urgent}
      calendar: office              # a calendar's name; null or absent: around the clock
      targets:
        first_response: {urgent: 15m, normal: 2h, default: 4h}      # by priority; `default` for the others
        resolution: {working_days: 3, end_of_day: true}             # or 24h
        "node:inspect": 1h                                          # one node of the flow; "node:*" for every node
        "ownership:level2": 8h                                      # time in one group
      pause_on: {first_response: []}                                # or a list for all metrics; [pending] where nothing is said
      first_response: reply                                         # or accept, or a list of statuses that count as well
      warn: [30m, {before: 1h, on: wall}, 80%]                      # or by metric; [30m] where nothing is said
      at_risk: 0.8                                                  # forecast from which on the ticket is told to be at risk
      on_change: carry                                              # or restart, keep
      next_response_opening: false
      tell: [assignee, supervisor]

Durations are open time of the calendar. A metric without a target, or without one for the ticket's priority, has no clock.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from msgspec import field

from shared.playbook.types import Config, Duration

METRICS = frozenset({"first_response", "next_response", "periodic_update", "resolution"})
FAMILIES = ("node:", "ownership:")
DEFAULT = "default"
PAUSE_ON = ["pending"]
WARN = ["30m"]
_PERCENT = re.compile(r"(\d{1,2}(?:\.\d+)?)\s*%")


class WorkingDays(Config, frozen=True, kw_only=True):
    """That many working days later at the same wall time, or (`end_of_day`) at that day's last closing."""

    working_days: int
    end_of_day: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.working_days <= 1000:
            raise ValueError("working_days is 1 to 1000")


class Threshold(Config, frozen=True, kw_only=True):
    """When to warn: `before` the due instant, or after `percent` of the target; counted in open or wall time."""

    before: Duration | None = None
    percent: float | None = None
    on: Literal["open", "wall"] = "open"

    def __post_init__(self) -> None:
        if (self.before is None) == (self.percent is None):
            raise ValueError("a warning names either before or percent")
        if self.percent is not None and not 0 < self.percent < 100:
            raise ValueError("percent is more than 0 and less than 100")

    @property
    def key(self) -> str:
        """What names the threshold in events and in `once per threshold`: `30m`, `80%`, `1h wall`."""
        text = f"{self.percent:g}%" if self.percent is not None else str(self.before)
        return f"{text} wall" if self.on == "wall" else text


Target = timedelta | WorkingDays


class SlaPolicy(Config, frozen=True, kw_only=True):
    """One policy as written; what is typed as plain data is read by the methods below, mistakes are `ValueError`s with a path."""

    name: str
    when: dict[str, Any] = field(default_factory=dict)
    calendar: str | None = None
    """In whose open time is counted; absent: around the clock."""
    targets: dict[str, Any]
    """By metric (`first_response`, `next_response`, `periodic_update`, `resolution`, `node:NAME`, `ownership:GROUP`; `node:*` and
    `ownership:*` for those not named): a duration, `{working_days: 3, end_of_day: true}`, or one of both for each priority, with
    `default` for the others: `{urgent: 15m, default: 2h}`. A metric without a target has no clock."""
    pause_on: list[str] | dict[str, list[str]] = field(default_factory=lambda: list(PAUSE_ON))
    """Statuses in which clocks wait, `pending:REASON` for one reason only; or a list for each metric, `default` for the others."""
    first_response: Literal["reply", "accept"] | list[str] = "reply"
    """What answers: a public reply, accepting as well, or a reply and reaching one of these statuses."""
    warn: list[Any] | dict[str, list[Any]] = field(default_factory=lambda: list(WARN))
    """When is warned: so long before the due instant (`30m`), after a share of the target (`80%`), or either on the wall clock
    (`{before: 1h, on: wall}`); or a list for each metric, `default` for the others."""
    on_change: Literal["carry", "restart", "keep"] = "carry"
    """When the priority changes: what was counted stands against the new target, it begins anew, or the old target stays."""
    next_response_opening: bool = False
    """Whether the opening counts as the first customer's message that `next_response` waits on."""
    at_risk: float | None = None
    """From which forecast on `sla.at_risk` is told, 0 to 1; absent: never."""
    tell: list[str] = field(default_factory=lambda: ["assignee", "supervisor"])

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a policy has a name")
        if self.at_risk is not None and not 0 < self.at_risk < 1:
            raise ValueError("at_risk is a probability, more than 0 and less than 1")
        if not self.targets:
            raise ValueError("targets: a policy promises something")
        for metric in self.targets:
            _known_metric(metric, "targets")
            self.targets_of(metric)
            self.thresholds_of(metric)
        for part, value in (("pause_on", self.pause_on), ("warn", self.warn)):
            for metric in value if isinstance(value, dict) else ():
                if metric != DEFAULT:
                    _known_metric(metric, part)

    def targets_of(self, metric: str) -> dict[str, Target]:
        """Targets of a metric by priority; the key `default` stands for every priority not named."""
        value = self.targets[metric]
        path = f"targets.{metric}"
        if isinstance(value, Mapping) and "working_days" not in value:
            return {str(priority): _target(one, f"{path}.{priority}") for priority, one in value.items()}
        return {DEFAULT: _target(value, path)}

    def pauses_of(self, metric: str) -> frozenset[str]:
        """Statuses in which the metric's clock waits."""
        return frozenset(_of_metric(self.pause_on, metric, PAUSE_ON))

    def thresholds_of(self, metric: str) -> tuple[Threshold, ...]:
        """When the metric warns."""
        entries = _of_metric(self.warn, metric, WARN)
        return tuple(_threshold(entry, f"warn[{index}]") for index, entry in enumerate(entries))


def _of_metric(value: list[Any] | dict[str, list[Any]], metric: str, fallback: list[str]) -> list[Any]:
    if isinstance(value, list):
        return value
    family = metric.partition(":")[0] + ":*"
    for key in (metric, family, DEFAULT):
        if key in value:
            return value[key]
    return fallback


def _known_metric(metric: str, path: str) -> None:
    if metric in METRICS or any(metric.startswith(family) and len(metric) > len(family) for family in FAMILIES):
        return
    raise ValueError(f"{path}: unknown metric {metric!r} ({', '.join(sorted(METRICS))}, node:NAME or ownership:GROUP)")


def _target(value: Any, path: str) -> Target:
    try:
        if isinstance(value, Mapping):
            if unknown := set(value) - {"working_days", "end_of_day"}:
                raise ValueError(f"unknown member {sorted(unknown)[0]!r}")
            days = value["working_days"]
            if isinstance(days, bool) or not isinstance(days, int):
                raise ValueError("working_days is a whole number")
            return WorkingDays(working_days=days, end_of_day=bool(value.get("end_of_day", False)))
        duration = Duration.parse(value)
        if duration <= timedelta(0):
            raise ValueError("a target is longer than 0 seconds")
        return timedelta(seconds=duration.total_seconds())
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _threshold(value: Any, path: str) -> Threshold:
    try:
        if isinstance(value, str) and value.strip().endswith("%"):
            if not (percent := _PERCENT.fullmatch(value.strip())):
                raise ValueError(f"percent is more than 0 and less than 100, not {value!r}")
            return Threshold(percent=float(percent[1]))
        if isinstance(value, Mapping):
            if unknown := set(value) - {"before", "percent", "on"}:
                raise ValueError(f"unknown member {sorted(unknown)[0]!r}")
            before = None if value.get("before") is None else Duration.parse(value["before"])
            on = value.get("on", "open")
            if on not in ("open", "wall"):
                raise ValueError("on is open or wall")
            return Threshold(before=before, percent=value.get("percent"), on=on)
        return Threshold(before=Duration.parse(value))
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
