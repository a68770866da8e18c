"""SMS through a message centre by SMPP 3.4: one bound connection, a window of unanswered messages, receipts over the same line.

| status | outcome |
|---|---|
| 0x58, 0x14 | throttled: 1 s, 2 s, 4 s …, and half the window |
| 0x0B, 0x50, 0x51 | bad_recipient |
| 0x01, 0x43, 0x62, 0xC0-0xC4 | bad_message |
| 0x0A, 0x0D, 0x0E, 0x0F, 0x05 | bad_account |
| 0x08, 0x45, 0x64, 0xFE | transient |
| connection lost or silent with the message unanswered | unknown |

A long text goes in parts; the message has the id of its first part, and one part that is refused decides for all.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar
from urllib.parse import urlsplit

import msgspec

from services.notifier.channels import smpp_pdu as pdu
from services.notifier.channels.base import (
    Driver,
    Kind,
    Message,
    Net,
    Options,
    Outcome,
    ReceiptMode,
    ReceiptSink,
    accepted,
    failed,
)
from services.notifier.channels.smpp_link import Answer, SmppLink
from services.notifier.errors import ConfigError, NoAnswer, NotWritten
from shared.contracts.providers.receipts import Receipt

STATUSES = {
    0x58: Kind.THROTTLED,
    0x14: Kind.THROTTLED,
    0x0B: Kind.BAD_RECIPIENT,
    0x50: Kind.BAD_RECIPIENT,
    0x51: Kind.BAD_RECIPIENT,
    0x01: Kind.BAD_MESSAGE,
    0x43: Kind.BAD_MESSAGE,
    0x62: Kind.BAD_MESSAGE,
    **dict.fromkeys(range(0xC0, 0xC5), Kind.BAD_MESSAGE),
    0x0A: Kind.BAD_ACCOUNT,
    0x0D: Kind.BAD_ACCOUNT,
    0x0E: Kind.BAD_ACCOUNT,
    0x0F: Kind.BAD_ACCOUNT,
    0x05: Kind.BAD_ACCOUNT,
    0x08: Kind.TRANSIENT,
    0x45: Kind.TRANSIENT,
    0x64: Kind.TRANSIENT,
    0xFE: Kind.TRANSIENT,
}
LONGEST_PAUSE = 64


class SmppSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`sender` is a number, short code or name of up to 11 letters; `window` bounds unanswered messages."""

    sender: str
    system_type: str = ""
    window: int = 10
    enquire_seconds: float = 30.0


class SmppDriver(Driver):
    """Secrets `system_id` and `password`; `base_url` is smpp://host:port."""

    name = "smpp"
    channel = "sms"
    receipts = ReceiptMode.LINK
    secrets = ("system_id", "password")
    settings_type: ClassVar[type[msgspec.Struct]] = SmppSettings

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        self._settings = options.read(SmppSettings)
        parts = urlsplit(options.base_url)
        if parts.scheme != "smpp" or not parts.hostname:
            raise ConfigError(f"provider {options.name}: base_url is smpp://host:port")
        self._host, self._port = parts.hostname, parts.port or 2775
        self._sender = pdu.source(self._settings.sender)
        self._link: SmppLink | None = None
        self._connecting: asyncio.Lock = asyncio.Lock()
        self._pause = 1
        self._sink: ReceiptSink | None = None

    def on_receipts(self, sink: ReceiptSink) -> None:
        self._sink = sink

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        message = group[0]
        try:
            bodies = self._bodies(message)
        except ValueError as error:
            return [failed(Kind.BAD_RECIPIENT, "address", str(error))]
        link = self._link
        if link is None or link.closed:
            link = await self._connect()
        if len(bodies) == 1:
            answers = [await link.submit(bodies[0])]
        else:
            answers = await self._in_parts(link, bodies)
        return [self._outcome(link, answers)]

    async def _in_parts(self, link: SmppLink, bodies: list[bytes]) -> list[Answer]:
        """All parts; a part that did not leave after others did leaves the whole unknown."""
        results = await asyncio.gather(*(link.submit(body) for body in bodies), return_exceptions=True)
        broken = [result for result in results if isinstance(result, BaseException)]
        if broken:
            if all(isinstance(result, NotWritten) for result in results):
                raise broken[0]
            raise NoAnswer("some parts of the text have no answer")
        return [result for result in results if isinstance(result, Answer)]

    def _bodies(self, message: Message) -> list[bytes]:
        to = pdu.destination(message.address)
        reference = zlib.crc32(message.message_id.encode())
        coding, esm_class, parts = pdu.parts_of(message.content.text, reference)
        left = (message.valid_until - self.net.now()).total_seconds() if message.valid_until else 0
        validity = pdu.relative_validity(left) if left > 0 else ""
        return [pdu.submit(self._sender, to, coding, esm_class, part, validity) for part in parts]

    def _outcome(self, link: SmppLink, answers: Sequence[Answer]) -> Outcome:
        refused = next((answer for answer in answers if answer.status), None)
        if refused is None:
            self._pause = 1
            link.widen()
            return accepted(answers[0].message_id or None)
        code = f"0x{refused.status:02x}"
        if len(answers) > 1 and any(not answer.status for answer in answers):
            return failed(Kind.UNKNOWN, code, "some parts of the text were refused")
        kind = STATUSES.get(refused.status, Kind.BAD_MESSAGE)
        if kind is not Kind.THROTTLED:
            return failed(kind, code)
        link.narrow()
        after, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return failed(kind, code, "", timedelta(seconds=after))

    async def _connect(self) -> SmppLink:
        async with self._connecting:
            if self._link is not None and not self._link.closed:
                return self._link
            settings = self._settings
            loop = asyncio.get_running_loop()
            store = self._store if self._sink is not None else None
            try:
                async with asyncio.timeout(self.options.timeout_seconds):
                    _, link = await loop.create_connection(
                        lambda: SmppLink(
                            store, settings.window, self.options.timeout_seconds, settings.enquire_seconds
                        ),
                        self._host,
                        self._port,
                    )
            except TimeoutError:
                raise NotWritten("timed out connecting") from None
            except OSError as error:
                raise NotWritten(f"cannot connect: {error.strerror or type(error).__name__}") from error
            try:
                await link.bind(self.options.secret("system_id"), self.options.secret("password"), settings.system_type)
            except BaseException:
                link.abort()
                raise
            self._link = link
            return link

    async def _store(self, receipt: Receipt) -> None:
        assert self._sink is not None
        await self._sink((receipt,))

    async def close(self) -> None:
        if self._link is not None:
            self._link.unbind()
            self._link = None
