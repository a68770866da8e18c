"""Giving way: a process's other lanes wait a moment for urgent work in hand, and take little at once while more keeps coming.

An urgent ticket waits for whoever holds what it needs: the loads of the people it might be given to, held by a batch of ordinary
tickets until its commit, and the interpreter. Both waits are as long as that batch. So ordinary batches are short for as long as
urgent work was in hand not long ago, none begins while an urgent one runs, and a long one that is in hand when the first urgent
work comes is given up: rolled back, and begun again as a short one. Ordinary work goes on all the same: nobody waits longer than
`WAIT_SECONDS` before a batch, and only a batch that began after `RECENT_SECONDS` without urgent work is given up.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shared.runtime.clock import monotonic

WAIT_SECONDS = 0.05
RECENT_SECONDS = 2.0
BATCH_SECONDS = 0.015
"""What an ordinary batch may take while urgent work keeps coming."""
LEAST = 10
"""Items; smaller batches would cost far more than they save."""


class GaveWay(Exception):
    """No failure: a long batch was given up for urgent work, and is to be begun again as a short one."""


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

    def came(self) -> None:
        """An urgent lane has claimed some."""
        self._last = monotonic()

    @property
    def recent(self) -> bool:
        """Was there some not long ago?"""
        return monotonic() - self._last <= RECENT_SECONDS

    def yield_if_came(self, started: float) -> None:
        """Asked in the middle of a long batch: raises `GaveWay` when urgent work came since it `started`."""
        if self._last > started:
            raise GaveWay

    def give(self) -> None:
        """Let urgent work in hand end first; returns after `WAIT_SECONDS` in any case."""
        if self._in_hand:
            with self._changed:
                self._changed.wait_for(lambda: not self._in_hand, WAIT_SECONDS)

    def limit(self, size: int, each_seconds: float) -> int:
        """How many items an ordinary batch takes now, of the `size` that it would; `each_seconds` is what one cost last time."""
        if not self.recent:
            return size
        return min(size, max(LEAST, int(BATCH_SECONDS / max(each_seconds, 1e-6))))
