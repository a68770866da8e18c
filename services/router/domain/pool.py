"""People and their loads as a plain value.

The store fills a `Pool` under the capacity lock; one batch of decisions changes it in place and the store writes the
changes back in the same transaction. So capacity is exact whatever the number of workers: whoever holds the lock
holds the truth.

Loads, capacities and weights are whole hundredths of an ordinary ticket, so that sums are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from shared.playbook.routing import Presence

MAX_CHAIN = 20
"""Longest chain of delegates followed."""


class Hours(Protocol):
    """What the router asks of a calendar: `shared.calendar.BusinessCalendar` answers it."""

    def is_open(self, at: datetime) -> bool: ...

    def next_open(self, at: datetime) -> datetime | None: ...

    def next_close(self, at: datetime) -> datetime | None: ...


@dataclass(frozen=True, slots=True)
class Absence:
    """[from_at, to_at), aware. `delegate` takes what comes meanwhile."""

    from_at: datetime
    to_at: datetime
    delegate: str | None = None


@dataclass(slots=True)
class Agent:
    """One person as the router sees them now. `capacity` `None`: no limit. `last_assigned` is a Unix time, 0 for
    never.
    """

    id: str
    skills: Mapping[str, int] = field(default_factory=dict)
    capacity: int | None = None
    load: int = 0
    open_tickets: int = 0
    given: int = 0
    last_assigned: float = 0.0
    presence: str = Presence.AVAILABLE
    active: bool = True
    shift: str | None = None
    leave: tuple[Absence, ...] = ()
    since: datetime | None = None

    def absence(self, at: datetime) -> Absence | None:
        """The absence that covers `at`, if any."""
        for one in self.leave:
            if one.from_at <= at < one.to_at:
                return one
        return None

    def fits(self, weight: int) -> bool:
        """Is there capacity for `weight` more?"""
        return self.capacity is None or self.load + weight <= self.capacity


@dataclass(slots=True)
class Turns:
    """Whose turn it is in a group: the smallest number is next. `clock` is the last number given out."""

    clock: int = 0
    of: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Pool:
    """Everybody the batch may assign to. `recent` counts assignments inside a group's rate window, by (group, agent)."""

    agents: dict[str, Agent]
    turns: dict[str, Turns] = field(default_factory=dict)
    recent: dict[tuple[str, str], int] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)
    """What this batch added to each agent's load; the store writes it back."""

    def turn(self, group: str) -> Turns:
        """The turns of a group, made when it has none."""
        found = self.turns.get(group)
        if found is None:
            found = self.turns[group] = Turns()
        return found

    def take(self, agent: Agent, weight: int, at: float) -> None:
        """Add one ticket to the agent's load, whether or not it fits; `at` is a Unix time."""
        agent.load += weight
        agent.open_tickets += 1
        agent.given += weight
        agent.last_assigned = at
        self.taken[agent.id] = self.taken.get(agent.id, 0) + weight


@dataclass(frozen=True, slots=True)
class StandIn:
    """Who stands in for somebody at an instant: `agent` is `None` when nobody does; `chain` is the way, first the
    asked.
    """

    agent: str | None
    chain: tuple[str, ...]
    loop: bool = False


def stand_in(agents: Mapping[str, Agent], agent_id: str, at: datetime) -> StandIn:
    """Follow delegates from `agent_id` to the first person who is not on leave at `at`.

    Ends without a person where somebody on leave names no delegate, a delegate is unknown or inactive, or the chain
    runs in a circle (`loop`).
    """
    chain = [agent_id]
    while True:
        agent = agents.get(chain[-1])
        if agent is None or not agent.active:
            return StandIn(None, tuple(chain))
        away = agent.absence(at)
        if away is None:
            return StandIn(agent.id, tuple(chain))
        if away.delegate is None:
            return StandIn(None, tuple(chain))
        if away.delegate in chain or len(chain) >= MAX_CHAIN:
            return StandIn(None, (*chain, away.delegate), loop=True)
        chain.append(away.delegate)
