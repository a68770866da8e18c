"""Business time: the one clock that decides anything durable.

On a live system it is the database's clock. Replay, demo and tests put it under their own hand, on a database of their own, and
move it only forward, to the next due instant, when nothing is due or leased any more.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection


class TimeMovesForward(ValueError):
    """Business time was asked to go back."""


def now(connection: Connection) -> datetime:
    """Business now, aware UTC."""
    at: datetime = connection.exec_driver_sql("select ledger.now()").scalar_one()
    return at


def freeze(connection: Connection, at: datetime) -> None:
    """Take business time into hand, standing at `at`. Raises `TimeMovesForward` when it is already in hand and later."""
    done = connection.exec_driver_sql(
        "insert into ledger.clock as c (at) values (%s) on conflict (one) do update set at = excluded.at where c.at <= excluded.at",
        (at,),
    )
    if done.rowcount == 0:
        raise TimeMovesForward(f"business time is already past {at.isoformat()}")


def next_due(connection: Connection) -> datetime | None:
    """The earliest instant at which any item wants to be looked at, or None when nothing waits."""
    at: datetime | None = connection.exec_driver_sql(
        "select min(due_at) from ledger.agenda where due_at is not null and quarantined_at is null"
    ).scalar_one()
    return at


def advance(connection: Connection, limit: datetime) -> datetime:
    """Move business time in hand to the next due instant, at most to `limit`, and return it.

    The caller sees to it that no lane holds due or leased work at the present instant.
    """
    due = next_due(connection)
    target = limit if due is None else min(due, limit)
    at: datetime = connection.exec_driver_sql(
        "update ledger.clock set at = greatest(at, %s) returning at", (target,)
    ).scalar_one()
    return at
