"""Giving way: a process's other lanes wait a moment for urgent work in hand, and take little at once while more keeps coming.

An urgent ticket waits for whoever holds what it needs: the loads of the people it might be given to, held by a batch of ordinary
tickets until its commit, and the interpreter. Both waits are as long as that batch. So ordinary batches are short for as long as
urgent work was in hand not long ago, and none begins while an urgent one runs. Ordinary work goes on all the same: nobody waits
longer than `WAIT_SECONDS` before a batch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shared.runtime.clock import monotonic

WAIT_SECONDS = 0.05
RECENT_SECONDS = 2.0
BATCH_SECONDS = 0.025
"""What an ordinary batch may take while urgent work keeps coming."""
LEAST = 20
"""Items; smaller batches would cost far more than they save."""


@dataclass(slots=True)
class Way:
    """What the lanes of one process know of its urgent work. Threads share one."""

    _changed: threading.Condition = field(default_factory=threading.Condition)
    _in_hand: int = 0
    _last: float = float("-inf")

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Urgent work is looked for, and done, inside."""
        with self._changed:
            self._in_hand += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_hand -= 1
                self._changed.notify_all()

    def worked(self) -> None:
        """There was some."""
        self._last = monotonic()

    def give(self) -> None:
        """Let urgent work in hand end first; returns after `WAIT_SECONDS` in any case."""
        if self._in_hand:
            with self._changed:
                self._changed.wait_for(lambda: not self._in_hand, WAIT_SECONDS)

    def limit(self, size: int, each_seconds: float) -> int:
        """How many items an ordinary batch takes now, of the `size` that it would; `each_seconds` is what one cost last time."""
        if monotonic() - self._last > RECENT_SECONDS:
            return size
        return min(size, max(LEAST, int(BATCH_SECONDS / max(each_seconds, 1e-6))))
