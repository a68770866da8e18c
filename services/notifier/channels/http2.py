"""A small HTTP/2 client (RFC 9113) for push services: few connections, many streams, small requests.

It says whether a request was taken: a stream above the last id of a GOAWAY, or one refused, was not processed
(`NotWritten`); one that was cut or timed out may have been (`NoAnswer`). `https` needs a server that chooses `h2`;
`http` speaks HTTP/2 at once (tests).
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections import deque
from collections.abc import Iterable
from typing import cast

from services.notifier.channels import hpack
from services.notifier.channels.http import MAX_ANSWER_BYTES, Origin, Response
from services.notifier.errors import NoAnswer, NotWritten

DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, END_HEADERS, PADDED, PRIORITY, ACK = 0x1, 0x4, 0x8, 0x20, 0x1
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW, MAX_FRAME = 3, 4, 5
REFUSED_STREAM, CANCEL = 7, 8
OUR_WINDOW = 1 << 20
MAX_FRAME_BYTES = 16_384
MAX_BLOCK_BYTES = 64 << 10
LAST_STREAM = 1 << 30
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame's bytes."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


_HELLO = (
    PREFACE
    + frame(SETTINGS, 0, 0, struct.pack(">HIHI", 2, 0, INITIAL_WINDOW, OUR_WINDOW))
    + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", OUR_WINDOW * 8))
)


class Stream:
    """One request in flight and what of its answer has come."""

    __slots__ = ("answer", "body", "headers", "size", "timer")

    def __init__(self, answer: asyncio.Future[Response], timer: asyncio.TimerHandle) -> None:
        self.answer = answer
        self.timer = timer
        self.headers: list[hpack.Header] = []
        self.body: list[bytes] = []
        self.size = 0


class Http2Connection(asyncio.Protocol):
    """One connection. `room` is how many more streams it takes now; none once it is going away."""

    def __init__(self, origin: Origin) -> None:
        self._loop = asyncio.get_running_loop()
        self._origin = origin
        self._decoder = hpack.Decoder()
        self._buffer = b""
        self._block: tuple[int, int, bytes] | None = None  # stream, flags, header block that continues
        self._streams: dict[int, Stream] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._next = 1
        self._most = 100  # until the peer says more
        self._send_window = 65_535
        self._stream_window = 65_535
        self._received = 0
        self._transport: asyncio.Transport | None = None
        self.greeted: asyncio.Future[None] = self._loop.create_future()
        self.leaving = False
        self.closed = False

    @property
    def room(self) -> int:
        """Streams that may be opened now."""
        return 0 if self.leaving or self.closed else self._most - len(self._streams)

    # sending

    async def request(self, headers: Iterable[hpack.Header], body: bytes, timeout: float) -> Response:
        """One request; raises `NotWritten` or `NoAnswer` within `timeout` seconds."""
        deadline = self._loop.time() + timeout
        while not self.leaving and not self.closed and (self.room <= 0 or self._send_window < len(body)):
            await self._turn(deadline - self._loop.time())
        if self.leaving or self.closed or len(body) > min(self._stream_window, MAX_FRAME_BYTES):
            raise NotWritten("the connection takes no more requests")
        stream_id, self._next = self._next, self._next + 2
        self.leaving = self._next > LAST_STREAM
        answer: asyncio.Future[Response] = self._loop.create_future()
        timer = self._loop.call_at(deadline, self._expired, stream_id)
        self._streams[stream_id] = Stream(answer, timer)
        self._send_window -= len(body)
        block = hpack.encode(headers)
        data = frame(HEADERS, END_HEADERS if body else END_HEADERS | END_STREAM, stream_id, block)
        self._write(data + frame(DATA, END_STREAM, stream_id, body) if body else data)
        try:
            return await answer
        except asyncio.CancelledError:
            self._reset(stream_id)
            raise

    async def _turn(self, timeout: float) -> None:
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(max(timeout, 0)):
                await turn
        except TimeoutError:
            raise NotWritten("no free stream in time") from None

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)

    def _expired(self, stream_id: int) -> None:
        self._fail(stream_id, NoAnswer("timed out waiting for the answer"))
        self._write(frame(RST_STREAM, 0, stream_id, struct.pack(">I", CANCEL)))

    def _reset(self, stream_id: int) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            stream.timer.cancel()
            self._write(frame(RST_STREAM, 0, stream_id, struct.pack(">I", CANCEL)))
            self._wake()

    def _fail(self, stream_id: int, error: Exception) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            stream.timer.cancel()
            if not stream.answer.done():
                stream.answer.set_exception(error)
            self._wake()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self.closed:
            self._transport.write(data)

    # receiving

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(_HELLO)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if not self.greeted.done():
            self.greeted.set_exception(NotWritten("the server does not speak HTTP/2"))
        for stream_id in tuple(self._streams):
            self._fail(stream_id, NoAnswer("connection lost before the answer"))
        self._wake()

    def abort(self) -> None:
        """Drop the connection."""
        self.leaving = True
        if self._transport is not None and not self.closed:
            self._transport.abort()

    def leave(self) -> None:
        """Close once nothing is in flight."""
        self.leaving = True
        if not self._streams and self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at, size = 0, len(buffer)
        try:
            while size - at >= 9:
                length = int.from_bytes(buffer[at : at + 3], "big")
                if length > MAX_FRAME_BYTES:
                    raise hpack.HpackError("a frame too large")
                if size - at < 9 + length:
                    break
                stream_id = int.from_bytes(buffer[at + 5 : at + 9], "big") & 0x7FFFFFFF
                self._frame(buffer[at + 3], buffer[at + 4], stream_id, buffer[at + 9 : at + 9 + length])
                at += 9 + length
        except (hpack.HpackError, struct.error, IndexError):
            self.abort()
            return
        self._buffer = buffer[at:]

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == HEADERS:
            payload = _unpadded(payload, flags)
            self._headers(stream_id, flags, payload[5:] if flags & PRIORITY else payload)
        elif kind == CONTINUATION and self._block is not None:
            known, first, block = self._block
            if known != stream_id or len(block) > MAX_BLOCK_BYTES:
                raise hpack.HpackError("a continuation of nothing")
            self._headers(stream_id, first | flags & END_HEADERS, block + payload)
        elif kind == DATA:
            self._data(stream_id, flags, payload)
        elif kind == SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == PING and not flags & ACK:
            self._write(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE and stream_id == 0:
            self._send_window += struct.unpack(">I", payload)[0] & 0x7FFFFFFF
            self._wake()
        elif kind == RST_STREAM:
            code = struct.unpack(">I", payload)[0]
            refused = code == REFUSED_STREAM
            self._fail(stream_id, NotWritten("stream refused") if refused else NoAnswer(f"stream reset ({code})"))
        elif kind == GOAWAY:
            self._go_away(struct.unpack_from(">I", payload)[0] & 0x7FFFFFFF)

    def _headers(self, stream_id: int, flags: int, block: bytes) -> None:
        if not flags & END_HEADERS:
            self._block = (stream_id, flags, block)
            return
        self._block = None
        headers = self._decoder.decode(block)
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        status = next((value for name, value in headers if name == b":status"), b"")
        if not status.startswith(b"1"):  # an interim answer says nothing
            stream.headers += headers
        if flags & END_STREAM:
            self._finish(stream_id, stream)

    def _data(self, stream_id: int, flags: int, payload: bytes) -> None:
        self._received += len(payload)
        if self._received > OUR_WINDOW:
            self._write(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._received)))
            self._received = 0
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        body = _unpadded(payload, flags)
        stream.body.append(body)
        stream.size += len(body)
        if stream.size >= MAX_ANSWER_BYTES:
            self._fail(stream_id, NoAnswer("the answer is too large"))
            self._write(frame(RST_STREAM, 0, stream_id, struct.pack(">I", CANCEL)))
        elif flags & END_STREAM:
            self._finish(stream_id, stream)

    def _finish(self, stream_id: int, stream: Stream) -> None:
        headers = dict(stream.headers)
        status = headers.get(b":status", b"")
        if not status.isdigit():
            self._fail(stream_id, NoAnswer("an answer without a status"))
            return
        del self._streams[stream_id]
        stream.timer.cancel()
        if not stream.answer.done():
            stream.answer.set_result(Response(int(status), headers, b"".join(stream.body)))
        self._wake()
        if self.leaving:
            self.leave()

    def _settings(self, payload: bytes) -> None:
        for at in range(0, len(payload) - 5, 6):
            name, value = struct.unpack_from(">HI", payload, at)
            if name == MAX_CONCURRENT_STREAMS:
                self._most = value
            elif name == INITIAL_WINDOW:
                self._stream_window = value
        self._write(frame(SETTINGS, ACK, 0, b""))
        if not self.greeted.done():
            self.greeted.set_result(None)
        self._wake()

    def _go_away(self, last: int) -> None:
        self.leaving = True
        for stream_id in tuple(self._streams):
            if stream_id > last:
                self._fail(stream_id, NotWritten("the server is going away and did not take it"))
        self.leave()
        self._wake()


def _unpadded(payload: bytes, flags: int) -> bytes:
    if not flags & PADDED:
        return payload
    if payload[0] >= len(payload):
        raise hpack.HpackError("more padding than payload")
    return payload[1 : len(payload) - payload[0]]


class Http2Client:
    """At most `connections` to one origin, opened when those there are full; a connection going away is replaced."""

    def __init__(
        self,
        origin: Origin,
        *,
        connections: int = 2,
        connect_seconds: float = 5.0,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._origin = origin
        self._limit = connections
        self._connect_seconds = connect_seconds
        self._context = context
        self._open: list[Http2Connection] = []
        self._connecting = asyncio.Lock()
        self._fixed: tuple[hpack.Header, ...] = (
            (b":method", b"POST"),
            (b":scheme", b"https" if origin.tls else b"http"),
            (b":authority", origin.authority.encode()),
        )

    async def post(self, path: str, headers: Iterable[tuple[str, str]], body: bytes, timeout: float) -> Response:
        """POST; raises `NotWritten` or `NoAnswer`. Header names are lower case."""
        connection = self._roomy() or await self._connection()
        lines = [*self._fixed, (b":path", path.encode())]
        lines += [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers]
        return await connection.request(lines, body, timeout)

    def _roomy(self) -> Http2Connection | None:
        return next((one for one in self._open if one.room > 0), None)

    async def _connection(self) -> Http2Connection:
        async with self._connecting:
            self._open = [one for one in self._open if not one.closed and not one.leaving]
            found = self._roomy()
            if found is None and len(self._open) < self._limit:
                found = await self._connect()
                self._open.append(found)
            return found or min(self._open, key=lambda one: -one.room)

    async def _connect(self) -> Http2Connection:
        origin, context = self._origin, None
        if origin.tls:
            context = self._context or ssl.create_default_context()
            context.set_alpn_protocols(["h2"])
        connection: Http2Connection | None = None
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Http2Connection(origin),
                    origin.pinned or origin.host,
                    origin.port,
                    ssl=context,
                    server_hostname=origin.host if origin.tls else None,
                )
                await connection.greeted
        except TimeoutError:
            if connection is not None:
                connection.abort()
            raise NotWritten("timed out connecting") from None
        except (OSError, ssl.CertificateError) as error:
            raise NotWritten(f"cannot connect: {error.strerror or type(error).__name__}") from error
        return connection

    async def close(self) -> None:
        """Close what is idle; the rest closes when its answers have come."""
        for connection in self._open:
            connection.leave()
        self._open.clear()
