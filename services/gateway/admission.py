"""How much intake may be under way at once, so that overload is refused at the door instead of being answered late.

The limit finds itself: while answers come in good time it grows as long as it is reached, and shrinks when they do not. Ordinary
tickets are refused at the limit, urgent ones at twice that.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.gateway.errors import Problem
from shared.runtime.clock import monotonic

TARGET_SECONDS = 0.5
"""Answers later than this mean that too much is under way."""
LEAST, MOST = 64, 4_096
SHRINK = 0.9
SHRINK_EVERY_SECONDS = 0.1
RETRY_AFTER = "1"


def overloaded() -> Problem:
    """503, to be tried again soon."""
    return Problem(503, "overloaded", "more comes in than can be taken now", headers={"Retry-After": RETRY_AFTER})


@dataclass(slots=True)
class Admission:
    """Counts requests of the event loop's thread."""

    limit: float = 512.0
    under_way: int = 0
    _shrunk_at: float = 0.0

    @property
    def reached(self) -> bool:
        """Only urgent tickets may pass."""
        return self.under_way >= self.limit

    @property
    def full(self) -> bool:
        """Nothing may pass."""
        return self.under_way >= 2 * self.limit

    def admit(self, *, urgent: bool) -> float:
        """Let one in and return when it came; raises 503. `leave` has to follow."""
        if self.under_way >= self.limit * (2 if urgent else 1):
            raise overloaded()
        self.under_way += 1
        return monotonic()

    def leave(self, came_at: float) -> None:
        """One is answered; what it took moves the limit."""
        now = monotonic()
        if now - came_at > TARGET_SECONDS:
            if now - self._shrunk_at > SHRINK_EVERY_SECONDS:
                self._shrunk_at = now
                self.limit = max(LEAST, min(self.limit, self.under_way) * SHRINK)
        elif self.under_way > self.limit * 0.8:
            self.limit = min(MOST, self.limit + 0.5)
        self.under_way -= 1
