"""A provider's circuit: opened by a bad account at once or by trouble in a row, probed after a pause. Pure; time is an argument."""

from __future__ import annotations

from dataclasses import dataclass

from services.notifier.channels.base import Kind

TROUBLE_IN_A_ROW = 8
OPEN_SECONDS = 5.0
MOST_OPEN_SECONDS = 60.0


@dataclass(slots=True)
class Breaker:
    """`allows` lets everything through while closed, one probe after each pause while open."""

    trouble: int = 0
    opened_at: float | None = None
    pause: float = OPEN_SECONDS
    probed_at: float | None = None

    def allows(self, now: float) -> bool:
        """Whether a call may be made; a call that is allowed while open is the probe."""
        if self.opened_at is None:
            return True
        last = self.opened_at if self.probed_at is None else self.probed_at
        if now - last < self.pause:
            return False
        self.probed_at = now
        return True

    def note(self, kind: Kind, now: float) -> None:
        """Learn from an outcome. What says something about the recipient or the message says the provider works."""
        if kind in (Kind.TRANSIENT, Kind.UNKNOWN, Kind.BAD_ACCOUNT):
            self.trouble += 1
            if self.opened_at is not None:
                self.pause = min(self.pause * 2, MOST_OPEN_SECONDS)
            elif kind is Kind.BAD_ACCOUNT or self.trouble >= TROUBLE_IN_A_ROW:
                self.opened_at, self.probed_at, self.pause = now, None, OPEN_SECONDS
        elif kind is not Kind.THROTTLED:
            self.trouble, self.opened_at, self.probed_at, self.pause = 0, None, None, OPEN_SECONDS

    def state(self, now: float) -> str:
        """`closed`, `open`, or `half_open` while a probe is out."""
        if self.opened_at is None:
            return "closed"
        return "half_open" if self.probed_at is not None and now - self.probed_at < self.pause else "open"
