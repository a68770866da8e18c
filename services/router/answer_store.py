"""SQL of what outside systems said, and of the tickets that wait for it; set-based, never commits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from shared.ledger.unit import dumps


@dataclass(frozen=True, slots=True)
class Answer:
    """What an outside system said under an address; `failure` says why it said nothing."""

    facts: Mapping[str, Any]
    failure: str | None
    fetched_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Deferred:
    """A ticket that waits for an answer: since when, and until when at the latest."""

    asked_at: datetime
    until: datetime


def answers(connection: Connection, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Answer]:
    """Answers by (enrichment, address), as far as there are any, also expired ones."""
    rows = connection.exec_driver_sql(
        """select a.name, a.url, a.facts, a.failure, a.fetched_at, a.expires_at
        from json_to_recordset(%s) as x (name text, url text) join router.answer a on a.name = x.name and a.url = x.url""",
        (dumps([{"name": name, "url": url} for name, url in sorted(wanted)]),),
    )
    return {(row.name, row.url): Answer(row.facts, row.failure, row.fetched_at, row.expires_at) for row in rows}


def keep_answer(
    connection: Connection,
    name: str,
    url: str,
    facts: Mapping[str, Any],
    failure: str | None,
    at: datetime,
    until: datetime,
) -> None:
    """Write an answer over an older one."""
    connection.exec_driver_sql(
        """insert into router.answer (name, url, facts, failure, fetched_at, expires_at) values (%s, %s, %s, %s, %s, %s)
        on conflict (name, url) do update set facts = excluded.facts, failure = excluded.failure,
            fetched_at = excluded.fetched_at, expires_at = excluded.expires_at""",
        (name, url, dumps(facts), failure, at, until),
    )


def deferred(connection: Connection, ids: Sequence[int]) -> dict[int, Deferred]:
    """Those of the tickets that wait for an answer."""
    rows = connection.exec_driver_sql(
        "select ticket_id, asked_at, until from router.deferred where ticket_id = any(%s)", (list(ids),)
    )
    return {row.ticket_id: Deferred(row.asked_at, row.until) for row in rows}


def defer(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Note tickets that begin to wait."""
    if rows:
        connection.exec_driver_sql(
            """insert into router.deferred (ticket_id, asked_at, until) select ticket_id, asked_at, until
            from json_to_recordset(%s) as x (ticket_id bigint, asked_at timestamptz, until timestamptz)
            on conflict (ticket_id) do nothing""",
            (dumps(rows),),
        )


def forget_deferred(connection: Connection, ids: Sequence[int]) -> None:
    """They wait no longer."""
    connection.exec_driver_sql("delete from router.deferred where ticket_id = any(%s)", (list(ids),))


def put_off(connection: Connection, ids: Sequence[int]) -> list[int]:
    """Those of the tickets that wait for an answer and are not due yet."""
    rows = connection.exec_driver_sql(
        """select d.ticket_id from router.deferred d
        join ledger.agenda a on a.service = 'router' and a.kind = 'ticket' and a.id = d.ticket_id
        where d.ticket_id = any(%s) and a.due_at > ledger.now()""",
        (list(ids),),
    )
    return [int(row.ticket_id) for row in rows]


def clean(connection: Connection) -> int:
    """Delete what is of no use any more: answers an hour after they expired, occurrences outside every window."""
    deleted = connection.exec_driver_sql(
        """with a as (delete from router.answer where expires_at < ledger.now() - interval '1 hour' returning 1),
        o as (delete from router.occurrence where expires_at < ledger.now() returning 1)
        select (select count(*) from a) + (select count(*) from o)"""
    ).scalar_one()
    return int(deleted)
