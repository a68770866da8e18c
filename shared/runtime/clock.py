"""The machine's clock, for what never decides anything durable: logs, metrics, time-outs, sessions.

Business time comes from the database (`shared.ledger.business`); no worker's wall clock decides a due instant.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


def utc_now() -> datetime:
    """Wall-clock time of this machine, aware UTC."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds on a clock that never jumps, for time-outs and durations."""
    return time.monotonic()


def cpu_seconds() -> float:
    """User and system CPU seconds of this process."""
    return time.process_time()


def pause(seconds: float) -> None:
    """Sleep; only loops and supervisors call this."""
    time.sleep(seconds)
