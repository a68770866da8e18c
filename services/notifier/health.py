"""How well a provider does, and what part of its messages it gets. Pure; business time is an argument.

    circuit   closed; open at once on a bad account or after `TROUBLE_IN_A_ROW` failures; while open one probe in each pause; one
              that succeeds closes it with the smallest share, and the share heals from there
    share     1 at rest; a bad window halves it or leaves a tenth, and only a good window gives one step back, so that it does not
              swing; bad is many errors or many late receipts, good is nearly none

The configured weights are the resting split: a share only scales them. Every change has a reason and is kept in the history.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.notifier.channels.base import Kind

TROUBLE_IN_A_ROW = 8
PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(seconds=60)
WINDOW = timedelta(seconds=30)
FEWEST = 20
"""A window with fewer outcomes says nothing."""
BAD, VERY_BAD, GOOD = 0.2, 0.5, 0.05
LATE_BAD = 0.3
STEPS = (0.1, 0.5, 1.0)
LATE_RECEIPT = timedelta(minutes=2)

_TROUBLE = frozenset((Kind.TRANSIENT, Kind.UNKNOWN, Kind.BAD_ACCOUNT))


@dataclass(frozen=True, slots=True)
class State:
    """One provider as all workers see it. `counts` of the window that began at `window_at`."""

    provider: str
    share: float = 1.0
    open_since: datetime | None = None
    pause_seconds: float = PAUSE.total_seconds()
    probed_at: datetime | None = None
    in_a_row: int = 0
    fine: int = 0
    trouble: int = 0
    receipts: int = 0
    late: int = 0
    window_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.open_since is not None

    def may_probe(self, now: datetime) -> bool:
        """Whether an open circuit lets one message through now."""
        last = self.probed_at or self.open_since
        return last is None or now - last >= timedelta(seconds=self.pause_seconds)

    def waits_until(self, now: datetime) -> datetime:
        """When a message that no provider takes is looked at again: the longer it lasts, the seldomer."""
        age = now - (self.open_since or now)
        return now + min(max(age / 4, PAUSE), timedelta(minutes=2))


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a provider since the last look."""

    kinds: tuple[Kind, ...] = ()
    receipts: int = 0
    late: int = 0
    codes: str = ""


def observe(state: State, seen: Seen, now: datetime) -> tuple[State, str | None]:
    """The state after what was seen, and why its circuit or share changed (None: they did not)."""
    state = replace(
        state,
        window_at=state.window_at or now,
        receipts=state.receipts + seen.receipts,
        late=state.late + seen.late,
    )
    why: str | None = None
    kinds = seen.kinds
    if not state.is_open and not _TROUBLE.intersection(kinds):  # the usual case, in one step
        fine = sum(kind is not Kind.THROTTLED for kind in kinds)
        state, kinds = replace(state, fine=state.fine + fine, in_a_row=0 if fine else state.in_a_row), ()
    for kind in kinds:
        state, reason = _outcome(state, kind, seen.codes, now)
        why = reason or why
    if state.window_at is not None and now - state.window_at >= WINDOW:
        state, reason = _window(state, now)
        why = reason or why
    return state, why


def _outcome(state: State, kind: Kind, codes: str, now: datetime) -> tuple[State, str | None]:
    if kind is Kind.THROTTLED:
        return state, None  # a limit of ours or theirs says nothing about its health
    if kind not in _TROUBLE:
        healed = replace(state, in_a_row=0, fine=state.fine + 1)
        if not state.is_open:
            return healed, None
        closed = replace(healed, open_since=None, probed_at=None, pause_seconds=PAUSE.total_seconds(), share=STEPS[0])
        return _fresh_window(closed, now), "a probe succeeded: closed, with a tenth of its share"
    state = replace(state, in_a_row=state.in_a_row + 1, trouble=state.trouble + 1)
    if state.is_open:
        longer = min(state.pause_seconds * 2, LONGEST_PAUSE.total_seconds())
        return replace(state, pause_seconds=longer), None
    if kind is Kind.BAD_ACCOUNT or state.in_a_row >= TROUBLE_IN_A_ROW:
        told = "the account was refused" if kind is Kind.BAD_ACCOUNT else f"{state.in_a_row} failures in a row"
        opened = replace(state, open_since=now, probed_at=None, pause_seconds=PAUSE.total_seconds())
        return opened, f"opened: {told} ({codes})"
    return state, None


def _window(state: State, now: datetime) -> tuple[State, str | None]:
    """Judge a window that is over, and begin the next."""
    total = state.fine + state.trouble
    fresh = _fresh_window(state, now)
    if state.is_open or total < FEWEST:
        return fresh if total >= FEWEST or state.is_open else replace(state, window_at=now), None
    errors = state.trouble / total
    lateness = state.late / state.receipts if state.receipts >= FEWEST else 0.0
    if errors >= VERY_BAD:
        target, why = STEPS[0], f"{errors:.0%} of {total} calls failed"
    elif errors >= BAD or lateness >= LATE_BAD:
        target = min(state.share, STEPS[1])
        why = f"{errors:.0%} of {total} calls failed" if errors >= BAD else f"{lateness:.0%} of receipts came late"
    elif errors <= GOOD and lateness <= LATE_BAD / 2:
        target, why = next((step for step in STEPS if step > state.share), 1.0), f"a good window ({total} calls)"
    else:
        return fresh, None
    return replace(
        fresh, share=target
    ), f"share {state.share:g} to {target:g}: {why}" if target != state.share else None


def _fresh_window(state: State, now: datetime) -> State:
    return replace(state, fine=0, trouble=0, receipts=0, late=0, window_at=now)
