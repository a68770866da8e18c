"""What escalation keeps of one ticket, and what a decision about it comes to. Values only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from services.escalation.domain.chain.state import ChainState
from shared.contracts.envelope import New
from shared.playbook.escalation import Chain
from shared.ticket.course import Course
from shared.ticket.state import MAIN, Ticket

Lanes = Callable[[str, str], str]
"""(priority, present lane) -> lane."""


class Expected(msgspec.Struct, frozen=True, omit_defaults=True):
    """Somebody is expected to have moved by `due_at`; `assignment` says which assignment this was about.

    `noted`: its stall is on record. `left`: while the ticket is paused, the seconds that were left.
    """

    what: str
    due_at: datetime
    since: datetime
    assignment: int = 0
    node: str = MAIN
    visit: int = 1
    owner: str | None = None
    noted: bool = False
    left: float | None = None


class Share(msgspec.Struct, frozen=True, array_like=True):
    """Who had the ticket at which node since when (`owner` None: nobody)."""

    owner: str | None
    since: datetime
    node: str = MAIN
    visit: int = 1


class Card(msgspec.Struct, frozen=True, array_like=True):
    """One open node visit as the board shows it. `due_at` None: no instant."""

    node: str
    visit: int
    stage: str
    group: str | None
    owner: str | None
    entered_at: datetime
    due_at: datetime | None
    stalled: bool
    unaccepted: bool
    escalation: int | None
    paused: bool


class Watched(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What escalation keeps of one ticket."""

    expected: tuple[Expected, ...] = ()
    chains: tuple[ChainState, ...] = ()
    shares: tuple[Share, ...] = ()
    numbered: int = 0
    cards: tuple[Card, ...] = ()
    """As they are on the board, so that only what changed is written."""


@dataclass(frozen=True, slots=True)
class WatchRule:
    """A compiled entry of `watch`; without `when` it always holds, and no facts need be gathered."""

    on: str
    chain: Chain
    when: Callable[[Mapping[str, Any]], bool] | None
    after: timedelta


@dataclass(frozen=True, slots=True)
class Watching:
    """What a version of the playbook says about watching: rules, chains by name, priorities, lanes; and the ticket's flow."""

    rules: tuple[WatchRule, ...] = ()
    chains: Mapping[str, Chain] = field(default_factory=dict)
    priorities: tuple[str, ...] = ()
    lanes: Lanes = lambda priority, lane: lane
    course: Callable[[Ticket], Course | None] = lambda ticket: None


@dataclass(slots=True)
class Outcome:
    """What became of a ticket's watch: state to keep (None: nothing is watched any more), events, rows, next instant.

    `mover`: who is to move the ticket next.
    """

    state: Watched | None
    events: list[New] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    stalls: list[dict[str, Any]] = field(default_factory=list)
    levels: list[dict[str, Any]] = field(default_factory=list)
    due_at: datetime | None = None
    mover: str = ""
