"""The state of one running chain, what may happen to it, and what comes out; all values, all serialisable where stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

import msgspec

from services.escalation.domain.chain.targets import Told
from services.escalation.errors import StateUnreadable
from shared.playbook.escalation import Chain
from shared.playbook.types import decode, encode


class Status(StrEnum):
    ACTIVE = "active"  # a step is to come
    ACKNOWLEDGED = "acknowledged"  # somebody has it, until it expires
    EXHAUSTED = "exhausted"  # no step left; the fallback owner was told
    ENDED = "ended"  # the reason to escalate is gone


class Cause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a chain runs. `stalled_at` is the instant nobody moved by (may lie ahead: a chain that begins before it is due)."""

    kind: str
    stalled_at: datetime
    owner: str | None = None
    due_at: datetime | None = None
    metric: str | None = None
    node: str | None = None
    visit: int | None = None
    group: str | None = None


class Frozen(msgspec.Struct, frozen=True):
    """What was left of a delay when the chain was paused, in open time of the chain's calendar or by the wall clock."""

    seconds: float
    open: bool = False


class ChainState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A running chain with its own copy of the policy.

    `step` is the index of the step to be taken next; one past the last while the last one's people have their time.
    `generation` grows with every change of what is to come. `told` are the people of the latest step that reached anybody.
    """

    escalation: int
    chain: Chain
    cause: Cause
    status: Status = Status.ACTIVE
    generation: int = 1
    raised: bool = False
    round: int = 1
    step: int = 0
    due_at: datetime | None = None
    counts_open: bool = False
    paused: bool = False
    frozen: Frozen | None = None
    last_step_at: datetime | None = None
    round_reached: bool = False
    told: tuple[Told, ...] = ()
    everyone_told: tuple[str, ...] = ()
    acknowledged_by: tuple[str, ...] = ()


def dumps(state: ChainState) -> bytes:
    """Canonical JSON; `loads` reads it back to an equal state."""
    return encode(state)


def loads(stored: bytes | str | dict[str, Any]) -> ChainState:
    """Read a stored state (JSON text or the object a JSON column gives).

    Raises:
        StateUnreadable: not a state this version knows.
    """
    try:
        plain = stored if isinstance(stored, dict) else msgspec.json.decode(stored)
        return decode(plain, ChainState)
    except msgspec.MsgspecError as error:
        raise StateUnreadable(str(error)) from error


# ---- what may happen ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Acknowledge:
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class EscalateNow:
    """Somebody wants the next step at once; after the last step, the first again."""

    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Pause:
    at: datetime


@dataclass(frozen=True, slots=True)
class Resume:
    at: datetime


@dataclass(frozen=True, slots=True)
class MoveDue:
    """The instant that steps `relative_to: due` count from is another one now."""

    due_at: datetime
    at: datetime


@dataclass(frozen=True, slots=True)
class End:
    why: str
    at: datetime


Command: TypeAlias = Acknowledge | EscalateNow | Pause | Resume | MoveDue | End


class Facts(msgspec.Struct, frozen=True):
    """The ticket as it is now. `held`: steps that are due wait until it is lifted (maintenance), then come at once."""

    owner: str | None = None
    held: bool = False


# ---- what comes out -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Raised:
    """The chain began to matter: its cause's instant passed, or its first step came."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Done:
    """An action a step does, with its object resolved as far as the chain knows it."""

    do: str
    to: str | None = None


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step was taken. No targets, copies or actions: it was passed at once, and `skipped` says why.

    `reminded`: people whose acknowledgement of this same step just expired (then `again` is true).
    """

    at: datetime
    step: int
    round: int
    targets: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    urged: str | None = None
    actions: tuple[Done, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    reminded: tuple[str, ...] = ()
    again: bool = False

    @property
    def level(self) -> int:
        """The level of escalation: the step's number from 1."""
        return self.step + 1


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """`complete`: the chain stops; otherwise others still have to acknowledge, and only `by` is spared."""

    at: datetime
    by: str
    complete: bool
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Exhausted:
    at: datetime
    fallback: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Ended:
    at: datetime
    why: str


Effect: TypeAlias = Raised | Stepped | Acknowledged | Exhausted | Ended


class Decision(msgspec.Struct, frozen=True):
    """What a chain does now: the state to save, what to tell the world, when to look again, and why (one static phrase)."""

    state: ChainState
    effects: tuple[Effect, ...]
    due_at: datetime | None
    reason: str
