"""A TCP proxy that does to a connection what networks do: delay, silence, refusal, reset, slowness, a lost answer.

Faults may be set at any time, from any thread, and hold for existing and new connections until `heal()`.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.support.background import Background, reset

_CHUNK = 65_536
_PIECES_IN_FLIGHT = 256


@dataclass(slots=True, eq=False)
class _Link:
    """One proxied connection."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    to_client: int = 0
    reply_is_lost: bool = False
    recent: bytes = b""

    def reset(self) -> None:
        reset(self.client)
        reset(self.server)


class FaultProxy(Background):
    """Forwards to `target` (`host:port`, or an URL whose host and port count).

    Attributes that may be set at any time:
        latency_seconds: each direction is late by this much (throughput is kept).
        bytes_per_second: speed of each direction of each connection; None = unlimited.
        cut_after_bytes: a connection is reset once this many bytes went to its client; None = never. The last bytes arrive.
    """

    def __init__(self, target: str, *, port: int = 0) -> None:
        super().__init__(port=port)
        parts = urlsplit(target if "://" in target else f"tcp://{target}")
        self._target = (parts.hostname or "127.0.0.1", parts.port or 0)
        self.latency_seconds = 0.0
        self.bytes_per_second: float | None = None
        self.cut_after_bytes: int | None = None
        self.connections = 0
        self.lost_replies = 0
        self._links: set[_Link] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._lose: bytes | None = None
        self._losses_left = 0
        self._lock = threading.Lock()

    def url(self, original: str) -> str:
        """The same URL with this proxy's host and port, user and path kept."""
        parts = urlsplit(original)
        user, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}{at}{self.host}:{self.port}").geturl()

    @property
    def open_connections(self) -> int:
        return len(self._links)

    # ---- faults -----------------------------------------------------------------------------------------------------------

    def black_hole(self) -> None:
        """Nothing passes in either direction, nobody is told. Bytes on their way arrive after `heal()`, as TCP's would."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def refuse(self) -> None:
        """New connections are refused by the kernel, existing ones are reset: the target's process is gone."""
        self.call(self._unlisten())
        self.reset_all()

    def reset_all(self) -> None:
        """Reset every connection of this moment; new ones work."""
        self.call(self._reset_all())

    def lose_reply(self, match: bytes, *, times: int = 1) -> None:
        """When a client sends `match`, let the server take it and answer, drop the answer and reset the connection.

        The request has taken effect and the caller cannot know. The match is found across packets; the first `times` requests
        are struck, counted by `lost_replies`.
        """
        with self._lock:
            self._lose, self._losses_left = match, times

    def heal(self) -> None:
        """All faults off."""
        self.latency_seconds, self.bytes_per_second, self.cut_after_bytes = 0.0, None, None
        self.lose_reply(b"", times=0)
        self._loop.call_soon_threadsafe(self._open.set)
        if self._server is None:
            self.call(self._listen())

    # ---- forwarding -------------------------------------------------------------------------------------------------------

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await self._open.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            reset(writer)
            return
        link = _Link(writer, far_writer)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(link, reader, far_writer, from_client=True))
                group.create_task(self._pump(link, far_reader, writer, from_client=False))
        except* OSError:
            link.reset()  # one side broke: the other hears of it in the same way
        finally:
            self._links.discard(link)
            far_writer.close()

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool
    ) -> None:
        """One direction: a reader that stamps each piece with its instant of delivery, a writer that keeps to it."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PIECES_IN_FLIGHT)

        async def deliver() -> None:
            while True:
                due, data = await pieces.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                await self._open.wait()
                if not data:
                    writer.write_eof()
                    return
                if self.bytes_per_second:
                    await asyncio.sleep(len(data) / self.bytes_per_second)
                await self._forward(link, writer, data, from_client=from_client)

        async def collect() -> None:
            data = b"-"
            while data:
                data = await reader.read(_CHUNK)
                await pieces.put((self._loop.time() + self.latency_seconds, data))

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            group.create_task(collect())

    async def _forward(self, link: _Link, writer: asyncio.StreamWriter, data: bytes, *, from_client: bool) -> None:
        if from_client:
            self._look(link, data)
        elif link.reply_is_lost:
            self.lost_replies += 1
            raise ConnectionResetError
        else:
            link.to_client += len(data)
            limit = self.cut_after_bytes
            if limit is not None and link.to_client >= limit:
                writer.write(data[: len(data) - (link.to_client - limit)])
                await writer.drain()
                await asyncio.sleep(0.02)  # a reset overtakes bytes which the receiver has not read yet
                raise ConnectionResetError
        writer.write(data)
        await writer.drain()

    def _look(self, link: _Link, data: bytes) -> None:
        with self._lock:
            match = self._lose
            if not match or self._losses_left <= 0 or link.reply_is_lost:
                return
            seen = link.recent + data
            link.recent = seen[-(len(match) - 1) :] if len(match) > 1 else b""
            if match in seen:
                link.reply_is_lost = True
                self._losses_left -= 1

    async def _reset_all(self) -> None:
        for link in tuple(self._links):
            link.reset()
