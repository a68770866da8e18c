"""The only SQL of the notifier; set-based, never commits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Connection

from services.notifier.planning import Waiting
from services.notifier.rows import Accepted, Changes, Ready, Row, Written
from shared.access import links as action_links
from shared.ledger.unit import decode_ticket
from shared.playbook.messages import Storm
from shared.runtime import arrays, copying
from shared.ticket.state import Ticket

if TYPE_CHECKING:
    from services.notifier.gathering import Window
    from services.notifier.health import State
    from services.notifier.receipts import Kept

_encoder = msgspec.json.Encoder()


def as_json(rows: Any) -> str:
    """Rows as a `json_to_recordset` parameter."""
    return _encoder.encode(rows).decode()


_NOTIFICATION: copying.Columns = {
    "id": copying.number, "ticket_id": copying.number, "event_kind": copying.text, "event_item": copying.number,
    "event_version": copying.number, "event_type": copying.text, "rule": copying.text, "playbook": copying.number,
    "recipient": copying.text, "channel": copying.text, "state": copying.text, "reason": copying.text, "until": copying.text,
    "due_at": copying.instant, "message_id": copying.number, "created_at": copying.instant,
}  # fmt: skip
_MESSAGE: copying.Columns = {
    "id": copying.number, "version": copying.number, "ticket_id": copying.number, "rule": copying.text,
    "playbook": copying.number, "event_type": copying.text, "recipient": copying.text, "channel": copying.text,
    "provider": copying.text, "address": copying.text, "locale": copying.text, "urgency": copying.text,
    "on_unknown": copying.text, "state": copying.text, "valid_until": copying.instant, "attempts": copying.json,
    "provider_id": copying.text, "event_version": copying.number, "content": copying.json, "reason": copying.text,
    "gather": copying.text, "epoch": copying.number, "sent_at": copying.instant,
    "created_at": copying.instant,
}  # fmt: skip
_OF_THE_LOG = {"event": b"{}"}
"""What a message is about stands in the log and is read there (`COLUMNS`)."""
_KNOWN = """
select n.event_kind, n.event_item, n.event_version, n.recipient, n.channel
from unnest(%(kinds)s, %(items)s, %(versions)s) as x (kind, item, version)
join notifier.notification n on n.event_kind = x.kind and n.event_item = x.item and n.event_version = x.version
"""
"""Promises that were made already for these events."""
_TURN = """
update notifier.notification n set state = x.state, reason = x.reason, message_id = x.message_id,
    due_at = coalesce(x.due_at, n.due_at), updated_at = x.updated_at
from json_to_recordset(%(turned)s) as x (id bigint, state text, reason text, message_id bigint, due_at timestamptz,
    updated_at timestamptz)
where n.id = x.id and n.state = 'planned'
returning n.message_id
"""
_WAITING = """
select id, event_type, rule, recipient, channel, until, due_at, ticket_id, playbook, event_kind, event_item, event_version
from notifier.notification where ticket_id = any(%(ids)s) and state = 'planned' order by ticket_id, due_at, id
"""
_REACHED = """
select n.ticket_id, m.rule, m.recipient, m.state from notifier.notification n join notifier.message m on m.id = n.message_id
where n.event_kind = 'ticket' and n.event_item = any(%(ids)s)
"""
COLUMNS = """m.id, m.version, m.ticket_id, m.rule, m.playbook, m.event_type, case when m.event <> '{}' then m.event else coalesce((
        select e.data::jsonb from ledger.event e
        where e.kind = 'ticket' and e.id = m.ticket_id and e.version = m.event_version), '{}') end,
    m.recipient, m.channel, m.provider, m.address, m.locale, m.urgency, m.on_unknown, m.state, m.epoch, m.failures,
    m.provider_id, m.valid_until, m.attempts, m.created_at, m.event_version, m.gather, m.bundle, m.reason"""
"""A message as `Row` takes it. Its event is read where it stands, in the log; earlier versions wrote it here too."""
_ROWS = f"select {COLUMNS} from notifier.message m where m.id = any(%(ids)s) order by m.id"
_LOCKED = "select id, version, state, epoch from notifier.message where id = any(%(ids)s) order by id for update"
_SENDING = """
update notifier.message m set state = 'sending', epoch = x.epoch, provider = x.provider, sent_at = x.at, updated_at = x.at
from unnest(%(ids)s, %(epochs)s, %(providers)s, %(ats)s) as x (id, epoch, provider, at) where m.id = x.id
"""
_RECORD = """
update notifier.message m set version = x.version, state = x.state, reason = x.reason, failures = x.failures,
    provider_id = coalesce(x.provider_id, m.provider_id), provider = x.provider,
    attempts = case when x.attempt is null then m.attempts else m.attempts || jsonb_build_array(x.attempt::jsonb) end,
    gather = case when x.state in ('held', 'unknown') then coalesce(x.gather, m.gather) end,
    bundle = coalesce(x.bundle, m.bundle), updated_at = x.at
