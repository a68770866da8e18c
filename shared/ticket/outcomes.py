"""What a command comes to, and what its decision may know besides the ticket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from shared.contracts import events as e
from shared.ticket.course import Course


@dataclass(frozen=True, slots=True)
class Accepted:
    """The command holds; `events` is empty when it already held."""

    events: tuple[e.Data, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The command does not apply. `code` is stable, `reason` is a sentence, `missing` lists material that is not there."""

    code: str
    reason: str
    missing: tuple[str, ...] = ()


Outcome = Accepted | Refused


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a decision may know besides the ticket: names that exist, and the group a person works in."""

    groups: frozenset[str] = frozenset()
    agents: dict[str, str] | None = None
    """Agent id -> home group."""
    heads: dict[str, frozenset[str]] = field(default_factory=dict)
    """Group -> its lead and its interface person: they may reject what is transferred to the group."""
    now: datetime | None = None
    """Business now: an offer is taken late from its end on."""
    lanes: Callable[[str, str], str] = lambda priority, lane: lane
    """(priority, present lane) -> lane, as the playbook says."""
    priorities: frozenset[str] = frozenset()
    course: Course | None = None
    """The ticket's flow, ready to take a step; None for kinds without one."""
    fields: Callable[[dict[str, Any]], str | None] = lambda fields: None
    """Why these fields do not fit the playbook, or None."""
    reads: Callable[[str], bool] = lambda person: True
    """Whether a person may read the ticket."""
    task_due: timedelta | None = None
    on_end: str = "close"
    """What becomes of open tasks when the ticket ends: close, keep, wait."""
