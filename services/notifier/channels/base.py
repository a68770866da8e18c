"""What every driver speaks: the message it is given, the outcome it answers, and the protocol it follows.

There is one outcome vocabulary for all drivers (`Kind`). A driver only translates;
retries, caps, failover, circuits and storage are the sender's.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import msgspec

from services.notifier.errors import BadReply, ConfigError, ForbiddenTarget, NoAnswer, NotWritten, TokenRefused
from shared.contracts.providers.receipts import Receipt, ReceiptState
from shared.playbook.messages import Quota
from shared.playbook.types import Duration

if TYPE_CHECKING:
    from services.notifier.channels.http import HttpClient

S = TypeVar("S", bound=msgspec.Struct)

DETAIL_LIMIT = 200

ReceiptSink = Callable[[Sequence[Receipt]], Awaitable[None]]


class Kind(StrEnum):
    """What became of one message in one call."""

    ACCEPTED = "accepted"  # the provider took it
    THROTTLED = "throttled"  # rate limit of the account or sender: requeue, not a failed attempt
    TRANSIENT = "transient"  # nothing was taken: retry with backoff
    UNKNOWN = "unknown"  # written, no readable answer: never resend blindly
    BAD_RECIPIENT = "bad_recipient"  # the address does not exist or has opted out: disable it, next channel
    CAPPED_RECIPIENT = "capped_recipient"  # frequency cap of this recipient: not before `until`
    BAD_MESSAGE = "bad_message"  # text, template or size refused: tell the administrator, no retry
    BAD_ACCOUNT = "bad_account"  # credentials, arrears, quota, sender: open the circuit, fail over, alert


class ReceiptMode(StrEnum):
    """How a provider tells what happened after `accepted`."""

    NONE = "none"
    PUSH = "push"  # it calls `POST /v1/receipts/{provider}`
    LINK = "link"  # it comes over the driver's own connection (`on_receipts`)
    POLL = "poll"  # `poll` asks for it
    BOUNCE = "bounce"  # delivery status notifications by mail


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of one message in one call; `code` is the provider's own, `detail` is short and holds no secret."""

    kind: Kind
    provider_id: str | None = None
    after: timedelta | None = None  # throttled, transient: not before this long from now, where the provider says so
    until: datetime | None = None  # capped_recipient, bad_account: not before this instant (wall time of the provider)
    code: str = ""
    detail: str = ""
    state: ReceiptState | None = None  # lookups only: how far the message is known to have come
    resend_safe: bool = False  # unknown only: sending exactly this message again makes no second copy


class Button(msgspec.Struct, frozen=True):
    """One action of a card: a link when `url` is given, else a callback that carries `value`."""

    label: str
    url: str = ""
    value: str = ""


class Content(msgspec.Struct, frozen=True):
    """A rendered message. A driver takes the richest form its provider has and falls back to `text`."""

    title: str = ""  # subject of a mail, title of a card or push
    text: str = ""
    html: str = ""
    markdown: str = ""
    url: str = ""
    url_label: str = ""
    template: str = ""  # the provider's own template code (SMS)
    variables: Mapping[str, str] = {}  # of that template, in its order
    buttons: tuple[Button, ...] = ()
    payload: bytes = b""  # webhooks: the exact body
    mentions: tuple[str, ...] = ()  # group robots: provider user ids, or `@all`
    headers: Mapping[str, str] = {}  # mail: additional headers, e.g. List-Unsubscribe


class Message(msgspec.Struct, frozen=True):
    """One message to one address. `message_id` stays the same over every attempt and is the idempotency key."""

    message_id: str
    address: str
    content: Content
    urgency: str = "normal"  # urgent | normal | bulk
    valid_until: datetime | None = None  # useless after this instant
    thread: str = ""  # what it is about (a ticket's number): threads, collapses and references
    attempted_at: datetime | None = None  # the earliest attempt, for lookups
    provider_id: str | None = None  # of an earlier attempt, for lookups


