"""An HTTP server that records every byte of every request and answers as a script says; it never de-duplicates."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TypeAlias

from tests.support.background import Background, reset


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request whose last byte arrived.

    Attributes:
        arrived_at: instant of the last byte, UTC; `arrived_monotonic` the same in seconds of `time.monotonic`.
        head: request line and headers exactly as sent; `body` the decoded body; `raw_body` as sent (with chunk frames).
        status: what it was answered; 0 when the connection was cut instead.
    """

    number: int
    arrived_at: datetime
    arrived_monotonic: float
    method: str
    path: str
    headers: Mapping[str, str]
    head: bytes
    raw_body: bytes
    body: bytes
    status: int

    @property
    def acknowledged(self) -> bool:
        """Whether the caller was sent a 2xx."""
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Answer:
    """How to answer: after `delay_seconds`; `cut` resets the connection after the request's body instead of answering."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    delay_seconds: float = 0.0
    cut: bool = False


Script: TypeAlias = Answer | Callable[[HttpRequest], Answer]


class HttpSink(Background):
    """Listens on `host:port`; `script()` says what a path answers, everything else gets 200 with `{}`."""

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.requests: list[HttpRequest] = []
        self.connections = 0
        self._next: dict[str, deque[Answer]] = {}
        self._always: dict[str, Script] = {}

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def script(self, path: str, *answers: Answer, then: Script | None = None) -> None:
        """Answer the next requests whose path begins with `path` in this order, and later ones by `then` (default: 200).

        The longest scripted path that fits counts. A function as `then` sees the request (its `status` still 0).
        """
        self._next[path] = deque(answers)
        self._always[path] = then or Answer()

    def to(self, path: str) -> list[HttpRequest]:
        """What has come for paths that begin with `path`, in order of arrival."""
        return [one for one in self.requests if one.path.startswith(path)]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise
                return
            line, *lines = head[:-4].decode("latin-1").split("\r\n")
            method, path, _ = line.split(" ", 2)
            pairs = (one.partition(":") for one in lines)
            headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
            if headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            raw_body, body = await _body(reader, headers)
            seen = HttpRequest(
                len(self.requests) + 1,
                datetime.now(UTC),
                time.monotonic(),
                method,
                path,
                headers,
                head,
                raw_body,
                body,
                0,
            )
            if not await self._reply(seen, writer) or headers.get("connection", "").lower() == "close":
                return

    async def _reply(self, seen: HttpRequest, writer: asyncio.StreamWriter) -> bool:
        answer = self._answer(seen)
        status = 0 if answer.cut else answer.status
        index = len(self.requests)
        self.requests.append(_with(seen, index + 1, status))
        if answer.delay_seconds:
            await asyncio.sleep(answer.delay_seconds)
        if answer.cut:
            reset(writer)
            return False
        reason = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in answer.headers.items())]
        lines += [f"content-length: {len(answer.body)}", "", ""]
        writer.write("\r\n".join(lines).encode("latin-1") + answer.body)
        await writer.drain()
        return True

    def _answer(self, seen: HttpRequest) -> Answer:
        fitting = [path for path in self._always if seen.path.startswith(path)]
        if not fitting:
            return Answer()
        path = max(fitting, key=len)
        if self._next[path]:
            return self._next[path].popleft()
        always = self._always[path]
        return always if isinstance(always, Answer) else always(seen)


def _with(seen: HttpRequest, number: int, status: int) -> HttpRequest:
    return HttpRequest(
        number,
        seen.arrived_at,
        seen.arrived_monotonic,
        seen.method,
        seen.path,
        seen.headers,
        seen.head,
        seen.raw_body,
        seen.body,
        status,
    )


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> tuple[bytes, bytes]:
    """The body as sent and as meant."""
    if "chunked" not in headers.get("transfer-encoding", "").lower():
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return body, body
    raw, meant = bytearray(), bytearray()
    while True:
        size_line = await reader.readline()
        size = int(size_line.partition(b";")[0], 16)
        chunk = await reader.readexactly(size + 2)
        raw += size_line + chunk
        meant += chunk[:-2]
        if size == 0:
            return bytes(raw), bytes(meant)