from unnest(%(ids)s, %(versions)s, %(states)s, %(reasons)s, %(failures)s, %(provider_ids)s, %(providers)s, %(attempts)s,
    %(gathers)s, %(bundles)s, %(ats)s)
    as x (id, version, state, reason, failures, provider_id, provider, attempt, gather, bundle, at)
where m.id = x.id
"""
_ACCEPTED = """
update notifier.message m set version = m.version + 1, state = 'sent', reason = null, gather = null,
    provider_id = coalesce(%(provider_id)s, m.provider_id), attempts = m.attempts || %(attempt)s::jsonb, updated_at = %(at)s
where m.id = any(%(ids)s) and m.state = 'sending' and m.epoch = %(epoch)s
returning m.id, m.version
"""
"""Looks, locks and writes at once, in the order of the ids: a third of what that costs in three steps."""
_TICKETS = "select id, state::text as state from ledger.ticket where id = any(%(ids)s)"
_DEAD = """
select d.channel, d.address, d.since, d.reason
from unnest(%(channels)s, %(addresses)s) as x (channel, address)
join notifier.dead_address d on d.channel = x.channel and d.address = x.address
"""
CARRIED_MOST = 2_000
"""Messages that one carries."""
RECIPIENTS = 0x5163
"""Key space of the advisory locks on recipients."""
_GATHERED = f"""
select {COLUMNS} from notifier.message m where m.gather = %(key)s and m.state = 'held' and m.bundle is null and m.id <> %(id)s
order by m.id limit %(limit)s for update of m skip locked
"""
_UNSENT_ABOUT = f"""
select {COLUMNS} from notifier.notification n join notifier.message m on m.id = n.message_id
where n.event_kind = 'ticket' and n.event_item = any(%(ids)s) and n.event_type = any(%(types)s)
  and m.state in ('planned', 'held') and m.bundle is null
  and not exists (select from notifier.message o where o.bundle = m.id)
order by m.id for update of m skip locked
"""
_CARRIED = f"select {COLUMNS} from notifier.message m where m.bundle = any(%(ids)s) order by m.id for update of m"
_SENT_LATELY = """
select m.recipient, m.channel, m.ticket_id, m.sent_at
from unnest(%(recipients)s::text[]) as x (recipient) cross join lateral (
    select * from notifier.message n where n.recipient = x.recipient and n.channel <> 'inbox' and n.bundle is null
        and n.sent_at is not null
    order by n.id desc limit %(limit)s
) m
"""
"""The newest of each, at least as many as any cap counts; ids grow with time, nearly."""


def plan(connection: Connection, changes: Changes, ready: Ready) -> set[int]:
    """Keep a plan; returns the ids of messages that are new (a notification that exists already makes none).

    `ready` is given their rows before they are written, and may change them.
    """
    if not (changes.notifications or changes.turned):
        return set()
    fresh = _unmade(connection, changes.notifications)
    wanted = {row["message_id"] for row in fresh}
    if changes.turned:
        turned = connection.exec_driver_sql(_TURN, {"turned": as_json(changes.turned)})
        wanted |= {row.message_id for row in turned}
    copying.rows(connection, "notifier.notification", _NOTIFICATION, fresh, {"updated_at": "created_at"})
    messages = [row for row in changes.messages if row["id"] in wanted]
    ready(messages)
    copying.rows(connection, "notifier.message", _MESSAGE, messages, {"updated_at": "created_at"}, _OF_THE_LOG)
    return {row["id"] for row in messages}


def _unmade(connection: Connection, notifications: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those whose promise was not made before; nobody else can make it meanwhile, the tickets' locks are held. A plan makes none
    twice itself.
    """
    events = sorted({(row["event_kind"], row["event_item"], row["event_version"]) for row in notifications})
    if not events:
        return []
    kinds, items, versions = zip(*events, strict=True)
    known = {
        tuple(row)
        for row in connection.exec_driver_sql(
            _KNOWN, {"kinds": arrays.Texts(kinds), "items": arrays.Longs(items), "versions": arrays.Ints(versions)}
        )
    }
    if not known:
        return list(notifications)
    key = itemgetter("event_kind", "event_item", "event_version", "recipient", "channel")
    return [row for row in notifications if key(row) not in known]


