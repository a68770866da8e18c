"""The intake message: a ticket as it is posted, XADDed or sent to the Dramatiq queue. One shape, one validation."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec

from shared.contracts import events as e
from shared.contracts.strict import Unacceptable

Short = Annotated[str, msgspec.Meta(max_length=200)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
MAX_BODY_CHARACTERS = 100_000
EARLIEST_YEAR = 1971
"""Imports go back this far; business time is not computed for earlier years."""


class RequesterIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who asks."""

    id: Short | None = None
    name: Short | None = None
    email: Short | None = None
    phone: Short | None = None
    tier: Short | None = None
    automated: bool = False


class TicketIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ticket on its way in; `subject` is the only required member. What is not given is classified."""

    subject: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    source: Name = "api"
    external_id: Name | None = None
    dedup_key: Name | None = None
    body: Annotated[str, msgspec.Meta(max_length=MAX_BODY_CHARACTERS)] = ""
    kind: Name | None = None
    labels: dict[Name, str | int] = {}
    requester: RequesterIn | None = None
    fields: dict[Name, Any] = {}
    opened_at: datetime | None = None


def opened(ticket: TicketIn, lane: str) -> e.TicketOpened:
    """The event that opens it."""
    asked = ticket.requester
    return e.TicketOpened(
        subject=ticket.subject,
        body=ticket.body,
        source=ticket.source,
        external_id=ticket.external_id,
        dedup_key=ticket.dedup_key,
        kind=ticket.kind,
        labels={name: str(value) for name, value in ticket.labels.items()},
        requester=e.Requester(
            id=asked.id,
            name=asked.name,
            email=asked.email,
            phone=asked.phone,
            tier=asked.tier,
            automated=asked.automated,
        )
        if asked
        else e.Requester(),
        fields=ticket.fields,
        lane=lane,
    )


def check(ticket: TicketIn, now: datetime) -> None:
    """What the types cannot say. Raises `Unacceptable`."""
    if not ticket.subject.strip():
        raise Unacceptable("/subject", "subject is blank")
    if ticket.opened_at is not None:
        if ticket.opened_at.tzinfo is None:
            raise Unacceptable("/opened_at", "an instant needs an offset (2026-01-31T09:00:00+08:00)")
        if ticket.opened_at.year < EARLIEST_YEAR:  # also keeps the conversion to UTC inside the years that exist
            raise Unacceptable("/opened_at", f"lies before {EARLIEST_YEAR}")
        if ticket.opened_at > now:
            raise Unacceptable("/opened_at", "lies in the future")
    if len(ticket.labels) > 50:
        raise Unacceptable("/labels", "more than 50 labels")
    if len(ticket.fields) > 200:
        raise Unacceptable("/fields", "more than 200 fields")
