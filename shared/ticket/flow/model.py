"""A flow as it is written: the structs that YAML or JSON decodes to. Plain data; nothing here runs.

    name: service
    responsible: {ticket: true}                    # for nodes that name nobody: who the router chose for the ticket
    needs: [{field: asset}]                        # a ticket of this kind is not opened without it
    nodes:
      - name: triage
        outcomes: [software, hardware]
        expected: 2h                               # open time unless `expected_in: wall`
        next:                                      # in order, the first that holds; the one without `when` is the default
          - {to: fix, when: {outcome: software}}
          - check
      - name: check
        responsible: {group: field}
        needs: [{field: serial}, {attachment: photo, count: 2}, {check: power_off}]
        jumps: [{to: triage, siblings: keep}]      # where a person may send it on purpose
        next: fix
      - {name: fix, next: review}
      - {name: review, kind: fork, next: [quality, safety, site]}
      - {name: quality, on_reject: vote, next: votes}
      - {name: safety, on_reject: vote, next: votes}
      - {name: site, on_reject: {back: fix, siblings: cancel}, next: votes}
      - name: votes
        kind: join
        need: 2                                    # all | any | a number
        rest: cancel                               # what happens to branches that are no longer needed: cancel | keep
        next: [{to: done, when: {outcome: passed}}, {to: fix}]
      - {name: done, kind: end}

The complete form, member by member, is in the docstrings of the structs below; unknown members are refused.
"""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import Any, Literal

import msgspec

REJECTED = "rejected"
"""The outcome that a node's `on_reject` acts on."""
PASSED, FAILED = "passed", "failed"
"""The outcomes of a join, which its transitions may ask for."""

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|m|s)")
_UNIT_SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}

Span = str | int | float
"""A length of time as it is written: `45s`, `15m`, `1h30m`, `2d`, or a number of seconds."""
Title = str | dict[str, str]
"""A text for people, or one for each language (`{zh: 质检, en: Quality}`)."""


