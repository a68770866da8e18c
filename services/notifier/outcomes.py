"""What a provider's answer makes of a message. Pure.

| answer | message | again |
|---|---|---|
| accepted | `sent` | |
| throttled | `held` | after what the provider says; not a failed attempt |
| transient | `held`, then `failed` after `FAILURES` | with growing pauses and full jitter |
| unknown | `unknown` | looked up first where the provider can say; then only where a second copy is wanted or folded |
| bad_recipient, bad_message | `failed` | |
| capped_recipient | `held` | when the cap ends |
| bad_account | `held` | by another provider, or later |

A look-up that finds nothing makes sending again safe, whatever the event's class; one that cannot say is repeated twice.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec

from services.notifier.channels.base import Kind, Outcome
from services.notifier.rows import Row
from shared.playbook.messages import Provider

FAILURES = 5
UNKNOWNS = 3
LOOKS = 3
"""So often an unknown message is looked up before the event's class decides."""
LOOKED = "lookup "
"""Begins the outcome of an attempt that only asked."""
LOST = "sender_lost"
"""The code of an attempt whose sender died with it in hand."""
_PAUSES = (1.0, 4.0, 15.0, 60.0, 300.0)
_LEAST_PAUSE = 0.05
_CAP = timedelta(days=1)


class Answered(Protocol):
    """A call that was answered: the message as it was claimed, its epoch, and the provider that was called."""

    @property
    def row(self) -> Row: ...
    @property
    def epoch(self) -> int: ...
    @property
    def called(self) -> str: ...
    @property
    def provider(self) -> Provider: ...
    @property
    def can_look(self) -> bool: ...
    @property
    def look(self) -> bool: ...
    @property
    def carries(self) -> int: ...
    @property
    def polls(self) -> bool: ...


Answer = tuple[Answered, Outcome | None]
"""A call and what came of it; only a look-up may find nothing (None)."""


class Verdict(msgspec.Struct, frozen=True):
    """The message's state after an attempt; `retry_at` when it is tried again, `event` the noun's verb to append."""

    state: str
    reason: str | None
    retry_at: datetime | None
    failures: int
    event: str | None


def judge(row: Row, outcome: Outcome, now: datetime, jitter: float, *, can_look: bool = False) -> Verdict:
    """Decide about the answer of a call; `jitter` is a fresh random number in [0, 1), `can_look`: the provider has a query."""
    if outcome.kind is Kind.ACCEPTED:
        return Verdict("sent", None, None, row.failures, "sent")
    reason = ": ".join(part for part in (outcome.code, outcome.detail) if part) or None
    match outcome.kind:
        case Kind.THROTTLED:
            after = outcome.after or timedelta(seconds=1 + 4 * jitter)
            return Verdict("held", f"throttled {reason or ''}".strip(), now + min(after, _CAP), row.failures, None)
        case Kind.CAPPED_RECIPIENT:
            until = outcome.until or now + timedelta(minutes=10)
            return Verdict(
                "held", f"recipient's cap {reason or ''}".strip(), min(until, now + _CAP), row.failures, None
            )
        case Kind.UNKNOWN:
            return _unknown(row, outcome, now, reason, jitter, can_look)
        case Kind.TRANSIENT | Kind.BAD_ACCOUNT:
            return _again(row, outcome, now, reason, jitter)
    return Verdict("failed", f"{outcome.kind} {reason or ''}".strip(), None, row.failures + 1, "failed")


def judge_look(row: Row, found: Outcome | None, now: datetime, jitter: float) -> Verdict:
    """Decide about the answer of a look-up of an `unknown` message; None: it never arrived."""
    if found is None:
        return Verdict("held", "looked up: it never arrived", now + timedelta(seconds=jitter), row.failures, None)
    if found.kind is Kind.ACCEPTED:
        state = "sent" if found.state is None else str(found.state)
        return Verdict(state, None, None, row.failures, state)
    reason = f"looked up: {found.kind} {found.code} {found.detail}".strip()
    if found.kind in (Kind.BAD_RECIPIENT, Kind.BAD_MESSAGE):
        return Verdict("failed", reason, None, row.failures, "failed")
    looks = looked(row) + 1
    if looks < LOOKS:
        return Verdict("unknown", reason, now + timedelta(seconds=10 * looks * (0.5 + jitter)), row.failures, None)
    wanted = resend_safe(row) or row.on_unknown == "resend"
    if wanted and row.failures < UNKNOWNS:
        return Verdict("unknown", f"{reason}; sent again", now + timedelta(seconds=jitter), row.failures, None)
    return Verdict("unknown", reason, None, row.failures, None)


def looked(row: Row) -> int:
    """How often the last call was looked up."""
    count = 0
    for attempt in reversed(row.attempts):
        if not str(attempt.get("outcome", "")).startswith(LOOKED):
            return count
        count += 1
    return count


def resend_safe(row: Row) -> bool:
    """Whether the last call said that sending the same again makes no second copy."""
    return bool(_last_call(row).get("safe"))


def is_retry(row: Row) -> bool:
    """Whether sending now repeats what its provider failed at. What our own sender did not survive is none of its failures."""
    return row.failures > 0 and _last_call(row).get("code") != LOST


def _last_call(row: Row) -> dict[str, Any]:
    calls = (one for one in reversed(row.attempts) if not str(one.get("outcome", "")).startswith(LOOKED))
    return next(calls, {})


def _again(row: Row, outcome: Outcome, now: datetime, reason: str | None, jitter: float) -> Verdict:
    failures = row.failures + 1
    if failures >= FAILURES:
        return Verdict("failed", f"{outcome.kind} {reason or ''}".strip(), None, failures, "failed")
    most = _PAUSES[min(row.failures, len(_PAUSES) - 1)]
    pause = timedelta(seconds=max(_LEAST_PAUSE, most * jitter))
    retry_at = now + max(pause, min(outcome.after or timedelta(0), _CAP))
    return Verdict("held", reason, retry_at, failures, None)


def _unknown(row: Row, outcome: Outcome, now: datetime, reason: str | None, jitter: float, can_look: bool) -> Verdict:
    failures = row.failures + 1
    if can_look:
        return Verdict("unknown", reason, now + timedelta(seconds=3 + 4 * jitter), failures, "unknown")
    wanted = outcome.resend_safe or row.on_unknown == "resend"
    if wanted and failures < UNKNOWNS:
        return Verdict("unknown", reason, now + timedelta(seconds=max(_LEAST_PAUSE, 4 * jitter)), failures, "unknown")
    return Verdict("unknown", reason, None, failures, "unknown")


def lost(safe: bool) -> Outcome:
    """The answer of an attempt whose sender died with it in hand; `safe`: the provider folds a repeated id."""
    return Outcome(Kind.UNKNOWN, code=LOST, detail="the sender died before it recorded an answer", resend_safe=safe)
