"""A fake provider: a small HTTP/1.1 server on 127.0.0.1 that records, checks, throttles, fails, delays and cuts on demand.

Written apart from the drivers' own client, so that one mistake cannot hide in both. A fake runs in the loop of its
test (`async with fake`) or, for tests in other threads or processes, in a thread of its own (`with
fake.in_thread()`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as it came. Header names are lower case."""

    method: str
    path: str
    raw_query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.raw_query, keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered: JSON unless `raw` is given."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """A message the provider accepted: to whom, with which id of the provider, and what it said."""

    address: str
    provider_id: str
    content: str
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class ReceiptRequest:
    """A receipt or callback as the provider would send it to our gateway."""

    query: str
    headers: Mapping[str, str]
    body: bytes


class Window:
    """A real throttle: at most `count` in any `seconds`."""

    def __init__(self, count: int, seconds: float) -> None:
        self.count, self.seconds = count, seconds
        self.hits: deque[float] = deque()

    def admit(self, now: float) -> bool:
        while self.hits and self.hits[0] <= now - self.seconds:
            self.hits.popleft()
        if len(self.hits) >= self.count:
            return False
        self.hits.append(now)
        return True


class FakeProvider:
    """Base of the HTTP fakes. Subclasses give `handle`; `errors` lists every documented code with the outcome it must
    become.
    """

    errors: ClassVar[Mapping[str, str]] = {}
    throttle_code: ClassVar[str] = ""

    def __init__(self) -> None:
        self.recorded: list[Recorded] = []
        self.taken: list[Taken] = []
        self.refused_signatures = 0
        self.connections = 0
        self.delay_seconds = 0.0
        self.cut_after_body = 0  # so many requests are read and acted on, and the connection is cut instead of answered
        self.scripted: deque[Answer] = deque()  # answered before anything else, without acting
        self.error_of_address: dict[str, str] = {}
        self.next_errors: deque[str] = deque()
        self.window: Window | None = None
        self.url = ""
        self._server: asyncio.Server | None = None
        self._ids = 0
        self._writers: set[asyncio.StreamWriter] = set()

    # what subclasses use

    def handle(self, request: Recorded) -> Answer:
        raise NotImplementedError

    def new_id(self) -> int:
        self._ids += 1
        return self._ids

    def throttled(self) -> bool:
        """Whether the real window is full, counting this call."""
        return self.window is not None and not self.window.admit(time.monotonic())

    def error_for(self, address: str) -> str | None:
        """The code this call or address must be answered with, if any."""
        if self.next_errors:
            return self.next_errors.popleft()
        return self.error_of_address.get(address)

    # running

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[Self]:
        """Run in a thread with a loop of its own until the block ends."""
        started, stop = threading.Event(), asyncio.Event()
        loops: list[asyncio.AbstractEventLoop] = []

        async def main() -> None:
            async with self:
                loops.append(asyncio.get_running_loop())
                started.set()
                await stop.wait()

        thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
        thread.start()
        if not started.wait(10):
            raise RuntimeError("the fake did not start")
        try:
            yield self
        finally:
            loops[0].call_soon_threadsafe(stop.set)
            thread.join(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        try:
            while (request := await self._read(reader)) is not None:
                self.recorded.append(request)
                answer = self.scripted.popleft() if self.scripted else self.handle(request)
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                if self.cut_after_body > 0:
                    self.cut_after_body -= 1
                    writer.transport.abort()
                    return
                writer.write(self._render(answer))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Recorded | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        parts = urlsplit(target)
        return Recorded(method, parts.path, parts.query, headers, body)

    def _render(self, answer: Answer) -> bytes:
        body = answer.raw if answer.raw is not None else json.dumps(answer.body, ensure_ascii=False).encode()
        lines = [f"HTTP/1.1 {answer.status} X", "content-type: application/json", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
