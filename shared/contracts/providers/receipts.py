"""The neutral form of what a provider reports: receipts, card actions, and the errors of reading them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from urllib.parse import parse_qsl, urlsplit

import msgspec


class Forged(Exception):
    """The request does not prove that it comes from the provider."""


class Malformed(Exception):
    """The request is authentic, or needs no proof to be refused, and cannot be read."""


class ReceiptState(StrEnum):
    """How far a message is known to have come."""

    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"

    def follows(self, earlier: ReceiptState | None) -> bool:
        """Whether a receipt with this state changes what is known.

        States move forward only: sent (None) < delivered < read. `failed` stands unless `delivered` or `read`
        follows, because carriers report a late delivery after an expiry; it never replaces them.
        """
        if earlier is None or earlier is ReceiptState.FAILED:
            return self is not earlier
        return earlier is ReceiptState.DELIVERED and self is ReceiptState.READ


class Receipt(msgspec.Struct, frozen=True):
    """One message's fate. `at` is aware UTC, the provider's time; None when it gives none."""

    provider_id: str
    state: ReceiptState
    address: str | None = None
    at: datetime | None = None
    detail: str = ""
    message_id: str | None = None  # our own id, where the provider returns it
    bad_recipient: bool = False  # the failure says that the address itself is of no use
    again: bool = False  # the provider failed at it, and may not the next time
    also: tuple[str, ...] = ()  # other spellings of the provider id (SMPP: decimal here, hexadecimal in the reply)


class CardAction(msgspec.Struct, frozen=True):
    """A person pressed a button of a card. `value` is what the card carried, `user` the provider's id of the person."""

    provider: str
    value: str
    user: str
    at: datetime | None = None
    card_id: str = ""  # the provider's id of the card or message
    update_token: str = ""  # allows one update of the card (WeCom response_code, Slack response_url)
    event_id: str = ""  # for de-duplication of repeated callbacks


class Reply(msgspec.Struct, frozen=True):
    """What the provider must be answered, so that it does not send again."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"


class Receipts(msgspec.Struct, frozen=True):
    """What one receipt request says, and the answer it wants once they are stored."""

    items: tuple[Receipt, ...]
    reply: Reply = Reply()


class Callback(msgspec.Struct, frozen=True):
    """What one callback request says: an action, or nothing but a handshake, and the answer it wants."""

    action: CardAction | None
    reply: Reply = Reply()


class Inbound(msgspec.Struct, frozen=True):
    """A request as the gateway got it.

    `url` is the public one *as configured* (scheme and host of the deployment, not what a proxy shows) with path and
    query; header names are lower case.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes
    remote: str = ""  # address of the peer

    def query(self) -> dict[str, str]:
        """The query's parameters; of a repeated one the first."""
        return _first(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))

    def form(self) -> dict[str, str]:
        """The body as a form; raises `Malformed`."""
        try:
            return _first(parse_qsl(self.body.decode(), keep_blank_values=True, max_num_fields=200))
        except ValueError as error:
            raise Malformed("not a form") from error


def _first(pairs: list[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found
