"""A small pooled HTTP/1.1 client that knows whether a request was written.

Two things the usual clients do not give: an error that says if the request had left (`NotWritten` may be sent again
at once, `NoAnswer` may not), and a call for tens of microseconds instead of hundreds. It never follows redirects,
never pipelines, never retries.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
from httptools import HttpParserError, HttpResponseParser

from services.notifier.errors import BadReply, ConfigError, NoAnswer, NotWritten

MAX_ANSWER_BYTES = 1 << 20
IDLE_SECONDS = 15.0  # shorter than what servers usually keep, so that a kept connection is rarely found closed

_decode = msgspec.json.Decoder().decode


class Response(msgspec.Struct, frozen=True, gc=False):
    """One answer; header names are lower case, a repeated header keeps its last value."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; raises `BadReply` when it is anything else."""
        try:
            value = _decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadReply(f"HTTP {self.status}: not JSON") from error
        if not isinstance(value, dict):
            raise BadReply(f"HTTP {self.status}: not a JSON object")
        return value

    def header(self, name: bytes) -> str:
        """A header's value, empty when absent."""
        return self.headers.get(name, b"").decode("latin-1")


class Origin(msgspec.Struct, frozen=True):
    """Where connections go: scheme, host and port, and the one address to use when it was checked and pinned."""

    tls: bool
    host: str
    port: int
    pinned: str | None = None

    @property
    def authority(self) -> str:
        """The `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


@lru_cache(4096)
def split_url(url: str) -> tuple[Origin, str]:
    """An http(s) URL as its origin and its path with the query; raises `ConfigError` for anything else, also for user
    info.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise ConfigError("a URL is http(s)://host[:port][/path], without user or password")
    tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Origin(tls, parts.hostname, port or (443 if tls else 80)), path


