"""The state of one case in its flow: small, immutable, serialisable; rewritten with each step."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class Step(msgspec.Struct, frozen=True, array_like=True):
    """One fork a token is inside of: the fork instance, and the branches of it that this token stands for."""

    fork: int
    branches: tuple[int, ...]


class Token(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the case is. At a task or service it is an open visit; at a join it waits (`visit` is 0).

    `path`: the forks it is inside of, outermost first. `beside`: it does not count at the joins of the first that many
    forks, because it is beside the main way there (a timer made it, or the join went on without it); -1 for the main way.
    `against`: it carries a vote against to its join. `waived`: material that need not be given. `fired`: timers that have.
    """

    id: int
    node: str
    visit: int = 0
    path: tuple[Step, ...] = ()
    beside: int = -1
    against: bool = False
    waived: tuple[str, ...] = ()
    fired: tuple[int, ...] = ()


class Fork(msgspec.Struct, frozen=True):
    """One passing of a fork: which of its branches were taken. Joins count against this, never against the drawing."""

    id: int
    node: str
    branches: tuple[int, ...]


class FlowState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A case: the flow and the version it runs on, its tokens in the order they were made, and how often nodes were entered.

    `completed_by` holds who completed a node last (for `same_as`). `reached` is the outcome of the end that the main path
    has come to; `outcome` is set once, when nothing is open any more.
    """

    flow: str
    version: int = 0
    tokens: tuple[Token, ...] = ()
    forks: tuple[Fork, ...] = ()
    visits: dict[str, int] = {}
    completed_by: dict[str, str] = {}
    serial: int = 0
    reached: str | None = None
    outcome: str | None = None

    @property
    def done(self) -> bool:
        """Whether nothing is open any more."""
        return self.outcome is not None

    @property
    def open(self) -> tuple[Token, ...]:
        """The visits that somebody has to complete, oldest first; tokens waiting at a join are not among them."""
        return tuple(token for token in self.tokens if token.visit)

    def token(self, node: str, visit: int | None = None) -> Token | None:
        """The open visit of `node` (the oldest, when `visit` is not given)."""
        return next((t for t in self.open if t.node == node and visit in (None, t.visit)), None)

    @property
    def main(self) -> Token | None:
        """The visit on the main path: the least forked, then the earliest branch, then the oldest."""
        return min(self.open, key=lambda t: (t.beside, len(t.path), [s.branches for s in t.path], t.id), default=None)


class Visit(msgspec.Struct, frozen=True):
    """One stay at a task or service; visits of a node are numbered from 1."""

    node: str
    visit: int


class Joined(msgspec.Struct, frozen=True):
    """A join that has gone on: for which passing of its fork, how the branches voted, how many were still under way and how
    many can never come.
    """

    node: str
    fork: int
    outcome: str
    in_favour: int
    against: int
    pending: int = 0
    absent: int = 0


class Reason(StrEnum):
    """Why a step was refused."""

    MATERIAL_MISSING = "material_missing"  # `missing` lists it
    NOT_OPEN = "not_open"  # the case is not at that node (any more)
    UNKNOWN_OUTCOME = "unknown_outcome"
    NO_TRANSITION = "no_transition"  # no condition holds and there is no default
    UNSAFE_JUMP = "unsafe_jump"
    NOT_NEEDED = "not_needed"  # the waived material is not required there
    NOT_WAIVABLE = "not_waivable"
    UNKNOWN_TIMER = "unknown_timer"
    ENDLESS = "endless"  # the step would never stop at a person
    DONE = "done"


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step that was not taken; the state is unchanged."""

    reason: Reason
    detail: str = ""
    missing: tuple[str, ...] = ()


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a step did: the new state and the visits it began, completed and cancelled; or why it was refused."""

    state: FlowState
    entered: tuple[Visit, ...] = ()
    completed: tuple[Visit, ...] = ()
    cancelled: tuple[Visit, ...] = ()
    joined: tuple[Joined, ...] = ()
    refused: Refusal | None = None


def load(data: Any) -> FlowState:
    """Read a state that `dump` wrote."""
    return msgspec.convert(data, FlowState)


def dump(state: FlowState) -> dict[str, Any]:
    """The state as plain JSON data."""
    data: dict[str, Any] = msgspec.to_builtins(state)
    return data
