"""A fake SMTP server: PIPELINING, DSN, SIZE, AUTH and STARTTLS on demand; refuses, throttles and cuts by recipient;
keeps every byte.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
import time
from collections import deque
from dataclasses import dataclass
from typing import ClassVar, Self

from tests.fakes.server import Taken, Window

_PATH = re.compile(r"<([^>]*)>(.*)")


@dataclass(slots=True)
class Mail:
    """One mail as it was taken: the envelope with its parameters, and the data with its dots unstuffed."""

    sender: str
    sender_options: str
    recipients: list[str]
    recipient_options: str
    data: bytes = b""


class FakeSmtp:
    """`errors` are replies to RCPT, `final_errors` replies after the data; both with the outcome they must become."""

    throttle_code: ClassVar = "454 4.7.0 too many mails"
    errors: ClassVar = {
        "451 4.4.1 no answer from host": "transient",
        "451 4.3.0 try later": "transient",
        "450 4.2.1 greylisted": "transient",
        "452 4.5.3 too many recipients": "transient",
        "454 4.7.0 rate": "throttled",
        "450 4.7.1 rate limited": "throttled",
        "550 5.1.1 no such user": "bad_recipient",
        "550 no such user": "bad_recipient",
        "553 5.1.3 bad address": "bad_recipient",
        "550 5.1.2 no such domain": "bad_recipient",
        "550 5.1.10 null MX": "bad_recipient",
        "550 5.2.1 mailbox disabled": "bad_recipient",
        "551 5.1.1 moved": "bad_recipient",
        "552 5.2.2 mailbox full": "capped_recipient",
        "530 5.7.0 authenticate first": "bad_account",
        "550 5.7.1 policy": "bad_account",
    }
    final_errors: ClassVar = {
        "552 5.3.4 too big": "bad_message",
        "554 5.6.0 bad content": "bad_message",
        "554 rejected": "bad_message",
        "550 5.7.26 DMARC": "bad_account",
        "552 5.2.2 mailbox full": "capped_recipient",
        "451 4.3.0 try later": "transient",
        "454 4.7.0 rate": "throttled",
    }

    def __init__(
        self, *, pipelining: bool = True, username: str = "", password: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        self.pipelining, self.username, self.password, self.tls = pipelining, username, password, tls
        self.mails: list[Mail] = []
        self.taken: list[Taken] = []
        self.refused_signatures = 0
        self.next_errors: deque[str] = deque()
        self.next_final_errors: deque[str] = deque()
        self.error_of_address: dict[str, str] = {}
        self.window: Window | None = None
        self.delay_seconds = 0.0
        self.cut_after_body = 0
        self.mails_per_connection = 0
        self.connections = 0
        self.round_trips = 0
        self.url = ""
        self._ids = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.url = f"smtp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    def error_for(self, address: str) -> str | None:
        if self.next_errors:
            return self.next_errors.popleft()
        return self.error_of_address.get(address)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        try:
            await _Session(self, reader, writer).run()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class _Session:
    def __init__(self, fake: FakeSmtp, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.fake, self.reader, self.writer = fake, reader, writer
        self.mail: Mail | None = None
        self.authenticated = not fake.username
        self.secure = False
        self.count = 0
        self.pending = b""

    def say(self, text: str) -> None:
        self.pending += text.encode() + b"\r\n"

    async def flush(self) -> None:
        """Replies leave together when nothing more is waiting to be read: so pipelining shows as fewer round trips."""
        if self.pending:
            self.fake.round_trips += 1
            self.writer.write(self.pending)
            self.pending = b""
            await self.writer.drain()

    async def line(self) -> str:
        if not self.reader._buffer:  # type: ignore[attr-defined]
            await self.flush()
        raw = await self.reader.readuntil(b"\r\n")
        return raw[:-2].decode("latin-1")

    async def run(self) -> None:
        self.say("220 fake ESMTP")
        while True:
            line = await self.line()
            verb = line.split(" ", 1)[0].upper()
            if verb == "QUIT":
                self.say("221 bye")
                await self.flush()
                return
            if not await getattr(self, f"do_{verb.lower()}", self.do_unknown)(line):
                await self.flush()
                return

    async def do_unknown(self, line: str) -> bool:
        self.say("500 5.5.1 unknown")
        return True

    async def do_ehlo(self, line: str) -> bool:
        fake = self.fake
        extensions = ["8BITMIME", "SIZE 35882577", "DSN"]
        if fake.pipelining:
            extensions.append("PIPELINING")
        if fake.tls is not None and not self.secure:
            extensions.append("STARTTLS")
        if fake.username:
            extensions.append("AUTH PLAIN LOGIN")
        self.pending += b"".join(b"250-" + text.encode() + b"\r\n" for text in ["fake", *extensions[:-1]])
        self.say("250 " + extensions[-1])
        return True

    async def do_starttls(self, line: str) -> bool:
        assert self.fake.tls is not None
        self.say("220 go")
        await self.flush()
        await self.writer.start_tls(self.fake.tls)
        self.secure = True
        return True

    async def do_auth(self, line: str) -> bool:
        given = base64.b64decode(line.split(" ")[2]).decode().split("\0")
        if given[1:] == [self.fake.username, self.fake.password]:
            self.authenticated = True
            self.say("235 2.7.0 ok")
        else:
            self.fake.refused_signatures += 1
            self.say(f"535 5.7.8 bad credentials {self.fake.password}")
        return True

    async def do_rset(self, line: str) -> bool:
        self.mail = None
        self.say("250 2.0.0 ok")
        return True

    async def do_mail(self, line: str) -> bool:
        path = _PATH.search(line)
        if not self.authenticated:
            self.say("530 5.7.0 authenticate first")
        elif self.mail is not None or path is None:
            self.say("503 5.5.1 nested MAIL")
        elif self.fake.window is not None and not self.fake.window.admit(time.monotonic()):
            self.say(self.fake.throttle_code)
        elif self.fake.mails_per_connection and self.count >= self.fake.mails_per_connection:
            self.say("421 4.3.2 enough for one connection")
            return False
        else:
            self.mail = Mail(path.group(1), path.group(2).strip(), [], "")
            self.say("250 2.1.0 ok")
        return True

    async def do_rcpt(self, line: str) -> bool:
        path = _PATH.search(line)
        if self.mail is None or path is None:
            self.say("503 5.5.1 MAIL first")
            return True
        if error := self.fake.error_for(path.group(1)):
            self.say(error)
            return not error.startswith("421")
        self.mail.recipients.append(path.group(1))
        self.mail.recipient_options = path.group(2).strip()
        self.say("250 2.1.5 ok")
        return True

    async def do_data(self, line: str) -> bool:
        if self.mail is None or not self.mail.recipients:
            self.say("503 5.5.1 no valid recipients")
            return True
        self.say("354 go")
        await self.flush()
        raw = await self.reader.readuntil(b"\r\n.\r\n")
        self.count += 1
        mail, self.mail = self.mail, None
        mail.data = raw[:-3].replace(b"\r\n..", b"\r\n.")
        return await self._finish(mail)

    async def _finish(self, mail: Mail) -> bool:
        fake = self.fake
        if fake.delay_seconds:
            await asyncio.sleep(fake.delay_seconds)
        if fake.next_final_errors:
            self.say(fake.next_final_errors.popleft())
            return True
        fake._ids += 1
        fake.mails.append(mail)
        found = re.search(rb"(?mi)^Message-ID: <([^@>]*)", mail.data)
        for recipient in mail.recipients:
            fake.taken.append(
                Taken(recipient, f"Q{fake._ids}", mail.data.decode("latin-1"), found.group(1).decode() if found else "")
            )
        if fake.cut_after_body > 0:
            fake.cut_after_body -= 1
            self.pending = b""
            self.writer.transport.abort()
            return False
        self.say(f"250 2.0.0 Ok: queued as Q{fake._ids}")
        return True