def waiting(connection: Connection, ids: Sequence[int]) -> dict[int, list[tuple[Waiting, Any]]]:
    """Planned steps of tickets, earliest first, each with its whole row."""
    found: dict[int, list[tuple[Waiting, Any]]] = {}
    for row in connection.exec_driver_sql(_WAITING, {"ids": arrays.Longs(list(ids))}):
        step = Waiting(row.id, row.event_type, row.rule, row.recipient, row.channel, row.until, row.due_at)
        found.setdefault(row.ticket_id, []).append((step, row))
    return found


def reached(connection: Connection, ids: Sequence[int]) -> dict[int, dict[tuple[str, str], str]]:
    """The furthest state of a ticket's messages by (rule, recipient)."""
    order = {"sent": 1, "delivered": 2, "read": 3}
    found: dict[int, dict[tuple[str, str], str]] = {}
    for row in connection.exec_driver_sql(_REACHED, {"ids": arrays.Longs(list(ids))}):
        states = found.setdefault(row.ticket_id, {})
        key = (row.rule, row.recipient)
        if order.get(row.state, 0) >= order.get(states.get(key, ""), 0):
            states[key] = row.state
    return found


def rows(connection: Connection, ids: Sequence[int]) -> list[Row]:
    """Messages, in id order."""
    return as_rows(connection.exec_driver_sql(_ROWS, {"ids": arrays.Longs(ids)}))


def as_rows(found: Any) -> list[Row]:
    """What a statement selected as `COLUMNS`."""
    return [Row(*row) for row in found.all()]


def locked(connection: Connection, ids: Sequence[int]) -> list[tuple[int, int, str, int]]:
    """(id, version, state, epoch) of messages in id order, waiting for their locks: only the recorder of outcomes does."""
    return [tuple(row) for row in connection.exec_driver_sql(_LOCKED, {"ids": arrays.Longs(ids)}).all()]


def sending(connection: Connection, marked: Sequence[dict[str, Any]]) -> None:
    """Mark messages as being sent, each under its new epoch."""
    connection.exec_driver_sql(
        _SENDING,
        {
            "ids": arrays.Longs([row["id"] for row in marked]),
            "epochs": arrays.Ints([row["epoch"] for row in marked]),
            "providers": arrays.Texts([row["provider"] for row in marked]),
            "ats": arrays.Instants([row["at"] for row in marked]),
        },
    )


def accepted(connection: Connection, one: Accepted) -> list[tuple[int, int]]:
    """Write that messages are sent; (id, new version) of those that are still being sent under this epoch."""
    found = connection.exec_driver_sql(
        _ACCEPTED,
        {
            "ids": arrays.Longs(sorted(one.ids)), "epoch": one.epoch, "provider_id": one.provider_id,
            "attempt": as_json([one.attempt]), "at": one.at,
        },
    )  # fmt: skip
    return [tuple(row) for row in found.all()]


def record(connection: Connection, recorded: Sequence[Written]) -> None:
    """Write what became of messages."""
    connection.exec_driver_sql(
        _RECORD,
        {
            "ids": arrays.Longs([row.id for row in recorded]),
            "versions": arrays.Ints([row.version for row in recorded]),
            "states": arrays.Texts([row.state for row in recorded]),
            "reasons": arrays.Texts([row.reason for row in recorded]),
            "failures": arrays.Ints([row.failures for row in recorded]),
            "provider_ids": arrays.Texts([row.provider_id for row in recorded]),
            "providers": arrays.Texts([row.provider for row in recorded]),
            "attempts": arrays.Jsons([row.attempt for row in recorded]),
            "gathers": arrays.Texts([row.gather for row in recorded]),
            "bundles": arrays.Longs([row.bundle for row in recorded]),
            "ats": arrays.Instants([row.at for row in recorded]),
        },
    )


