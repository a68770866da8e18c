"""What the SLA service keeps of a ticket between two decisions, small enough to be rewritten with each of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from services.sla.domain.clock import Clock
from services.sla.domain.track import Phase


class OpenNode(msgspec.Struct, frozen=True, array_like=True):
    """A node the flow is in, since when, and for the how many-th time."""

    at: datetime
    visit: int


class Desk(msgspec.Struct, frozen=True, omit_defaults=True, array_like=True):
    """Where the ticket was at the end of the events seen: what the next events are read against.

    `nodes`: name and visit of each open one, `owned`: their group, person and whether accepted, in the same order. `group`,
    `assignee`, `node` and `visit` are those of the main path.
    """

    status: str = "new"
    pause_reason: str | None = None
    group: str | None = None
    assignee: str | None = None
    accepted: bool = False
    node: str = "main"
    nodes: tuple[tuple[str, int], ...] = ()
    visit: int = 1
    owned: tuple[tuple[str | None, str | None, bool], ...] = ()


class Place(msgspec.Struct, frozen=True, omit_defaults=True, array_like=True):
    """From `at` on the ticket's time belonged to this bearer (see `attribution`)."""

    at: datetime
    kind: str
    team: str | None = None
    person: str | None = None
    node: str | None = None


class SlaState(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One ticket as its clocks see it: a digest of its facts, and the latest cycle of each metric.

    `at`: the instant of the last fact taken. `version`: the playbook version the ticket is pinned to. `opening`: the customer's
    opening message is unanswered. `answered`: the first response was given. `waiting_since`: the oldest unanswered customer
    message after the opening. `policy` None: none matches, or (`ready` False) none was chosen yet.
    `desk` is the reader's place in the log, kept here so that it is saved with the clocks. `places`: whose time it was.
    """

    version: int
    created_at: datetime
    at: datetime
    status: str
    phases: tuple[Phase, ...]
    attributes: dict[str, Any] = {}
    ready: bool = True
    policy: str | None = None
    priority: str | None = None
    opening: bool = False
    answered: bool = False
    waiting_since: datetime | None = None
    replied_at: datetime | None = None
    group: str | None = None
    group_since: datetime | None = None
    nodes: dict[str, OpenNode] = {}
    merged: bool = False
    clocks: tuple[Clock, ...] = ()
    desk: Desk = Desk()
    person: str | None = None
    places: tuple[Place, ...] = ()


def versions_of(state: SlaState) -> set[int]:
    """Every playbook version the library must hold to decide this ticket: its own, and those its clocks have counted under."""
    return {state.version} | {span.version for clock in state.clocks for span in clock.spans}
