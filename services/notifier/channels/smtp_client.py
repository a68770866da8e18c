"""A pipelined SMTP client over kept connections: one round trip a mail where the server has PIPELINING (RFC 2920).

The envelope of the next mail is written behind the final dot of the current one. A mail that was refused, or whose
connection broke before its final dot, was not taken; one whose connection broke between the dot and the reply may
have been (`NoAnswer`).
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple, Protocol, cast

from services.notifier.errors import NoAnswer, NotWritten, TokenRefused

MAX_REPLY_BYTES = 64 << 10


class Reply(NamedTuple):
    """A server's answer: its code, its text (lines joined by a space) and whether it came after the final dot."""

    code: int
    text: str
    final: bool = False


class Step(Enum):
    """What the next reply in the stream answers."""

    RSET = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    DOT = auto()
    EMPTY = auto()  # the dot of a transaction nobody accepted
    QUIT = auto()


class Job:
    """One mail on its way: `sender` and `recipient` are ASCII without CR, LF or angle brackets, `data` is dot-stuffed
    and ends in CRLF.
    """

    __slots__ = ("again", "data", "done", "envelope_id", "recipient", "refusal", "sender")

    def __init__(
        self, sender: bytes, recipient: bytes, data: bytes, envelope_id: bytes, done: asyncio.Future[Reply]
    ) -> None:
        self.sender = sender
        self.recipient = recipient
        self.data = data
        self.envelope_id = envelope_id
        self.done = done
        self.refusal: Reply | None = None
        self.again = True  # may be given to another connection once, if this one ends before its data


@dataclass(frozen=True, slots=True)
class Server:
    """Where and how to connect. `starttls` is `off`, `auto` (used when offered) or `required`; seconds for `timeout` and
    `connect`.
    """

    host: str
    port: int
    tls: bool = False
    starttls: str = "auto"
    username: str = ""
    password: str = ""
    helo: str = "localhost"
    timeout: float = 60.0
    connect: float = 10.0
    context: ssl.SSLContext | None = None


class Owner(Protocol):
    """What a connection needs of its pool."""

    def next_job(self) -> Job | None: ...
    def rests(self, connection: SmtpConnection) -> None: ...
    def ended(self, connection: SmtpConnection, unfinished: list[Job]) -> None: ...


