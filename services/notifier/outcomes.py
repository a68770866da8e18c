"""What a provider's answer makes of a message. Pure.

| answer | message | again |
|---|---|---|
| accepted | `sent` | |
| throttled | `held` | after what the provider says; not a failed attempt |
| transient | `held`, then `failed` after `FAILURES` | with growing pauses and full jitter |
| unknown | `unknown` | only where a second copy is better than none, or the provider folds it |
| bad_recipient, bad_message | `failed` | |
| capped_recipient | `held` | when the cap ends |
| bad_account | `held` | by another provider, or later |
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.notifier.channels.base import Kind, Outcome
from services.notifier.store import Row

FAILURES = 5
UNKNOWNS = 3
_PAUSES = (1.0, 4.0, 15.0, 60.0, 300.0)
_CAP = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The message's state after an attempt; `retry_at` when it is tried again, `event` the noun's verb to append."""

    state: str
    reason: str | None
    retry_at: datetime | None
    failures: int
    event: str | None
    avoid: bool = False
    """Try another provider."""


def judge(row: Row, outcome: Outcome, now: datetime, jitter: float) -> Verdict:
    """Decide; `jitter` is a fresh random number in [0, 1)."""
    reason = ": ".join(part for part in (outcome.code, outcome.detail) if part) or None
    match outcome.kind:
        case Kind.ACCEPTED:
            return Verdict("sent", None, None, row.failures, "sent")
        case Kind.THROTTLED:
            after = outcome.after or timedelta(seconds=1 + 4 * jitter)
            return Verdict("held", f"throttled {reason or ''}".strip(), now + min(after, _CAP), row.failures, None)
        case Kind.CAPPED_RECIPIENT:
            until = outcome.until or now + timedelta(minutes=10)
            return Verdict(
                "held", f"recipient's cap {reason or ''}".strip(), min(until, now + _CAP), row.failures, None
            )
        case Kind.UNKNOWN:
            return _unknown(row, outcome, now, reason, jitter)
        case Kind.TRANSIENT | Kind.BAD_ACCOUNT:
            return _again(row, outcome, now, reason, jitter)
    return Verdict("failed", f"{outcome.kind} {reason or ''}".strip(), None, row.failures + 1, "failed")


def _again(row: Row, outcome: Outcome, now: datetime, reason: str | None, jitter: float) -> Verdict:
    failures = row.failures + 1
    if failures >= FAILURES:
        return Verdict("failed", f"{outcome.kind} {reason or ''}".strip(), None, failures, "failed")
    pause = timedelta(seconds=_PAUSES[min(row.failures, len(_PAUSES) - 1)] * (0.1 + 0.9 * jitter))
    retry_at = now + max(pause, min(outcome.after or timedelta(0), _CAP))
    return Verdict("held", reason, retry_at, failures, None, avoid=outcome.kind is Kind.BAD_ACCOUNT)


def _unknown(row: Row, outcome: Outcome, now: datetime, reason: str | None, jitter: float) -> Verdict:
    failures = row.failures + 1
    wanted = outcome.resend_safe or row.on_unknown == "resend"
    if wanted and failures < UNKNOWNS:
        return Verdict("unknown", reason, now + timedelta(seconds=1 + 4 * jitter), failures, "unknown")
    return Verdict("unknown", reason, None, failures, "unknown")


def lost(row: Row) -> Outcome:
    """The answer of an attempt whose sender died with it in hand."""
    return Outcome(Kind.UNKNOWN, code="sender_lost", detail="the sender died before it recorded an answer")
