"""SQL of hold rules; set-based, never commits. Workers that count the same key take turns by an advisory lock, in key order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from shared.ledger.unit import dumps

_SPACE = 20836
"""Key space of the advisory locks."""


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A ticket that a rule holds back; `released`: enough of its kind have come."""

    key: str
    until: datetime
    released: bool


def holds(connection: Connection, ids: Sequence[int], keys: Sequence[str]) -> dict[int, HeldBack]:
    """Lock the keys, then read which of the tickets are held back."""
    connection.exec_driver_sql(
        f"select pg_advisory_xact_lock({_SPACE}, hashtext(k)) from (select unnest(%s::text[]) k order by 1) keys",
        (list(keys),),
    )
    rows = connection.exec_driver_sql(
        "select ticket_id, key, until, released from router.hold where ticket_id = any(%s)", (list(ids),)
    )
    return {row.ticket_id: HeldBack(row.key, row.until, row.released) for row in rows}


def note_occurrences(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Note that tickets of a kind, or repeats of them, have come; each event once."""
    if rows:
        connection.exec_driver_sql(
            """insert into router.occurrence (key, at, ticket_id, version, expires_at)
            select key, at, ticket_id, version, expires_at from json_to_recordset(%s)
                as x (key text, at timestamptz, ticket_id bigint, version integer, expires_at timestamptz)
            on conflict do nothing""",
            (dumps(rows),),
        )


def count_occurrences(connection: Connection, since: Mapping[str, datetime]) -> dict[str, tuple[int, datetime]]:
    """How many of each key came after an instant, and the last of them."""
    rows = connection.exec_driver_sql(
        """select x.key, count(*) as n, max(o.at) as last from json_to_recordset(%s) as x (key text, after timestamptz)
        join router.occurrence o on o.key = x.key and o.at > x.after group by 1""",
        (dumps([{"key": key, "after": after} for key, after in since.items()]),),
    )
    return {row.key: (int(row.n), row.last) for row in rows}


def keep_holds(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Hold tickets back, or go on doing so until a later instant."""
    if rows:
        connection.exec_driver_sql(
            """insert into router.hold (ticket_id, key, until) select ticket_id, key, until
            from json_to_recordset(%s) as x (ticket_id bigint, key text, until timestamptz)
            on conflict (ticket_id) do update set key = excluded.key, until = excluded.until""",
            (dumps(rows),),
        )


def release_holds(connection: Connection, keys: Sequence[str], done: Sequence[int]) -> list[int]:
    """Release everybody of the keys, and forget the tickets `done`; return those that are released now and not done."""
    rows = connection.exec_driver_sql(
        "update router.hold set released = true where key = any(%s) and not released returning ticket_id", (list(keys),)
    ).all()
    connection.exec_driver_sql("delete from router.hold where ticket_id = any(%s)", (list(done),))
    return [int(row.ticket_id) for row in rows if row.ticket_id not in set(done)]
