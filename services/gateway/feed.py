"""The settled end of the log for everybody who waits for topic events in this gateway; looked at only while somebody does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sqlalchemy import Connection

from shared.ledger.reader import Tail
from shared.runtime.clock import monotonic

LOOK_SECONDS = 0.1

Query = Callable[[Callable[[Connection], int]], Awaitable[int]]


@dataclass(slots=True)
class Feed:
    """One look at the log serves all who ask within `LOOK_SECONDS`. `streams` counts open event streams."""

    tail: Tail = field(default_factory=Tail)
    streams: int = 0
    _looked_at: float = -1e9
    _look: asyncio.Future[int] | None = None

    async def settled(self, query: Query) -> int:
        """The settled position, at most `LOOK_SECONDS` old."""
        if monotonic() - self._looked_at < LOOK_SECONDS:
            return self.tail.position
        if self._look is None or self._look.done():
            self._look = asyncio.ensure_future(query(self.tail.look))
        position = await asyncio.shield(self._look)
        self._looked_at = monotonic()
        return position

    async def beyond(self, query: Query, after: int, seconds: float) -> int:
        """The settled position as soon as it is beyond `after`, or as it is after that many seconds."""
        deadline = monotonic() + seconds
        while (until := await self.settled(query)) <= after and (left := deadline - monotonic()) > 0:
            await asyncio.sleep(min(LOOK_SECONDS, left))
        return until