def receipt_of(message: Message, outcome: Outcome) -> Receipt | None:
    """What an answer about an accepted message reports; None where it says nothing yet."""
    told, bad = outcome.state, outcome.kind is Kind.BAD_RECIPIENT
    if outcome.kind not in (Kind.ACCEPTED, Kind.UNKNOWN, Kind.THROTTLED, Kind.BAD_ACCOUNT):
        told = ReceiptState.FAILED
    if told is None:
        return None
    detail = ": ".join(part for part in (outcome.code, outcome.detail) if part)
    return Receipt(
        str(message.provider_id), told, message.address, None, detail, message_id=message.message_id, bad_recipient=bad,
        again=outcome.kind is Kind.TRANSIENT,
    )  # fmt: skip


def quota(limit: int, of: str, **per: float) -> Quota:
    """A quota that a provider is known for: `quota(30, "recipient", minutes=1)`."""
    return Quota(limit=limit, of=of, per=Duration(**per))  # type: ignore[arg-type]


def accepted(provider_id: str | None = None, state: ReceiptState | None = None) -> Outcome:
    """The provider took the message; `state` only from a lookup."""
    return Outcome(Kind.ACCEPTED, provider_id, state=state)


def failed(kind: Kind, code: object = "", detail: str = "", after: timedelta | None = None) -> Outcome:
    """Anything but `accepted`, with the provider's code and a short text."""
    return Outcome(kind, code=str(code), detail=detail[:DETAIL_LIMIT], after=after)


@dataclass(frozen=True, slots=True)
class Net:
    """What drivers reach the world through: one HTTP pool, the wall clock and randomness.

    Signatures and tokens are dated by the *provider's* clock, so `now` is wall time (aware UTC), never business time.
    """

    http: HttpClient
    now: Callable[[], datetime]
    nonce: Callable[[], str]  # fresh, at least 128 bits, ASCII letters and digits


@dataclass(frozen=True, slots=True)
class Options:
    """A provider entry of the playbook with its secrets resolved (shared/playbook/messages.py)."""

    name: str
    base_url: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    timeout_seconds: float = 10.0
    concurrency: int = 64
    allow: tuple[str, ...] = ()  # networks a webhook may reach although they are not public

    def read(self, kind: type[S]) -> S:
        """The driver's own settings, typed; raises `ConfigError` naming the provider and the setting."""
        try:
            return msgspec.convert(dict(self.settings), kind)
        except msgspec.ValidationError as error:
            raise ConfigError(f"provider {self.name}: settings: {error}") from error

    def secret(self, name: str) -> str:
        """The named secret; raises `ConfigError` when the playbook does not give it."""
        try:
            return self.secrets[name]
        except KeyError:
            raise ConfigError(f"provider {self.name}: secret {name!r} is missing") from None


class NoSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A driver without settings of its own."""


class Driver(ABC):
    """Base of every driver: one provider account, run in one asyncio loop.

    `send` answers one outcome for each message, in order, and never raises for what a network or provider does.
    Subclasses give `call`, which sends one group (`groups`) in one provider call and may raise the errors of
    `services.notifier.errors`.
    """

    name: ClassVar[str]
    channel: ClassVar[str]  # inbox | mail | sms | chat | robot | app | webhook
    batch_size: ClassVar[int] = 1  # recipients of one `call`
    has_idempotency: ClassVar[bool] = False  # sending the same message again makes no second copy
    idempotent_in_batch: ClassVar[bool] = True  # also when the next attempt goes out in another company
    has_lookup: ClassVar[bool] = False
    receipts: ClassVar[ReceiptMode] = ReceiptMode.NONE
    tells_read: ClassVar[bool] = False  # whether a poll also says who has read
    caps: ClassVar[tuple[Quota, ...]] = ()  # what the provider drops without an error: kept to before the call
    secrets: ClassVar[tuple[str, ...]] = ()  # names the playbook must give
    settings_type: ClassVar[type[msgspec.Struct]] = NoSettings

    def __init__(self, options: Options, net: Net) -> None:
        self.options = options
        self.net = net
        for name in self.secrets:
            options.secret(name)
        self._hidden = tuple(
            sorted((value for value in options.secrets.values() if len(value) > 3), key=len, reverse=True)
        )

    def on_receipts(self, sink: ReceiptSink) -> None:  # noqa: B027 - most receipts come to the gateway
        """Where receipts go that come over the driver's own connection (SMPP); `sink` returns once they are stored."""

    def groups(self, batch: Sequence[Message]) -> list[list[Message]]:
        """Split into what one `call` may carry, keeping the order; single calls unless the driver says better."""
        return [[message] for message in batch]

    @abstractmethod
    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        """Send one group in one provider call and answer one outcome for each message."""

    async def send(self, batch: Sequence[Message]) -> list[Outcome]:
        """Send messages and answer one outcome for each, in the order given."""
        if len(batch) == 1:
            return list(await self._guarded(batch))
        groups = self.groups(batch)
        answers = await asyncio.gather(*(self._guarded(group) for group in groups))
        found: dict[int, Outcome] = {}
        for group, outcomes in zip(groups, answers, strict=True):
            found.update(zip(map(id, group), outcomes, strict=True))
        return [found[id(message)] for message in batch]

    async def lookup(self, message: Message) -> Outcome | None:
        """What the provider knows of a message whose answer was lost.

        `None`: it never arrived, sending again is safe. `unknown`: the provider could not say. The message carries
        the `attempted_at` and `provider_id` of its earlier attempt. Providers need some seconds until a query shows a
        message.
        """
        return Outcome(Kind.UNKNOWN, detail="this provider has no query")

    async def poll(self, messages: Sequence[Message]) -> list[Receipt]:
        """What is known by now of messages that were accepted; each carries its `provider_id`. What is not known is left out. May
        raise what `call` may.
        """
        return []

    async def close(self) -> None:  # noqa: B027 - most drivers hold nothing
        """Release what only this driver holds."""

    async def _guarded(self, group: Sequence[Message]) -> Sequence[Outcome]:
        try:
            return [self._clean(outcome) for outcome in await self.call(group)]
        except NotWritten as error:
            outcome = failed(Kind.TRANSIENT, "not_written", str(error))
        except NoAnswer as error:
            outcome = self._unknown("no_answer", error, group)
        except BadReply as error:
            outcome = self._unknown("bad_reply", error, group)
        except TokenRefused as error:
            outcome = failed(Kind.BAD_ACCOUNT, error.code, error.detail)
        except ForbiddenTarget as error:
            outcome = failed(Kind.BAD_RECIPIENT, "forbidden_target", str(error))
        except (
            Exception
        ) as error:  # an answer of a shape nobody foresaw: it must not stop the sender, and it must be seen
            outcome = self._unknown("driver_error", error, group)
        return [self._clean(outcome)] * len(group)

    def reference(self, group: Sequence[Message]) -> str | None:
        """What a call whose answer was lost can be looked up by later; kept as the `provider_id` of its unknown
        outcomes.
        """
        return None

    def _unknown(self, code: str, error: Exception, group: Sequence[Message]) -> Outcome:
        safe = self.has_idempotency and (len(group) == 1 or self.idempotent_in_batch)
        return Outcome(
            Kind.UNKNOWN, self.reference(group), code=code, detail=str(error)[:DETAIL_LIMIT], resend_safe=safe
        )

    def _clean(self, outcome: Outcome) -> Outcome:
        """Providers echo what they refuse: no secret may end in a row or a log line."""
        if not outcome.detail:
            return outcome
        detail = outcome.detail
        for hidden in self._hidden:
            detail = detail.replace(hidden, "***")
        return outcome if detail is outcome.detail else msgspec.structs.replace(outcome, detail=detail)


def chunks(batch: Sequence[Message], size: int, key: Callable[[Message], object]) -> list[list[Message]]:
    """Group messages of equal `key` into lists of at most `size`, each in the order given."""
    found: list[list[Message]] = []
    current: dict[object, list[Message]] = {}
    for message in batch:
        mark = key(message)
        group = current.get(mark)
        if group is None or len(group) == size:
            group = current[mark] = []
            found.append(group)
        group.append(message)
    return found
