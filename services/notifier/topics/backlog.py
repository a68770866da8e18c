"""The only SQL of subscriptions: their cursors, and deliveries that are not done yet. Set-based, never commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection

from services.notifier.topics.webhook import SICK_AFTER

_json = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a subscription has come. `failing`: failures in a row, over all of its events; `leased`: a round is under way."""

    id: int
    position: int
    epoch: int
    failing: int
    leased: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """One event whose delivery is not done: `retry` (at `due_at`), `blocked` behind an earlier one of its subject, or `parked`."""

    position: int
    subject: str
    attempts: int
    state: str
    due_at: datetime | None
    error: str


@dataclass(slots=True)
class Changes:
    """What one round writes."""

    kept: list[Waiting] = field(default_factory=list)
    done: list[int] = field(default_factory=list)


def cursors(connection: Connection, ids: Sequence[int]) -> dict[int, Cursor]:
    """Cursors of subscriptions that have one (the caller holds their items' locks)."""
    rows = connection.exec_driver_sql(
        "select id, position, epoch, failing, leased from notifier.subscription where id = any(%s)", (list(ids),)
    )
    return {row.id: Cursor(*row) for row in rows}


def save_cursor(connection: Connection, cursor: Cursor, at: datetime) -> None:
    """Keep a cursor."""
    connection.exec_driver_sql(
        """insert into notifier.subscription (id, position, epoch, failing, leased, updated_at)
        values (%s, %s, %s, %s, %s, %s)
        on conflict (id) do update set position = excluded.position, epoch = excluded.epoch, failing = excluded.failing,
            leased = excluded.leased, updated_at = excluded.updated_at""",
        (cursor.id, cursor.position, cursor.epoch, cursor.failing, cursor.leased, at),
    )


def due(connection: Connection, subscription: int, now: datetime, limit: int, *, probe: bool) -> list[Waiting]:
    """Deliveries to be tried now, oldest event first; `probe`: the one that comes due first, even before its time."""
    rows = connection.exec_driver_sql(
        f"""select position, subject, attempts, state, due_at, error from notifier.webhook
        where subscription_id = %s and state = 'retry' and (due_at <= %s or %s)
        order by {"due_at" if probe else "position"} limit %s""",
        (subscription, now, probe, limit),
    )
    return [Waiting(*row) for row in rows]


def held(connection: Connection, subscription: int, positions: Sequence[int]) -> set[int]:
    """Which of these events have a row already: they are the backlog's business."""
    rows = connection.exec_driver_sql(
        "select position from notifier.webhook where subscription_id = %s and position = any(%s)",
        (subscription, list(positions)),
    )
    return {row.position for row in rows}


def blocked_subjects(connection: Connection, subscription: int, subjects: Sequence[str]) -> set[str]:
    """Subjects that have an undelivered event."""
    rows = connection.exec_driver_sql(
        "select distinct subject from notifier.webhook where subscription_id = %s and subject = any(%s)",
        (subscription, list(subjects)),
    )
    return {row.subject for row in rows}


def write(connection: Connection, subscription: int, changes: Changes, now: datetime) -> None:
    """Keep what was not delivered, drop what was."""
    if changes.done:
        connection.exec_driver_sql(
            "delete from notifier.webhook where subscription_id = %s and position = any(%s)",
            (subscription, changes.done),
        )
    if changes.kept:
        connection.exec_driver_sql(
            """insert into notifier.webhook as w (subscription_id, position, subject, attempts, state, due_at, error, first_at)
            select %(id)s, position, subject, attempts, state, due_at, error, %(now)s
            from json_to_recordset(%(rows)s) as x (position bigint, subject text, attempts integer, state text,
                due_at timestamptz, error text)
            on conflict (subscription_id, position) do update set attempts = excluded.attempts, state = excluded.state,
                due_at = excluded.due_at, error = excluded.error""",
            {"id": subscription, "now": now, "rows": _json.encode([_row(one) for one in changes.kept]).decode()},
        )


def unblock(connection: Connection, subscription: int, subjects: Sequence[str], now: datetime) -> None:
    """The earliest blocked event of each subject whose earlier ones are delivered may go now."""
    if subjects:
        connection.exec_driver_sql(
            """update notifier.webhook w set state = 'retry', due_at = %(now)s
            from (
                select distinct on (subject) position, state from notifier.webhook
                where subscription_id = %(id)s and subject = any(%(subjects)s) order by subject, position
            ) first
            where w.subscription_id = %(id)s and w.position = first.position and first.state = 'blocked'""",
            {"id": subscription, "subjects": list(subjects), "now": now},
        )


def heal(connection: Connection, subscription: int, now: datetime) -> None:
    """The endpoint answers again: what waits for a retry need not wait longer."""
    connection.exec_driver_sql(
        "update notifier.webhook set due_at = least(due_at, %s) where subscription_id = %s and state = 'retry'",
        (now, subscription),
    )


def redrive(connection: Connection, subscription: int, positions: Sequence[int] | None, now: datetime) -> int:
    """Try parked events anew, all or some; returns how many."""
    done = connection.exec_driver_sql(
        """update notifier.webhook set state = 'retry', attempts = 0, due_at = %(now)s
        where subscription_id = %(id)s and state = 'parked' and (%(all)s or position = any(%(positions)s))""",
        {"id": subscription, "now": now, "all": positions is None, "positions": list(positions or ())},
    )
    return done.rowcount


def next_due(connection: Connection, subscription: int) -> datetime | None:
    """When the next retry falls due."""
    at: datetime | None = connection.exec_driver_sql(
        "select min(due_at) from notifier.webhook where subscription_id = %s and state = 'retry'", (subscription,)
    ).scalar_one()
    return at


def forget(connection: Connection, subscription: int) -> None:
    """A deleted subscription leaves nothing behind."""
    connection.exec_driver_sql("delete from notifier.webhook where subscription_id = %s", (subscription,))
    connection.exec_driver_sql("delete from notifier.subscription where id = %s", (subscription,))


def rouse(connection: Connection, until: int) -> int:
    """Put every healthy subscription that is behind `until` on the agenda now; those with a round under way look themselves."""
    done = connection.exec_driver_sql(
        """with free as (
            select i.id from ledger.item i join notifier.subscription s on s.id = i.id
            where i.kind = 'subscription' and s.position < %s and not s.leased and s.failing < %s
                and coalesce(i.state ->> 'status', 'active') = 'active'
            order by i.id for update of i skip locked
        )
        update ledger.agenda a set due_at = ledger.now() from free
        where a.service = 'notifier' and a.kind = 'subscription' and a.id = free.id
            and (a.due_at is null or a.due_at > ledger.now()) and a.quarantined_at is null""",
        (until, SICK_AFTER),
    )
    return done.rowcount


def _row(one: Waiting) -> dict[str, Any]:
    return {
        "position": one.position, "subject": one.subject, "attempts": one.attempts, "state": one.state, "due_at": one.due_at,
        "error": one.error,
    }  # fmt: skip
