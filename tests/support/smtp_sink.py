"""A mail server that takes every message and forgets none: each byte as it came, with its instant, never de-duplicated."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message

from tests.support.background import Background, reset

_ADDRESS = re.compile(rb"<([^>]*)>")


@dataclass(frozen=True, slots=True)
class SmtpMessage:
    """One message whose final dot arrived.

    Attributes:
        arrived_at: instant of the final dot, UTC; `arrived_monotonic` the same in seconds of `time.monotonic`.
        raw: the bytes between `DATA` and the final dot exactly as sent, dots still stuffed.
        envelope: the client's commands since its previous message on this connection, exactly as sent.
        acknowledged: whether the client was told; False when the connection was cut after the dot.
    """

    number: int
    arrived_at: datetime
    arrived_monotonic: float
    sender: str
    recipients: tuple[str, ...]
    raw: bytes
    envelope: bytes
    acknowledged: bool
    reply: str

    @property
    def content(self) -> bytes:
        """The message as the writer meant it, dots unstuffed."""
        return re.sub(rb"(?m)^\.", b"", self.raw)

    @property
    def parsed(self) -> Message:
        return message_from_bytes(self.content)


@dataclass(slots=True)
class _Session:
    read: bytearray = field(default_factory=bytearray)
    sender: str = ""
    recipients: list[str] = field(default_factory=list)


class SmtpSink(Background):
    """Listens on `host:port`. Faults may be changed while it runs.

    Attributes:
        delay_seconds: how long the answer to the final dot takes.
        cut_after_dot: for this many of the next messages, the connection is cut after the dot and before the answer.
        recipient_replies: an address's own answer to `RCPT TO`, such as `"450 4.2.1 busy"`.
        final_replies: an address's own answer after the dot, such as `"554 5.6.0 refused"`.
    """

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.messages: list[SmtpMessage] = []
        self.delay_seconds = 0.0
        self.cut_after_dot = 0
        self.recipient_replies: dict[str, str] = {}
        self.final_replies: dict[str, str] = {}
        self.connections = 0

    @property
    def url(self) -> str:
        return f"smtp://{self.host}:{self.port}"

    @property
    def acknowledged(self) -> list[SmtpMessage]:
        """Messages that were taken with a 2xx the client could read."""
        return [one for one in self.messages if one.acknowledged and one.reply.startswith("2")]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        session = _Session()
        await _say(writer, "220 sink ESMTP")
        while line := await reader.readline():
            session.read += line
            verb = line.strip().partition(b" ")[0].upper()
            if verb == b"QUIT":
                await _say(writer, "221 2.0.0 bye")
                return
            if verb != b"DATA":
                await _say(writer, self._answer(session, verb, line))
            elif not session.recipients:
                await _say(writer, "503 5.5.1 no valid recipients")
            else:
                await _say(writer, "354 go ahead")
                if not await self._take(session, reader, writer):
                    return

    def _answer(self, session: _Session, verb: bytes, line: bytes) -> str:
        match verb:
            case b"EHLO":
                return "250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SMTPUTF8"
            case b"HELO" | b"NOOP":
                return "250 2.0.0 ok"
            case b"RSET":
                session.sender, session.recipients = "", []
                return "250 2.0.0 ok"
            case b"MAIL":
                session.sender, session.recipients = _address(line), []
                return "250 2.1.0 ok"
            case b"RCPT":
                reply = self.recipient_replies.get(_address(line), "250 2.1.5 ok")
                if reply.startswith("2"):
                    session.recipients.append(_address(line))
                return reply
            case _:
                return "502 5.5.2 unknown command"

    async def _take(self, session: _Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Record one message and answer it; False when the connection was cut instead."""
        raw = bytearray()
        while (line := await reader.readline()) != b".\r\n":
            if not line:
                return False  # the client went away in the middle: no message
            raw += line
        now, monotonic = datetime.now(UTC), time.monotonic()
        cut = self.cut_after_dot > 0
        self.cut_after_dot -= cut
        own = [self.final_replies[one] for one in session.recipients if one in self.final_replies]
        reply = own[0] if own else f"250 2.0.0 taken as {len(self.messages) + 1}"
        self.messages.append(
            SmtpMessage(
                number=len(self.messages) + 1,
                arrived_at=now,
                arrived_monotonic=monotonic,
                sender=session.sender,
                recipients=tuple(session.recipients),
                raw=bytes(raw),
                envelope=bytes(session.read),
                acknowledged=not cut,
                reply=reply,
            )
        )
        session.sender, session.recipients = "", []
        session.read.clear()
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        if cut:
            reset(writer)
            return False
        await _say(writer, reply)
        return True


async def _say(writer: asyncio.StreamWriter, text: str) -> None:
    writer.write(text.encode() + b"\r\n")
    await writer.drain()


def _address(line: bytes) -> str:
    found = _ADDRESS.search(line)
    return found.group(1).decode("utf-8", "surrogateescape") if found else ""