class SmtpConnection(asyncio.Protocol):
    """One connection: a setup conversation, then a stream of transactions driven by the replies."""

    def __init__(self, owner: Owner, server: Server) -> None:
        self._owner = owner
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._lines: list[bytes] = []
        self._asked: asyncio.Future[Reply] | None = None
        self._early: deque[Reply] = deque()
        self._expected: deque[Step] = deque()
        self._unwritten: deque[bytes] = deque()
        self._current: Job | None = None  # its envelope is being answered
        self._sent: Job | None = None  # its data is written, the reply to the dot is awaited
        self._dirty = False
        self._setup = True
        self._deadline = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self.extensions: dict[bytes, bytes] = {}
        self.closed = False

    # the stream of replies

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._deadline = self._loop.time() + self._server.timeout
        buffer = self._buffer + data if self._buffer else data
        if len(buffer) > MAX_REPLY_BYTES:
            self.abort()
            return
        *lines, self._buffer = buffer.split(b"\n")
        for line in lines:
            self._lines.append(line[4:].rstrip(b"\r"))
            if line[3:4] == b"-":
                if len(self._lines) > 200:
                    self.abort()
                    return
                continue
            text, self._lines = b"\n".join(self._lines), []
            if not line[:3].isdigit():
                self.abort()
                return
            self._replied(Reply(int(line[:3]), text.decode("utf-8", "replace")))

    def _replied(self, reply: Reply) -> None:
        if not self._setup:
            self._advance(reply)
        elif self._asked is not None and not self._asked.done():
            self._asked.set_result(reply)
        else:
            self._early.append(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._watch is not None:
            self._watch.cancel()
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(NotWritten("connection lost in the greeting"))
        sent, current, self._sent, self._current = self._sent, self._current, None, None
        if sent is not None and not sent.done.done():
            sent.done.set_exception(NoAnswer("connection lost after the mail was written"))
        if not self._setup:
            self._owner.ended(self, [] if current is None else [current])

    def abort(self) -> None:
        """Drop the connection; what was in flight is told by `connection_lost`."""
        if self._transport is not None and not self.closed:
            self._transport.abort()

    # setting up

    async def _reply(self) -> Reply:
        if self._early:
            return self._early.popleft()
        if self.closed:
            raise NotWritten("connection lost in the greeting")
        self._asked = self._loop.create_future()
        try:
            return await self._asked
        finally:
            self._asked = None

    async def _ask(self, line: bytes) -> Reply:
        assert self._transport is not None
        self._transport.write(line + b"\r\n")
        return await self._reply()

    async def greet(self) -> None:
        """Greeting, EHLO, STARTTLS, AUTH. Raises `NotWritten`, or `TokenRefused` when the account is not accepted."""
        server = self._server
        greeting = await self._reply()
        if greeting.code != 220:
            raise NotWritten(f"greeting {greeting.code}")
        await self._hello()
        if not server.tls and server.starttls != "off":
            if b"STARTTLS" in self.extensions:
                await self._start_tls()
            elif server.starttls == "required":
                raise TokenRefused("starttls", "the server does not offer STARTTLS")
            elif server.username:  # a password goes over an open line only when the playbook says `starttls: off`
                raise TokenRefused("starttls", "the server offers no encryption for the account")
        if server.username:
            await self._login(server.username, server.password)
        self._setup = False

    async def _hello(self) -> None:
        reply = await self._ask(b"EHLO " + self._server.helo.encode("ascii", "replace"))
        if reply.code != 250:
            raise NotWritten(f"EHLO {reply.code}")
        self.extensions = {}
        for line in reply.text.split("\n")[1:]:
            name, _, value = line.partition(" ")
            self.extensions[name.upper().encode()] = value.encode()

    async def _start_tls(self) -> None:
        reply = await self._ask(b"STARTTLS")
        if reply.code != 220:
            raise NotWritten(f"STARTTLS {reply.code}")
        if self._buffer or self._early:  # text injected before the encryption must not be read as if it came after
            raise NotWritten("data before the TLS handshake")
        assert self._transport is not None
        context = self._server.context or ssl.create_default_context()
        try:
            transport = await self._loop.start_tls(self._transport, self, context, server_hostname=self._server.host)
        except (OSError, ssl.SSLError) as error:
            raise NotWritten(f"STARTTLS: {type(error).__name__}") from error
        self._transport = cast(asyncio.Transport, transport)
        await self._hello()

    async def _login(self, username: str, password: str) -> None:
        offered = self.extensions.get(b"AUTH", b"").upper().split()
        if b"PLAIN" in offered or not offered:
            plain = base64.b64encode(f"\0{username}\0{password}".encode())
            reply = await self._ask(b"AUTH PLAIN " + plain)
        else:
            reply = await self._ask(b"AUTH LOGIN")
            for part in (username, password):
                if reply.code == 334:
                    reply = await self._ask(base64.b64encode(part.encode()))
        if reply.code == 454 or 400 <= reply.code < 500:
            raise NotWritten(f"AUTH {reply.code}")
        if reply.code != 235:
            raise TokenRefused(str(reply.code), "the server refused the account")

    # transactions

    def start(self, job: Job) -> None:
        """Begin a transaction; only on a connection at rest."""
        assert self._transport is not None
        self._deadline = self._loop.time() + self._server.timeout
        if self._watch is None:
            self._watch = self._loop.call_later(self._server.timeout, self._check)
        self._write(b"", self._envelope(job))

    def _envelope(self, job: Job) -> list[tuple[Step, bytes]]:
        self._current = job
        options = b""
        if b"SIZE" in self.extensions:
            options += b" SIZE=%d" % len(job.data)
        notify = b""
        if b"DSN" in self.extensions:
            options += b" RET=HDRS ENVID=" + xtext(job.envelope_id)
            notify = b" NOTIFY=FAILURE,DELAY ORCPT=rfc822;" + xtext(job.recipient)
        steps = [
            (Step.MAIL, b"MAIL FROM:<" + job.sender + b">" + options + b"\r\n"),
            (Step.RCPT, b"RCPT TO:<" + job.recipient + b">" + notify + b"\r\n"),
            (Step.DATA, b"DATA\r\n"),
        ]
        if self._dirty:
            self._dirty = False
            steps.insert(0, (Step.RSET, b"RSET\r\n"))
        return steps

    def _write(self, head: bytes, steps: list[tuple[Step, bytes]]) -> None:
        assert self._transport is not None
        self._expected.extend(step for step, _ in steps)
        lines = [line for _, line in steps]
        if b"PIPELINING" in self.extensions:
            self._transport.write(head + b"".join(lines))
        elif head:
            self._unwritten.extend(lines)
            self._transport.write(head)
        else:
            self._unwritten.extend(lines[1:])
            self._transport.write(lines[0])

    def _advance(self, reply: Reply) -> None:
        if not self._expected:
            self.abort()  # a server that talks unasked is closing (421) or confused
            return
        step = self._expected.popleft()
        if step is Step.DATA:
            self._data(reply)
        elif step is Step.DOT:
            self._finish(self._sent, Reply(reply.code, reply.text, True))
            self._sent = None
            self._proceed()
        elif step is Step.EMPTY:
            self._proceed()
        else:
            if (
                step is not Step.RSET
                and reply.code // 100 != 2
                and self._current is not None
                and self._current.refusal is None
            ):
                self._current.refusal = reply
            self._proceed()

    def _data(self, reply: Reply) -> None:
        job, self._current = self._current, None
        assert job is not None
        assert self._transport is not None
        if reply.code != 354:
            self._dirty = True
            self._finish(job, job.refusal or reply)
            self._proceed()
        elif job.refusal is not None:  # the server takes data for nobody: end it with nothing in it
            self._finish(job, job.refusal)
            self._expected.append(Step.EMPTY)
            self._transport.write(b".\r\n")
        else:
            self._sent = job
            self._expected.append(Step.DOT)
            following = self._owner.next_job()
            self._write(job.data + b".\r\n", self._envelope(following) if following is not None else [])

    def _proceed(self) -> None:
        """After a reply: write what waits (no PIPELINING), begin the next transaction, or rest."""
        assert self._transport is not None
        if self._unwritten:
            self._transport.write(self._unwritten.popleft())
        elif not self._expected and not self._transport.is_closing():
            job = self._owner.next_job()
            if job is not None:
                self._write(b"", self._envelope(job))
            else:
                self._owner.rests(self)

    def _finish(self, job: Job | None, reply: Reply) -> None:
        if job is not None and not job.done.done():
            job.done.set_result(reply)
        if reply.code == 421:
            assert self._transport is not None
            self._transport.close()

    def _check(self) -> None:
        """One timer a connection, moved on lazily: cheaper than one a mail."""
        self._watch = None
        if not self._expected:
            return
        left = self._deadline - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._check)
        else:
            self.abort()

    def quit(self) -> None:
        """End a connection at rest politely."""
        if self._transport is not None and not self.closed:
            self._transport.write(b"QUIT\r\n")
            self._transport.close()


def xtext(value: bytes) -> bytes:
    """RFC 3461 encoding of an envelope id or address."""
    if value.isalnum():
        return value
    return b"".join(b"%c" % byte if 33 <= byte <= 126 and byte not in b"+=" else b"+%02X" % byte for byte in value)
