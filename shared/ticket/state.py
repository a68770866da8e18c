"""The ticket as its row has it: what its events have made of it so far (`projection`)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from shared.contracts import events as e
from shared.ticket.flow.state import FlowState

OPEN = frozenset({"new", "assigned", "in_progress", "pending"})
MAIN = "main"


class Node(msgspec.Struct, frozen=True, omit_defaults=True):
    """A visit of a node that is open now, with its own owner.

    `home`: worked by the ticket's own owner. `expected_seconds` is in open time, or of the wall clock when `wall`; `timers` are the
    instants at which they fire. `assignment` is that of the present owner.
    """

    name: str
    visit: int
    entered_at: datetime
    group: str | None = None
    assignee: str | None = None
    due_at: datetime | None = None
    accepted: bool = False
    assignment: int = 0
    assigned_at: datetime | None = None
    declined: tuple[str, ...] = ()
    home: bool = False
    stage: str | None = None
    chain: str | None = None
    expected_seconds: float | None = None
    wall: bool = False
    timers: tuple[datetime, ...] = ()
    waiting: str | None = None
    """The group in which nobody could take it when the router last looked."""


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """Somebody who works on a task, and what they have done of it in percent."""

    person: str
    progress: int = 0


class Task(msgspec.Struct, frozen=True, omit_defaults=True):
    """A todo or a joint task group: one owner, members with their progress (of a todo: the owner alone).

    `state`: open, done, closed (given up, or over with the ticket).
    """

    id: int
    title: str
    owner: str
    opened_at: datetime
    members: tuple[Member, ...] = ()
    due_at: datetime | None = None
    state: str = "open"
    note: int | None = None
    escalation: int | None = None
    closed_at: datetime | None = None


class Handover(msgspec.Struct, frozen=True, omit_defaults=True):
    """A transfer that the receiving side has neither accepted nor rejected yet: where it came from."""

    group: str | None
    agent: str | None
    at: datetime
    to_agent: str | None = None


class Ticket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything decisions need, small enough to be rewritten with each append; long texts stay in the events.

    `group`, `assignee`, `node` and `visit` are those of the main path, `assignment` is the number of its present assignment;
    `assignments` counts those of all nodes. `owner` had the ticket last at a node of its own (`home`), in `home_group`.
    `flow` is the case. Of the escalations that are
    `running`, those `held` rest because they were acknowledged (the last by `holders`); `escalation` is the latest that does not.
    `classified` is False until the router has said what the ticket is, however much people have set by then.
    """

    id: int
    version: int
    status: str
    opened_at: datetime
    updated_at: datetime
    source: str
    subject: str
    lane: str
    kind: str | None = None
    external_id: str | None = None
    dedup_key: str | None = None
    requester: e.Requester = e.Requester()
    labels: dict[str, e.Label] = {}
    fields: dict[str, Any] = {}
    priority: str | None = None
    classified: bool = False
    group: str | None = None
    assignee: str | None = None
    last_assignee: str | None = None
    accepted: bool = False
    assignment: int = 0
    assigned_at: datetime | None = None
    declined: tuple[str, ...] = ()
    offered_to: str | None = None
    offered_until: datetime | None = None
    handover: Handover | None = None
    skills: dict[str, int] = {}
    preferred: dict[str, int] = {}
    weight: float | None = None
    effort_seconds: float = 0.0
    assignments: int = 0
    node: str = MAIN
    visit: int = 1
    nodes: tuple[Node, ...] = ()
    flow: FlowState | None = None
    home_group: str | None = None
    owner: str | None = None
    pause_reason: str | None = None
    paused_at: datetime | None = None
    replied: bool = False
    resolved_at: datetime | None = None
    closed_at: datetime | None = None
    reopened: int = 0
    merged_into: int | None = None
    escalation: int | None = None
    escalations: int = 0
    running: tuple[int, ...] = ()
    held: tuple[int, ...] = ()
    holders: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = ()
    score: int | None = None
    watchers: tuple[str, ...] = ()
    playbook: int = 0
    moved_from: int | None = None
    """The version it ran under before it was moved to `playbook`; None: it began under that one."""

    @property
    def number(self) -> str:
        """What people read and say on the phone."""
        return f"T-{self.id}"

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    @property
    def next_assignment(self) -> int:
        """The number of the next assignment of any of its nodes."""
        return max(self.assignment, self.assignments) + 1

    @property
    def open_tasks(self) -> tuple[Task, ...]:
        """Todos and task groups that are not done."""
        return tuple(one for one in self.tasks if one.state == "open")

    @property
    def in_flow(self) -> bool:
        """Whether it goes through a flow that has not come to its end."""
        return self.flow is not None and not self.flow.done

    @property
    def sides(self) -> tuple[Node, ...]:
        """Open visits beside the main path."""
        return tuple(one for one in self.nodes if (one.name, one.visit) != (self.node, self.visit))

    def visit_of(self, name: str, visit: int | None = None) -> Node | None:
        """An open visit of a node (the oldest when `visit` is not given)."""
        return next((one for one in self.nodes if one.name == name and visit in (None, one.visit)), None)
