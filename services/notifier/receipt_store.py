"""SQL of receipts, dead addresses and what a message's fate means for others; set-based, never commits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.notifier.receipts import Kept
from services.notifier.rows import Row
from services.notifier.store import COLUMNS, as_json, as_rows
from shared.contracts.providers.receipts import ReceiptState
from shared.runtime import arrays

_KEEP = """
insert into notifier.receipt (id, provider, provider_id, other_ids, message_id, address, state, at, detail, bad_recipient,
    received_at)
select id, provider, provider_id, array(select json_array_elements_text(other_ids)), message_id, address, state, at, detail,
    bad_recipient, received_at
from json_to_recordset(%(rows)s) as x (id bigint, provider text, provider_id text, other_ids json, message_id bigint, address text,
    state text, at timestamptz, detail text, bad_recipient boolean, received_at timestamptz)
"""
_KEPT = (
    "select id, provider, provider_id, other_ids, message_id, address, state, at, detail, bad_recipient, received_at"
)
_WAITING = f"{_KEPT} from notifier.receipt where provider = %(provider)s order by id limit %(limit)s"
_OF_IDS = f"""
{_KEPT} from notifier.receipt r where r.provider = %(provider)s and r.provider_id = any(%(ids)s) order by id
"""
_BY_PROVIDER_ID = f"""
select {COLUMNS} from unnest(%(ids)s::text[]) as x (provider_id)
join notifier.message m on m.provider = %(provider)s and m.provider_id = x.provider_id
order by m.id for update of m skip locked
"""
_BY_ID = f"select {COLUMNS} from notifier.message m where m.id = any(%(ids)s) order by m.id for update of m skip locked"
_DROP = "delete from notifier.receipt where id = any(%(ids)s)"
_DEAD = """
insert into notifier.dead_address (channel, address, since, reason)
select channel, address, since, reason
from json_to_recordset(%(rows)s) as x (channel text, address text, since timestamptz, reason text)
on conflict (channel, address) do nothing
"""
_ELSEWHERE = f"""
select {COLUMNS} from (
    select distinct n.message_id
    from json_to_recordset(%(rows)s) as x (ticket_id bigint, event_version integer, recipient text)
    join notifier.notification n on n.event_kind = 'ticket' and n.event_item = x.ticket_id and n.event_version = x.event_version
        and n.recipient = x.recipient and n.message_id is not null
) o join notifier.message m on m.id = o.message_id
where m.content is not null and m.state <> 'read'
order by m.id for update of m skip locked
"""
_HURRY = """
update notifier.notification n set due_at = %(now)s
from (
    select distinct on (p.event_item, p.event_version, p.recipient) p.id, p.due_at
    from json_to_recordset(%(rows)s) as x (ticket_id bigint, event_version integer, recipient text)
    join notifier.notification p on p.event_kind = 'ticket' and p.event_item = x.ticket_id and p.event_version = x.event_version
        and p.recipient = x.recipient and p.state = 'planned'
    order by p.event_item, p.event_version, p.recipient, p.due_at
) next where n.id = next.id and n.due_at > %(now)s
returning n.ticket_id
"""


_OVERDUE = """
select distinct n.ticket_id
from json_to_recordset(%(rows)s) as x (ticket_id bigint, event_version integer, recipient text)
join notifier.notification n on n.event_kind = 'ticket' and n.event_item = x.ticket_id and n.event_version = x.event_version
    and n.recipient = x.recipient and n.state = 'planned' and n.due_at <= %(now)s
"""


def keep(connection: Connection, receipts: Sequence[Kept]) -> None:
    """Store receipts."""
    if receipts:
        connection.exec_driver_sql(_KEEP, {"rows": as_json(receipts)})


def waiting(connection: Connection, provider: str, limit: int = 5_000) -> list[Kept]:
    """Receipts of a provider that found no message yet, oldest first."""
    return _kept(connection.exec_driver_sql(_WAITING, {"provider": provider, "limit": limit}))


def early(connection: Connection, provider: str, provider_ids: Sequence[str]) -> list[Kept]:
    """Receipts that came before these provider ids were known."""
    return _kept(connection.exec_driver_sql(_OF_IDS, {"provider": provider, "ids": arrays.Texts(provider_ids)}))


def _kept(rows: Any) -> list[Kept]:
    return [
        Kept(
            row.id, row.provider, row.provider_id, tuple(row.other_ids), row.message_id, row.address,
            ReceiptState(row.state), row.at, row.detail, row.bad_recipient, row.received_at,
        )
        for row in rows
    ]  # fmt: skip


def of_provider_ids(connection: Connection, provider: str, provider_ids: Sequence[str]) -> list[Row]:
    """Messages by the provider's ids, locked as far as they are free."""
    found = connection.exec_driver_sql(_BY_PROVIDER_ID, {"provider": provider, "ids": list(provider_ids)})
    return as_rows(found)


def of_ids(connection: Connection, ids: Sequence[int]) -> list[Row]:
    """Messages by our own ids, locked as far as they are free."""
    return as_rows(connection.exec_driver_sql(_BY_ID, {"ids": list(ids)})) if ids else []


def drop(connection: Connection, ids: Sequence[int]) -> None:
    """Forget receipts: they are applied, or too old."""
    if ids:
        connection.exec_driver_sql(_DROP, {"ids": list(ids)})


def bury(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Note addresses that a provider says are of no use; in one order, so that two writers never wait in a circle."""
    if rows:
        ordered = sorted(rows, key=lambda row: (row["channel"], row["address"]))
        connection.exec_driver_sql(_DEAD, {"rows": as_json(ordered)})


def elsewhere(connection: Connection, rows: Sequence[Row]) -> list[Row]:
    """Unread inbox messages of the same (event, recipient) as these, locked as far as they are free."""
    found = _places(rows)
    return as_rows(connection.exec_driver_sql(_ELSEWHERE, {"rows": as_json(found)})) if found else []


def hurry(connection: Connection, rows: Sequence[Row], now: datetime) -> list[int]:
    """Let the next step of these (event, recipient) come now; returns the tickets to look at."""
    found = _places(rows)
    if not found:
        return []
    return [row.ticket_id for row in connection.exec_driver_sql(_HURRY, {"rows": as_json(found), "now": now})]


def overdue(connection: Connection, rows: Sequence[Row], now: datetime) -> list[int]:
    """Tickets of these (event, recipient) with a step whose turn has come and that nobody took up yet."""
    found = _places(rows)
    if not found:
        return []
    return [row.ticket_id for row in connection.exec_driver_sql(_OVERDUE, {"rows": as_json(found), "now": now})]


def _places(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {"ticket_id": row.ticket_id, "event_version": row.event_version, "recipient": row.recipient}
        for row in rows
        if row.ticket_id is not None and row.event_version is not None
    ]
