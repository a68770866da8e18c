"""Attachments of tickets: what is known of each in one table, its bytes behind a store.

The bytes are written first and the ticket is locked afterwards, for as long as it takes to append an event. The same file under the
same name on the same ticket is one attachment, however often it is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec
from sqlalchemy import Connection

from services.gateway.sniffing import media_type
from shared.contracts.envelope import Actor, New
from shared.contracts.events import TicketAttached
from shared.ledger import business
from shared.ledger.process import Deps
from shared.ledger.tickets import lock
from shared.ledger.unit import Unit, dumps
from shared.runtime.ids import random_token

MAX_BYTES = 20 << 20
MAX_ON_TICKET = 200
MAX_NAME = 200


class Store(Protocol):
    """Keeps bytes by id. Called inside the caller's transaction; another place than PostgreSQL must not mind a rollback."""

    def put(self, connection: Connection, attachment: str, data: bytes) -> None:
        """Keep."""

    def get(self, connection: Connection, attachment: str) -> bytes | None:
        """Give back; None when there is nothing of that id."""


class PostgresStore:
    """The default: a table of its own, so that lists never read the bytes."""

    def put(self, connection: Connection, attachment: str, data: bytes) -> None:
        connection.exec_driver_sql("insert into gateway.attachment_data (id, data) values (%s, %s)", (attachment, data))

    def get(self, connection: Connection, attachment: str) -> bytes | None:
        row = connection.exec_driver_sql(
            "select data from gateway.attachment_data where id = %s", (attachment,)
        ).first()
        return None if row is None else bytes(row.data)


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a ticket. `media_type` is what its bytes are, not what somebody said; `sha256` in hexadecimal."""

    id: str
    ticket: str
    name: str
    media_type: str
    size: int
    sha256: str
    by: Actor
    at: datetime


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a file is not taken."""

    code: str
    reason: str


_COLUMNS = "id, ticket_id::text as ticket, name, media_type, size, encode(sha256, 'hex') as sha256, by, at"


def listing(connection: Connection, ticket_ids: Sequence[int]) -> list[Attachment]:
    """What tickets have attached, oldest first: what a required material of a flow's node may be."""
    rows = connection.exec_driver_sql(
        f"select {_COLUMNS} from gateway.attachment where ticket_id = any(%s) order by at, id", (list(ticket_ids),)
    ).mappings()
    return [msgspec.convert(dict(row), Attachment) for row in rows]


def find(connection: Connection, ticket_id: int, attachment: str) -> Attachment | None:
    """One attachment of a ticket."""
    rows = connection.exec_driver_sql(
        f"select {_COLUMNS} from gateway.attachment where ticket_id = %s and id = %s", (ticket_id, attachment)
    ).mappings()
    row = rows.one_or_none()
    return None if row is None else msgspec.convert(dict(row), Attachment)


def attach(
    deps: Deps,
    store: Store,
    connection: Connection,
    ticket_id: int,
    name: str,
    data: bytes,
    actor: Actor,
    correlation: str,
) -> tuple[Attachment, bool] | Refused | None:
    """Keep a file and commit: (it, whether it is new), why not, or None when there is no such ticket."""
    digest, number, kind = hashlib.sha256(data), f"at_{random_token(18)}", media_type(data)
    if (known := _same(connection, ticket_id, name, digest.digest())) is not None:
        return known, False
    store.put(connection, number, data)
    ticket = lock(connection, [ticket_id]).get(ticket_id)
    if ticket is None or ticket.status == "merged":
        connection.rollback()
        return None if ticket is None else Refused("merged", f"the ticket was merged into T-{ticket.merged_into}")
    if (known := _same(connection, ticket_id, name, digest.digest())) is not None:  # it came twice at once
        connection.rollback()
        return known, False
    count = connection.exec_driver_sql("select count(*) from gateway.attachment where ticket_id = %s", (ticket_id,))
    if count.scalar_one() >= MAX_ON_TICKET:
        connection.rollback()
        return Refused("too_many", f"a ticket has at most {MAX_ON_TICKET} attachments")
    now = business.now(connection)
    connection.exec_driver_sql(
        """insert into gateway.attachment (id, ticket_id, name, media_type, size, sha256, by, at)
        values (%s, %s, %s, %s, %s, %s, %s, %s)""",
        (number, ticket_id, name, kind, len(data), digest.digest(), dumps(actor), now),
    )
    unit = Unit(connection, now, actor, deps.playbook_number(connection), given=True, correlation=correlation)
    attached = TicketAttached(attachment=number, media_type=kind, size=len(data), sha256=digest.hexdigest())
    unit.append_to_ticket(ticket, (New(attached),))
    unit.flush()
    connection.commit()
    unit.committed()
    deps.bells.ring(unit.woken)
    found = find(connection, ticket_id, number)
    assert found is not None
    return found, True


def _same(connection: Connection, ticket_id: int, name: str, digest: bytes) -> Attachment | None:
    row = connection.exec_driver_sql(
        "select id from gateway.attachment where ticket_id = %s and name = %s and sha256 = %s",
        (ticket_id, name, digest),
    ).first()
    return None if row is None else find(connection, ticket_id, row.id)
