"""A circuit breaker: after so many failures in a row nobody is asked for a while, then one question tries."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

FAILURES = 5
OPEN_SECONDS = 30.0


@dataclass(slots=True)
class Breaker:
    """One outside system's. Instants are seconds of a monotonic clock. Threads may share one."""

    failures: int = 0
    opened_at: float | None = None
    trying: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def allows(self, at: float) -> bool:
        """May a question be asked now? From the half-open state only one is let through until it is answered."""
        with self._lock:
            if self.opened_at is None:
                return True
            if at - self.opened_at < OPEN_SECONDS or self.trying:
                return False
            self.trying = True
            return True

    def is_open(self, at: float) -> bool:
        """Would a question be refused now? Unlike `allows` this tries nothing."""
        with self._lock:
            return self.opened_at is not None and (at - self.opened_at < OPEN_SECONDS or self.trying)

    def note(self, succeeded: bool, at: float) -> None:
        """What came of a question."""
        with self._lock:
            self.trying = False
            if succeeded:
                self.failures, self.opened_at = 0, None
                return
            self.failures += 1
            if self.failures >= FAILURES:
                self.opened_at = at
