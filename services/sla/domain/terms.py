"""A compiled policy version: what is promised for each priority, how it pauses and warns, on which calendar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from services.sla.errors import UnknownPolicy, UnknownVersion
from shared.calendar import BusinessCalendar

CLOSED = frozenset({"resolved", "closed", "merged"})
DEFAULT = "default"
MOST_REMEMBERED = 10_000
"""Names of groups and nodes are a playbook's, those of priorities a ticket's: nobody may fill the memory with them."""
OnChange = Literal["carry", "restart", "keep"]
Matcher = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Target:
    """What is promised: exactly one of an open duration, working days (as the calendar's `add_days`), or an instant set by hand."""

    duration: timedelta | None = None
    working_days: int | None = None
    end_of_day: bool = False
    fixed_at: datetime | None = None

    def base(self, start: datetime, calendar: BusinessCalendar) -> datetime | None:
        """The due instant without any pause, for targets that are not a duration; None also for those."""
        if self.fixed_at is not None:
            return self.fixed_at
        if self.working_days is None:
            return None
        return calendar.add_days(start, self.working_days, end_of_day=self.end_of_day)

    def length(self, start: datetime, calendar: BusinessCalendar) -> timedelta | None:
        """The target as open time from `start`; None when it is never reached."""
        if self.duration is not None:
            return self.duration
        base = self.base(start, calendar)
        return None if base is None else calendar.between(start, base)


@dataclass(frozen=True, slots=True)
class Threshold:
    """When to warn: `before` the due instant, or after a `share` (0 to 1) of the target; on open or wall time."""

    key: str
    before: timedelta | None = None
    share: float | None = None
    wall: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """What a policy promises for one metric at one priority."""

    target: Target
    pause_on: frozenset[str] = frozenset()
    warn: tuple[Threshold, ...] = ()

    def pauses(self, status: str) -> bool:
        """Does the clock wait in `status`; `pending:vendor` is meant by `pending` as well as by its full name."""
        return status in self.pause_on or (":" in status and status.partition(":")[0] in self.pause_on)


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy of one playbook version. `terms`: by priority (or `default`), then by metric (or its family, `node:*`)."""

    name: str
    version: int
    calendar: BusinessCalendar
    terms: Mapping[str, Mapping[str, Terms]]
    calendar_name: str | None = None
    closed_on: frozenset[str] = CLOSED
    respond_on: frozenset[str] = frozenset()
    accept_responds: bool = False
    on_change: OnChange = "carry"
    opening_counts: bool = False
    at_risk: float | None = None
    tell: tuple[str, ...] = ("assignee", "supervisor")
    _found: dict[tuple[str, str | None], Terms | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """`terms_of` of what was asked before: each decision asks a dozen times."""

    def of(self, priority: str | None) -> Mapping[str, Terms]:
        """Terms by metric for a priority."""
        found = self.terms.get(priority) if priority is not None else None
        return found if found is not None else self.terms.get(DEFAULT, {})

    def terms_of(self, metric: str, priority: str | None) -> Terms | None:
        """Terms of a metric at a priority; None: no promise."""
        key = metric, priority
        try:
            return self._found[key]
        except KeyError:
            if len(self._found) > MOST_REMEMBERED:
                self._found.clear()
            found = self._found[key] = self._terms_of(metric, priority)
            return found

    def _terms_of(self, metric: str, priority: str | None) -> Terms | None:
        by_metric = self.of(priority)
        found = by_metric.get(metric)
        if found is None and ":" in metric:
            found = by_metric.get(metric.partition(":")[0] + ":*")
        return found


class Choice(msgspec.Struct, frozen=True):
    """Which policy governs a ticket, and of every policy, in order: (its name, did it match)."""

    policy: Policy | None
    considered: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """The ordered policies of one playbook version, each with its compiled condition."""

    version: int
    policies: Sequence[tuple[Matcher | None, Policy]]
    by_name: Mapping[str, Policy] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {policy.name: policy for _, policy in self.policies})

    def choose(self, attributes: Mapping[str, Any]) -> Choice:
        """The first policy whose condition holds for the flat `attributes`; a policy without condition always holds.

        Those after the winner are asked too, so that the explanation names every match and every loser.
        """
        winner: Policy | None = None
        considered = []
        for matches, policy in self.policies:
            holds = matches is None or matches(attributes)
            considered.append((policy.name, holds))
            if holds and winner is None:
                winner = policy
        return Choice(winner, tuple(considered))


@dataclass(frozen=True, slots=True)
class Library:
    """The playbook versions that running tickets are pinned to. `current` is what new tickets start with."""

    current: int
    versions: Mapping[int, Rules]

    def rules(self, version: int) -> Rules:
        """Raises `UnknownVersion`."""
        try:
            return self.versions[version]
        except KeyError:
            raise UnknownVersion(version) from None

    def policy(self, version: int, name: str) -> Policy:
        """Raises `UnknownVersion`, `UnknownPolicy`."""
        try:
            return self.versions[version].by_name[name]
        except KeyError:
            raise (UnknownPolicy(version, name) if version in self.versions else UnknownVersion(version)) from None


def single(policy: Policy) -> Library:
    """A library in which every ticket has this policy."""
    return Library(policy.version, {policy.version: Rules(policy.version, ((None, policy),))})
