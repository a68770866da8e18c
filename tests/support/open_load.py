"""Open-loop load over raw sockets: requests leave when they are due, whatever became of those before. Cheap for the sender.

A request that is due while all connections are busy waits for one, and its latency counts from its due instant, so that a server
that stalls cannot hide it. Nothing is sent again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import orjson


@dataclass(slots=True)
class Kind:
    """Answers to one kind of request: how many by status (0: none in time), and seconds from the due instant to each 2xx."""

    statuses: Counter[int] = field(default_factory=Counter)
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    without_retry_after: int = 0

    def quantile(self, share: float) -> float:
        """The latency of acceptance that this share did not exceed; 0 when nothing was accepted."""
        ordered = sorted(self.accepted)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


@dataclass(slots=True)
class Outcome:
    """What a load came to, by kind of request."""

    kinds: dict[str, Kind]
    seconds: float

    def goodput(self, *names: str) -> float:
        """Accepted per second, of these kinds or all."""
        wanted = names or tuple(self.kinds)
        return sum(len(self.kinds[name].accepted) for name in wanted) / self.seconds


Make = Callable[[int], tuple[str, dict[str, object]]]
"""The kind and the ticket of a number."""


def offer(
    url: str, key: str, make: Make, *, rate: float | None, seconds: float, connections: int = 64, patience: float = 10.0
) -> Outcome:
    """Post tickets at a rate (None: as fast as the connections are answered) for so long, then wait for answers. Blocks."""
    return asyncio.run(_Load(url, key, make, rate, seconds, patience).run(connections))


class _Load:
    def __init__(self, url: str, key: str, make: Make, rate: float | None, seconds: float, patience: float) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._head = (
            f"POST /v1/tickets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        ).encode()
        self._make, self._rate, self._seconds, self._patience = make, rate, seconds, patience
        self._due: deque[tuple[float, str, bytes]] = deque()
        self._wake = asyncio.Event()
        self._over = False
        self._kinds: dict[str, Kind] = {}
        self._number = 0

    async def run(self, connections: int) -> Outcome:
        streams = await asyncio.gather(*(asyncio.open_connection(self._host, self._port) for _ in range(connections)))
        began = time.monotonic()
        self._end = began + self._seconds
        async with asyncio.TaskGroup() as group:
            for stream in streams:
                group.create_task(self._connection(*stream))
            if self._rate is not None:
                group.create_task(self._fill(began, self._rate))
        return Outcome(self._kinds, time.monotonic() - began)

    async def _fill(self, began: float, rate: float) -> None:
        sent = 0
        while (now := time.monotonic()) < self._end:
            while sent < (now - began) * rate:
                self._due.append((began + sent / rate, *self._request()))
                sent += 1
            self._wake.set()
            await asyncio.sleep(0.002)
        self._over = True
        self._wake.set()

    def _request(self) -> tuple[str, bytes]:
        self._number += 1
        kind, ticket = self._make(self._number)
        body = orjson.dumps(ticket)
        return kind, self._head + b"Content-Length: %d\r\n\r\n" % len(body) + body

    async def _next(self) -> tuple[float, str, bytes] | None:
        if self._rate is None:
            now = time.monotonic()
            return (now, *self._request()) if now < self._end else None
        while not self._due:
            if self._over:
                return None
            self._wake.clear()
            await self._wake.wait()
        return self._due.popleft()

    async def _connection(self, reader: asyncio.StreamReader | None, writer: asyncio.StreamWriter | None) -> None:
        while (one := await self._next()) is not None:
            due, kind, data = one
            counted = self._kinds.setdefault(kind, Kind())
            if time.monotonic() - due > self._patience:
                counted.statuses[0] += 1
                continue
            try:
                if reader is None or writer is None:
                    reader, writer = await asyncio.open_connection(self._host, self._port)
                writer.write(data)
                status, retry_after = await asyncio.wait_for(_answer(reader), self._patience)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                counted.statuses[0] += 1
                if writer is not None:
                    writer.close()
                reader = writer = None
                continue
            counted.statuses[status] += 1
            took = time.monotonic() - due
            if status < 300:
                counted.accepted.append(took)
            else:
                counted.refused.append(took)
                counted.without_retry_after += not retry_after
        if writer is not None:
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, _, rest = head.partition(b"\r\ncontent-length: ")
    await reader.readexactly(int(rest.partition(b"\r\n")[0]))
    return int(head[9:12]), b"\r\nretry-after: " in head