class Form(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all flow structs: immutable, keyword-only, unknown members refused."""


class Kind(StrEnum):
    """What a node is. Only tasks and services stay open; the others are passed in the same step."""

    START = "start"
    TASK = "task"  # a person completes it
    SERVICE = "service"  # a system completes it; `responsible` is who looks when it does not
    DECISION = "decision"  # one of its transitions
    FORK = "fork"  # every transition whose condition holds, at once
    JOIN = "join"
    END = "end"


class TimeBase(StrEnum):
    """Which time a duration is counted in: the calendar's open hours, or the wall clock."""

    OPEN = "open"
    WALL = "wall"


class Siblings(StrEnum):
    """What happens to the other branches of a fork that a token leaves before its join."""

    CANCEL = "cancel"
    KEEP = "keep"


class Responsible(Form, frozen=True, kw_only=True):
    """Who moves a node; exactly one member.

    `ticket: true` is whom the router chose for the ticket, `same_as` whoever completed that node last.
    """

    role: str | None = None
    group: str | None = None
    person: str | None = None
    same_as: str | None = None
    ticket: bool = False

    @property
    def given(self) -> tuple[str, ...]:
        """The members that are set."""
        named = (("role", self.role), ("group", self.group), ("person", self.person), ("same_as", self.same_as))
        return tuple(name for name, value in named if value) + (("ticket",) if self.ticket else ())


class Need(Form, frozen=True, kw_only=True):
    """One piece of required material: exactly one of `field`, `attachment`, `check`, whose value is its name.

    `count` attachments of one of the media `types` (`image/*`); only when `when` holds (it may ask for the `outcome`).
    """

    field: str | None = None
    attachment: str | None = None
    check: str | None = None
    count: int = 1
    types: list[str] = []
    when: dict[str, Any] | None = None
    waivable: bool = True
    title: Title | None = None

    @property
    def name(self) -> str:
        """What it is called in a list of what is missing."""
        return self.field or self.attachment or self.check or ""


class Edge(Form, frozen=True, kw_only=True):
    """A transition. `siblings` makes it one that leaves a fork on purpose; `default` is taken when no other holds."""

    to: str
    when: dict[str, Any] | None = None
    default: bool = False
    siblings: Siblings | None = None
    title: Title | None = None


class Back(Form, frozen=True, kw_only=True):
    """The reject policy that returns to an earlier node."""

    back: str
    siblings: Siblings | None = None


class Jump(Form, frozen=True, kw_only=True):
    """A node to which a person may send the case on purpose, past the transitions."""

    to: str
    siblings: Siblings | None = None
    title: Title | None = None


class Timer(Form, frozen=True, kw_only=True):
    """What happens `after` that much time in a node: it goes on at `to` instead (`interrupts`), or there as well."""

    after: Span
    to: str
    time: TimeBase = TimeBase.OPEN
    interrupts: bool = True
    title: Title | None = None


class Node(Form, frozen=True, kw_only=True):
    """One node. Members that a kind does not have are found when the flow is proven.

    task, service: `responsible`, `needs`, `expected` (in open or wall time), `chain` (escalation), `outcomes` (then one of
    them is required), `on_reject` (for the outcome `rejected`), `jumps`, `timers`, `service` (the connector), `stage` (the
    column of the board). join: `of` (the fork; found when not given), `need`, `rest`. end: `outcome` (of the whole flow,
    default `completed`), `terminate` (all that is open is cancelled). All but `end` have `next`.
    """

    name: str
    kind: Kind = Kind.TASK
    title: Title | None = None
    description: Title | None = None
    stage: str | None = None
    responsible: Responsible | None = None
    needs: list[Need] = []
    expected: Span | None = None
    expected_in: TimeBase = TimeBase.OPEN
    chain: str | None = None
    service: str | None = None
    outcomes: list[str] = []
    next: str | list[str | Edge] = []
    on_reject: Literal["end", "vote"] | Back | None = None
    jumps: list[Jump] = []
    timers: list[Timer] = []
    of: str | None = None
    need: Literal["all", "any"] | int = "all"
    rest: Siblings = Siblings.CANCEL
    outcome: str | None = None
    terminate: bool = False

    @property
    def stays(self) -> bool:
        """Whether a token waits here for somebody to complete it."""
        return self.kind in (Kind.TASK, Kind.SERVICE)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The transitions in order, shorthand written out."""
        written = [self.next] if isinstance(self.next, str) else self.next
        return tuple(Edge(to=one) if isinstance(one, str) else one for one in written)

    @property
    def expected_time(self) -> timedelta | None:
        """How long a visit should take, in `expected_in` time."""
        return None if self.expected is None else span(self.expected)


class Flow(Form, frozen=True, kw_only=True):
    """A whole flow: what a kind of ticket goes through. `start` defaults to the node of kind start, else the first.

    `calendar`: whose open time durations are counted in (around the clock without one). `moved`: where cases that run on an
    earlier version go when they are moved to this one, for nodes that are called otherwise or are gone (`null`: the branch ends).
    """

    name: str
    nodes: list[Node]
    title: Title | None = None
    description: Title | None = None
    start: str | None = None
    responsible: Responsible | None = None
    needs: list[Need] = []
    calendar: str | None = None
    moved: dict[str, str | None] = {}

    @property
    def start_name(self) -> str:
        """The node where a new case enters."""
        starts = [node.name for node in self.nodes if node.kind is Kind.START]
        return self.start or (starts or [node.name for node in self.nodes] or [""])[0]

    def responsible_for(self, node: Node) -> Responsible | None:
        """Who moves `node`: its own, else the flow's default."""
        return node.responsible or self.responsible


def read(obj: Any) -> Flow:
    """Decode a flow from YAML or JSON data; raise `msgspec.ValidationError`, whose text ends in the path."""
    return msgspec.convert(obj, Flow, strict=True)


def written(flow: Flow) -> dict[str, Any]:
    """The flow as plain data again, defaults left out; `read` gives the same flow back."""
    data: dict[str, Any] = msgspec.to_builtins(flow)
    return data


def span(written_as: Span) -> timedelta:
    """Read a duration; raise `ValueError` for anything that is not one. A day is 24 hours of the time it is counted in."""
    if isinstance(written_as, bool):
        raise ValueError("a duration is text like 1h30m, or a number of seconds")
    if isinstance(written_as, int | float):
        if not 0 <= written_as < 1e10:
            raise ValueError("a duration is at least 0 seconds and below 10,000,000,000")
        return timedelta(seconds=written_as)
    parts = _PART.findall(written_as)
    if not parts or _PART.sub("", written_as).strip():
        raise ValueError(f"not a duration: {written_as!r} (write 45s, 15m, 2h, 1h30m or 2d)")
    return timedelta(seconds=sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts))