def event(connection: Connection, kind: str, item_id: int, version: int) -> dict[str, Any]:
    """The data of one event, as it is recorded."""
    data: dict[str, Any] = connection.exec_driver_sql(
        "select data from ledger.event where kind = %s and id = %s and version = %s", (kind, item_id, version)
    ).scalar_one()
    return data


def keep_links(connection: Connection, linked: Sequence[dict[str, Any]]) -> None:
    """Keep the one-click links of messages that are being sent."""
    action_links.keep(connection, linked)


def tickets(connection: Connection, ids: Sequence[int]) -> dict[int, Ticket]:
    """Tickets that messages are about, as they are now."""
    found = connection.exec_driver_sql(_TICKETS, {"ids": arrays.Longs(list(ids))})
    return {row.id: decode_ticket(row.state) for row in found}


def early(connection: Connection, provider: str, provider_ids: Sequence[str]) -> Sequence[Kept]:
    """Receipts that came before these provider ids were known."""
    from services.notifier.receipt_store import early as find  # it speaks of `Row`

    return find(connection, provider, provider_ids)


def dead(connection: Connection, addresses: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Which of these (channel, address) a provider called useless, and the sentence that says so."""
    if not addresses:
        return {}
    channels, places = zip(*addresses, strict=True)
    values = {"channels": arrays.Texts(channels), "addresses": arrays.Texts(places)}
    rows = connection.exec_driver_sql(_DEAD, values)
    return {
        (row.channel, row.address): f"this address was refused on {row.since:%Y-%m-%d %H:%M} UTC ({row.reason})"
        for row in rows
    }


def health(connection: Connection) -> dict[str, State]:
    """The shared states of providers."""
    from services.notifier.health_store import read  # it speaks of rows' JSON

    return read(connection)


def windows(connection: Connection, wanted: Iterable[Window], now: datetime) -> Mapping[str, tuple[datetime, bool]]:
    """Open or join windows that collect (`gathering`)."""
    from services.notifier.gathering import open_windows

    return open_windows(connection, wanted, now)


def storms(connection: Connection, storm: Storm, counted: Mapping[str, int], now: datetime) -> Mapping[str, datetime]:
    """Count events by source; those that storm, and until when."""
    from services.notifier.gathering import count_storms

    return count_storms(connection, storm, counted, now)


def gathered(connection: Connection, key: str, carrier: int) -> list[Row]:
    """What waits with the same key as a message that goes out now, locked as far as it is free."""
    return as_rows(connection.exec_driver_sql(_GATHERED, {"key": key, "id": carrier, "limit": CARRIED_MOST}))


def unsent_about(connection: Connection, ids: Sequence[int], types: Sequence[str]) -> list[Row]:
    """Messages of tickets about events of these types that nobody sends at the moment and that carry no others, locked."""
    return as_rows(connection.exec_driver_sql(_UNSENT_ABOUT, {"ids": list(ids), "types": list(types)}))


def carried(connection: Connection, carriers: Sequence[int]) -> list[Row]:
    """What these messages carry."""
    return as_rows(connection.exec_driver_sql(_CARRIED, {"ids": arrays.Longs(carriers)})) if carriers else []


def sent_lately(
    connection: Connection, recipients: Sequence[str], after: datetime, limit: int
) -> dict[str, list[tuple[str, int | None, datetime]]]:
    """By recipient: (channel, ticket, when) of their newest messages, at most `limit` each.

    Only recipients that no other transaction looks at: the lock on each lasts as long as this one, so that two workers never
    both use the last place under a cap. Those that are taken are left out.
    """
    free = [name for name in recipients if _lock_recipient(connection, name)]
    found: dict[str, list[tuple[str, int | None, datetime]]] = {name: [] for name in free}
    for one in connection.exec_driver_sql(_SENT_LATELY, {"recipients": free, "limit": limit}) if free else ():
        if one.sent_at > after:
            found[one.recipient].append((one.channel, one.ticket_id, one.sent_at))
    return found


def _lock_recipient(connection: Connection, recipient: str) -> bool:
    key = int.from_bytes(hashlib.blake2b(recipient.encode(), digest_size=4).digest(), signed=True)
    locked = connection.exec_driver_sql("select pg_try_advisory_xact_lock(%s, %s)", (RECIPIENTS, key)).scalar_one()
    return bool(locked)