class Connection(asyncio.Protocol):
    """One kept connection with at most one request in flight."""

    __slots__ = (
        "_answer",
        "_body",
        "_deadline",
        "_framed",
        "_headers",
        "_loop",
        "_parser",
        "_size",
        "_timer",
        "_timer_at",
        "closed",
        "idle_since",
        "reusable",
        "transport",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parser = HttpResponseParser(self)
        self._answer: asyncio.Future[Response] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        """Outlives its request: the next one only moves the deadline. A timer set and cancelled costs a fifth of a request."""
        self._timer_at = 0.0
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._framed = True
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self.reusable = True
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def exchange(self, request: bytes, timeout: float) -> asyncio.Future[Response]:
        """Write one request; the future has its response, or fails with `NotWritten` or `NoAnswer` within `timeout`
        seconds.
        """
        transport = self.transport
        if transport is None or self.closed or transport.is_closing():
            raise NotWritten("connection closed")
        self._answer = answer = self._loop.create_future()
        self._headers, self._body, self._size, self._framed = {}, [], 0, False
        self._deadline = deadline = self._loop.time() + timeout
        if self._timer is None or self._timer_at > deadline:
            self._arm(deadline)
        transport.write(request)
        return answer

    def _arm(self, at: float) -> None:
        self._disarm()
        self._timer, self._timer_at = self._loop.call_at(at, self._expired), at

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        assert self.transport is not None
        self._timer = None
        if self._answer is None:
            return
        if self._deadline > self._timer_at:  # another request than the one it was set for
            self._arm(self._deadline)
            return
        unsent = self.transport.get_write_buffer_size()
        self._fail(NotWritten("timed out while writing") if unsent else NoAnswer("timed out waiting for the answer"))

    def _fail(self, error: Exception) -> None:
        self.reusable = False
        answer, self._answer = self._answer, None
        self._disarm()
        if answer is not None and not answer.done():
            answer.set_exception(error)
        self.abort()

    def abort(self) -> None:
        """Drop the connection at once."""
        self.reusable = False
        if self.transport is not None and not self.closed:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._answer is None:  # nobody asked: a server that talks first is not one to reuse
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            self._fail(NoAnswer("the answer is not HTTP"))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.reusable = False
        if self._answer is None:
            self._disarm()
            return
        if exc is None and self._headers and not self._framed:
            self._finish()  # a body that ends with the connection
        else:
            self._fail(NoAnswer("connection lost before the answer"))

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self._answer is None:  # a second answer to one request: whose would the next one be?
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        headers = self._headers
        self._framed = b"content-length" in headers or b"transfer-encoding" in headers

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > MAX_ANSWER_BYTES:
            self._fail(NoAnswer("the answer is too large"))
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200:  # an interim answer: the real one follows
            self._headers = {}
            return
        self.reusable = self.reusable and self._parser.should_keep_alive()
        self._finish()

    def _finish(self) -> None:
        answer, self._answer = self._answer, None
        if self.closed:
            self._disarm()
        if answer is not None and not answer.done():
            answer.set_result(Response(self._parser.get_status_code(), self._headers, b"".join(self._body)))


class Pool:
    """Kept connections to one origin, at most `limit` open; the last used is taken first, so that idle ones age and
    close.
    """

    __slots__ = ("_connect_seconds", "_context", "_idle", "_limit", "_loop", "_open", "_origin", "_waiting")

    def __init__(self, origin: Origin, limit: int, connect_seconds: float, context: ssl.SSLContext | None) -> None:
        self._origin = origin
        self._limit = limit
        self._connect_seconds = connect_seconds
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._idle: deque[Connection] = deque()
        self._open = 0
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()

    def take(self) -> Connection | None:
        """A live idle connection, or none."""
        horizon = self._loop.time() - IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and connection.idle_since >= horizon:
                return connection
            self._open -= 1
            connection.abort()
        return None

    async def acquire(self, timeout: float) -> Connection:
        """An idle connection, a new one, or the next that is given back; raises `NotWritten` when none came in time."""
        connection = self.take()
        if connection is not None:
            return connection
        if self._open >= self._limit:
            connection = await self._wait(timeout)  # none: a place to open one in
            if connection is not None:
                return connection
        else:
            self._open += 1
        try:
            return await self._connect()
        except BaseException:
            self._leave()
            raise

    async def _wait(self, timeout: float) -> Connection | None:
        turn: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiting.append(turn)
        try:
            await asyncio.wait((turn,), timeout=timeout)
        except asyncio.CancelledError:
            if turn.done():  # handed over in the same instant: give it on
                self.release(turn.result())
            turn.cancel()
            raise
        if turn.done():
            return turn.result()
        turn.cancel()
        raise NotWritten("no free connection in time")

    async def _connect(self) -> Connection:
        origin = self._origin
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self._loop),
                    origin.pinned or origin.host,
                    origin.port,
                    ssl=self._context if origin.tls else None,
                    server_hostname=origin.host if origin.tls else None,
                )
        except TimeoutError:
            raise NotWritten("timed out connecting") from None
        except (OSError, ssl.CertificateError) as error:
            raise NotWritten(f"cannot connect: {error.strerror or type(error).__name__}") from error
        return connection

    def release(self, connection: Connection | None) -> None:
        """Give a connection back; one that cannot be used again makes room for a new one."""
        if connection is None or not connection.reusable:
            if connection is not None:
                connection.abort()
            self._leave()
            return
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)

    def _leave(self) -> None:
        """One place is free: the next in the queue may open a connection in it."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._open -= 1

    def close(self) -> None:
        """Close idle connections; those in use close when their request ends."""
        while self._idle:
            self._open -= 1
            self._idle.pop().abort()


class HttpClient:
    """Pools by origin, in one event loop. `limit` bounds the connections of each origin."""

    def __init__(self, *, limit: int = 64, connect_seconds: float = 5.0, context: ssl.SSLContext | None = None) -> None:
        self._limit = limit
        self._connect_seconds = connect_seconds
        self._context = context
        self._pools: dict[Origin, Pool] = {}

    async def request(
        self, origin: Origin, method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes, timeout: float
    ) -> Response:
        """One request and its answer.

        Raises `NotWritten` when it may be sent again, `NoAnswer` when the server may have acted on it. `timeout` is
        in seconds, for the answer and, separately, for a free connection.
        """
        data = render_request(origin, method, path, headers, body)
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = self._new_pool(origin)
        connection = pool.take() or await pool.acquire(timeout)
        try:
            return await connection.exchange(data, timeout)
        except BaseException:
            connection.abort()
            raise
        finally:
            pool.release(connection)

    def _new_pool(self, origin: Origin) -> Pool:
        if origin.tls and self._context is None:
            self._context = ssl.create_default_context()
        if len(self._pools) >= 1024:  # webhooks have many hosts: forget the longest known
            self._pools.pop(next(iter(self._pools))).close()
        return Pool(origin, self._limit, self._connect_seconds, self._context)

    async def close(self) -> None:
        """Close every idle connection."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()


def render_request(origin: Origin, method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """The bytes of a request; raises `ConfigError` when a header or path would break out of its line."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {origin.authority}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    head = "\r\n".join(lines)
    if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1 or " " in path or not path.isascii():
        raise ConfigError("a header or path would break out of its line")
    return head.encode("latin-1", "replace") + b"\r\n\r\n" + body


class Endpoint:
    """A base URL, split once: what drivers post to."""

    __slots__ = ("base", "client", "origin", "timeout")

    def __init__(self, client: HttpClient, base_url: str, timeout: float) -> None:
        self.client = client
        self.timeout = timeout
        self.origin, path = split_url(base_url)
        self.base = path.rstrip("/")

    async def post(self, path: str, headers: Iterable[tuple[str, str]], body: bytes) -> Response:
        """POST below the base URL."""
        return await self.client.request(self.origin, "POST", (self.base + path) or "/", headers, body, self.timeout)

    async def get(self, path: str, headers: Iterable[tuple[str, str]] = ()) -> Response:
        """GET below the base URL."""
        return await self.client.request(self.origin, "GET", (self.base + path) or "/", headers, b"", self.timeout)


JSON_HEADERS: tuple[tuple[str, str], ...] = (("content-type", "application/json; charset=utf-8"),)
FORM_HEADERS: tuple[tuple[str, str], ...] = (("content-type", "application/x-www-form-urlencoded"),)
