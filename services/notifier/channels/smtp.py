"""Mail over SMTP: pooled, pipelined, from byte templates.

| reply | outcome |
|---|---|
| 421, 451, 4.3.x, 4.4.x | transient |
| 450 4.2.x (busy, greylisting) | transient, after 5 minutes |
| 452 4.5.3 | transient at once (the next transaction) |
| 454, 4.7.x | throttled |
| 5.1.x, 5.2.1, 550/551/553 for a recipient | bad_recipient |
| 5.2.2 | capped_recipient for a day |
| 5.3.4, 5.6.x, other 5xx after the data | bad_message |
| 530, 535, 5.7.x | bad_account |

A connection lost between the final dot and the reply is `unknown`; the same Message-ID is used on every attempt.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar
from urllib.parse import urlsplit

import msgspec

from services.notifier.channels.base import Driver, Kind, Message, Net, Options, Outcome, ReceiptMode, accepted, failed
from services.notifier.channels.mime import HeaderRefused, MailTemplate
from services.notifier.channels.smtp_client import Reply, Server
from services.notifier.channels.smtp_pool import SmtpPool
from services.notifier.errors import ConfigError, NoAnswer, NotWritten, TokenRefused

_STATUS = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")
_QUEUED = re.compile(r"queued as ([\w.-]+)", re.IGNORECASE)
_ADDRESS = re.compile(r"[^\s<>\x00-\x1f\x7f@]{1,64}@[^\s<>\x00-\x1f\x7f@]{1,255}")

GREYLISTED = timedelta(minutes=5)
MAIL_RATE = timedelta(minutes=1)
MAILBOX_FULL = timedelta(days=1)


class SmtpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`bounce_address` is the envelope sender, where delivery status notifications go; default the sender."""

    from_address: str
    from_name: str = ""
    reply_to: str = ""
    bounce_address: str = ""
    username: str = ""
    starttls: str = "auto"
    helo: str = "localhost"


def outcome_of(reply: Reply) -> Outcome:
    """Translate a server's answer. `until` of a full mailbox is left to the driver, which knows the time."""
    code, text = reply.code, reply.text
    if 200 <= code < 300:
        queued = _QUEUED.search(text)
        return accepted(queued.group(1) if queued else None)
    status = _STATUS.search(text)
    subject, detail = (int(status.group(2)), int(status.group(3))) if status else (0, 0)
    label = f"{code} {status.group(0)}" if status else str(code)
    if code < 500:
        return _temporary(code, subject, label, text)
    return failed(_permanent(code, subject, detail, reply.final), label, text)


def _temporary(code: int, subject: int, label: str, text: str) -> Outcome:
    if code != 421 and (code == 454 or subject == 7):
        return failed(Kind.THROTTLED, label, text, MAIL_RATE)
    if code == 450 and subject in (0, 2):
        return failed(Kind.TRANSIENT, label, text, GREYLISTED)
    return failed(Kind.TRANSIENT, label, text)


def _permanent(code: int, subject: int, detail: int, final: bool) -> Kind:
    if subject == 7 or code in (530, 535):
        return Kind.BAD_ACCOUNT
    if subject == 2 and detail == 2:
        return Kind.CAPPED_RECIPIENT
    if subject in (1, 2):
        return Kind.BAD_RECIPIENT
    if subject in (3, 6) or final or code not in (550, 551, 553):
        return Kind.BAD_MESSAGE
    return Kind.BAD_RECIPIENT


class SmtpDriver(Driver):
    """One mail server. Secret `password` when `username` is set; `base_url` is smtp://host:port or smtps://host:port."""

    name = "smtp"
    channel = "mail"
    batch_size = 20  # each its own transaction; queued together, so that connections carry them back to back
    receipts = ReceiptMode.BOUNCE
    settings_type: ClassVar[type[msgspec.Struct]] = SmtpSettings

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        self._settings = settings = options.read(SmtpSettings)
        if not _ADDRESS.fullmatch(settings.from_address):
            raise ConfigError(f"provider {options.name}: from_address is not an address")
        self._sender = (settings.bounce_address or settings.from_address).encode("ascii")
        self._template = MailTemplate(settings.from_name, settings.from_address, settings.reply_to)
        self._server = _server(options, settings)
        self._pool: SmtpPool | None = None

    async def send(self, batch: Sequence[Message]) -> list[Outcome]:
        """Queue all mails at once, so that connections carry them back to back, then wait for each answer."""
        pool = self._pool
        if pool is None:
            pool = self._pool = SmtpPool(self._server, self.options.concurrency)
        waiting = [self._submit(pool, message) for message in batch]
        return [
            self._clean(answer if isinstance(answer, Outcome) else await self._outcome(answer)) for answer in waiting
        ]

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        return await self.send(group)

    def _submit(self, pool: SmtpPool, message: Message) -> asyncio.Future[Reply] | Outcome:
        recipient = envelope_address(message.address)
        if recipient is None:
            return failed(Kind.BAD_RECIPIENT, "address", "not a mail address")
        try:
            data = self._template.fill(message, self.net.now())
        except HeaderRefused as error:
            return failed(Kind.BAD_MESSAGE, "header", str(error))
        return pool.submit(self._sender, recipient, data, message.message_id.encode())

    async def _outcome(self, answer: asyncio.Future[Reply]) -> Outcome:
        try:
            outcome = outcome_of(await answer)
        except NotWritten as error:
            return failed(Kind.TRANSIENT, "not_written", str(error))
        except NoAnswer as error:
            return failed(Kind.UNKNOWN, "no_answer", str(error))
        except TokenRefused as error:
            return failed(Kind.BAD_ACCOUNT, error.code, error.detail)
        if outcome.kind is Kind.CAPPED_RECIPIENT:
            return msgspec.structs.replace(outcome, until=self.net.now() + MAILBOX_FULL)
        return outcome

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()
            self._pool = None


def envelope_address(address: str) -> bytes | None:
    """An address as it may stand in RCPT TO, its domain in IDNA; None when it is none, or its local part is not ASCII."""
    if not _ADDRESS.fullmatch(address):
        return None
    if address.isascii():
        return address.encode()
    local, _, domain = address.rpartition("@")
    try:
        return local.encode("ascii") + b"@" + domain.encode("idna")
    except UnicodeError:
        return None


def _server(options: Options, settings: SmtpSettings) -> Server:
    parts = urlsplit(options.base_url)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise ConfigError(f"provider {options.name}: base_url is smtp://host[:port] or smtps://host[:port]")
    if settings.starttls not in ("off", "auto", "required"):
        raise ConfigError(f"provider {options.name}: starttls is off, auto or required")
    tls = parts.scheme == "smtps"
    return Server(
        parts.hostname,
        parts.port or (465 if tls else 587),
        tls=tls,
        starttls=settings.starttls,
        username=settings.username,
        password=options.secret("password") if settings.username else "",
        helo=settings.helo,
        timeout=options.timeout_seconds,
        connect=min(options.timeout_seconds, 10.0),
    )
