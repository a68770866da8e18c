"""A group as the router works it, a ticket's demand on it, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from shared.playbook.routing import Group, RelaxTo, Strategy


class Filter(StrEnum):
    """What can keep an agent from a ticket, in the order in which it is asked."""

    GROUP = "group"  # not a member, or too new a one
    ACTIVE = "active"
    PRESENCE = "presence"
    SHIFT = "shift"  # off shift, or too little of it left
    LEAVE = "leave"
    SKILLS = "skills"
    DECLINED = "declined"
    CAPACITY = "capacity"
    RATE = "rate"


ORDER = {one: place for place, one in enumerate(Filter)}


class Step(StrEnum):
    """How much of the demand was upheld."""

    ALL = "all"
    MANDATORY = "mandatory"
    OVERFLOW = "overflow"


class How(StrEnum):
    """What chose the agent."""

    STRATEGY = "strategy"
    STICKY = "sticky"  # the last owner
    NAMED = "named"  # a rule or a field named the person
    INTERFACE = "interface"  # the department's door for what comes from outside
    PLAN = "plan"  # look-ahead over the batch


@dataclass(frozen=True, slots=True)
class Desk:
    """A group, compiled. `relax` is (seconds of waiting, step) in order; `members` break ties.

    With the strategy `by_field`, `field` is the fact that names the person: whoever makes the request reads it.
    """

    name: str
    members: tuple[str, ...]
    strategy: Strategy = Strategy.LEAST_LOADED
    weights: tuple[tuple[str, float], ...] = ()
    sticky: bool = False
    shift_left: timedelta = timedelta(0)
    rate_limit: int | None = None
    relax: tuple[tuple[float, Step], ...] = ()
    overflow: str | None = None
    interface: str | None = None
    new_member_wait: timedelta = timedelta(0)
    fairness: float = 1.0
    depth: int = 1
    field: str | None = None

    @property
    def by_turn(self) -> bool:
        """Do agents take turns here?"""
        return self.strategy in (Strategy.ROUND_ROBIN, Strategy.WEIGHTED_ROUND_ROBIN)


def desk_of(name: str, group: Group, members: tuple[str, ...] | None = None) -> Desk:
    """Compile a group of the playbook; `members` replaces its own list (the directory may know better)."""
    relax = tuple(sorted((one.after.total_seconds(), _step(one.to)) for one in group.relax))
    return Desk(
        name,
        group.members if members is None else members,
        group.strategy,
        tuple(sorted(group.weights.items())),
        group.sticky or group.strategy is Strategy.STICKY,
        group.shift_left,
        None if group.rate is None else group.rate.limit,
        relax,
        group.overflow,
        group.interface,
        group.new_member_wait,
        group.fairness,
        group.depth,
        group.field,
    )


def _step(to: RelaxTo) -> Step:
    return Step.OVERFLOW if to is RelaxTo.OVERFLOW else Step.MANDATORY


class Request(msgspec.Struct, frozen=True):
    """One ticket that needs somebody. `rank` 0 is the most urgent; `weight` in hundredths; instants are aware.

    `named` is a person a rule or a field asks for; `allowed` limits the choice to some people; `due_at` and
    `handle_seconds` serve look-ahead only.
    """

    ticket: int | str
    group: str
    queued_at: datetime
    rank: int = 0
    weight: int = 100
    skills: tuple[tuple[str, int], ...] = ()
    preferred: tuple[tuple[str, int], ...] = ()
    effort_seconds: float = 0.0
    declined: frozenset[str] = frozenset()
    last_owner: str | None = None
    named: str | None = None
    from_outside: bool = False
    allowed: tuple[str, ...] | None = None
    due_at: datetime | None = None
    handle_seconds: float = 0.0
    ahead_seconds: float = 900.0


def in_order(requests: list[Request]) -> list[Request]:
    """Return the requests as they are to be served: by priority, then by waiting time."""
    return sorted(requests, key=lambda one: (one.rank, one.queued_at))
