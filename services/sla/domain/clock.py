"""One cycle of one clock, and how it is shown."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from services.sla.domain.track import ZERO, Span


class State(StrEnum):
    """`RUNNING` counts, or will when the calendar opens. `PAUSED` waits in a pausing status, its due instant hidden.

    `MET` ended in time. `BREACHED` did not, and stays so, also while it still runs, waits or when it is ended later.
    `CANCELLED` ended without an answer: the ticket was closed, merged, or no policy promises this any more.
    """

    RUNNING = "running"
    PAUSED = "paused"
    MET = "met"
    BREACHED = "breached"
    CANCELLED = "cancelled"


class WarningState(StrEnum):
    """`ARMED` will be given at its instant; `SENT` was given; `SKIPPED`: it had passed when the due instant jumped."""

    ARMED = "armed"
    SENT = "sent"
    SKIPPED = "skipped"


class Warning(msgspec.Struct, frozen=True, omit_defaults=True, array_like=True):
    """One threshold of a clock in the clock's present generation."""

    threshold: str
    at: datetime
    state: WarningState = WarningState.ARMED


class Clock(msgspec.Struct, frozen=True, omit_defaults=True):
    """One cycle of a clock.

    `started_at`: since when the promise holds; `counts_from`: since when time counts (later than `started_at` after a restart).
    `spans`: which policy governed it from when on; `cause`: why its due instant was last set. `due_at`: the armed due instant,
    None while paused or never reached; of an ended clock the one it had at its end. `armed_at`: since when that due instant
    holds. `elapsed`, `paused_time`: a reading at `as_of`, for people and reports. `anchors`: for `on_change: restart`, since
    when each target was first in force, so that going back to it gains nothing. `continued`: this cycle goes on where the one
    before stopped.
    """

    metric: str
    cycle: int
    started_at: datetime
    counts_from: datetime
    spans: tuple[Span, ...]
    armed_at: datetime
    as_of: datetime
    calendar: str | None = None
    state: State = State.RUNNING
    target: timedelta | None = None
    due_at: datetime | None = None
    cause: str = "opened"
    generation: int = 1
    warnings: tuple[Warning, ...] = ()
    warned_at: tuple[datetime, ...] = ()
    breached_at: datetime | None = None
    breach_cause: str | None = None
    stopped_at: datetime | None = None
    stop_cause: str | None = None
    paused: bool = False
    continued: bool = False
    anchors: dict[str, datetime] = {}
    elapsed: timedelta = ZERO
    paused_time: timedelta = ZERO

    @property
    def open(self) -> bool:
        """Has it not ended."""
        return self.stopped_at is None

    @property
    def span(self) -> Span:
        """The policy that governs it now, or did last."""
        return self.spans[-1]


class ClockView(msgspec.Struct, frozen=True, kw_only=True):
    """A clock as the contract shows it (docs: the HTTP interface, "A clock"). Durations are seconds; instants aware UTC."""

    metric: str
    cycle: int
    state: str
    paused: bool
    started_at: datetime
    due_at: datetime | None
    target_seconds: float | None
    elapsed_seconds: float
    remaining_seconds: float | None
    paused_seconds: float
    warned_at: tuple[datetime, ...]
    breached_at: datetime | None
    stopped_at: datetime | None
    policy: str
    policy_version: int
    calendar: str | None
    calendar_version: int


def seconds(length: timedelta) -> float:
    """Whole seconds as an int, so that they are written without a point."""
    value = length.total_seconds()
    return int(value) if value == int(value) else value


def view(clock: Clock) -> ClockView:
    """The contract's shape of a clock as read at `clock.as_of`."""
    left = None if clock.target is None else clock.target - clock.elapsed
    return ClockView(
        metric=clock.metric,
        cycle=clock.cycle,
        state=clock.state.value,
        paused=clock.paused,
        started_at=clock.started_at,
        due_at=clock.due_at,
        target_seconds=None if clock.target is None else seconds(clock.target),
        elapsed_seconds=seconds(clock.elapsed),
        remaining_seconds=None if left is None else seconds(left),
        paused_seconds=seconds(clock.paused_time),
        warned_at=clock.warned_at,
        breached_at=clock.breached_at,
        stopped_at=clock.stopped_at,
        policy=clock.span.policy,
        policy_version=clock.span.version,
        calendar=clock.calendar,
        calendar_version=clock.span.version,
    )
