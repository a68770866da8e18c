"""Addresses of calendar feeds, for programs that can send no key: the token in the address is the key, of one feed only.

Like a key it is shown once and kept as a hash. It shows who is on call when, and nothing else; whoever made it, or who may change
the directory, takes it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from shared.access.keys import hash_key
from shared.access.principals import Principal
from shared.runtime.ids import correlation_id, random_token

MOST = 50
"""Addresses of one schedule that one key may have in force."""


@dataclass(frozen=True, slots=True)
class Feed:
    """One address: of a schedule, of one person's duty (`only`) or everybody's. `person`: whom its maker's key belongs to."""

    id: str
    schedule: str
    only: str | None
    made_by: str
    person: str | None
    made_at: datetime


_COLUMNS = "id, schedule, only_person, made_by, person, made_at"


def make(
    connection: Connection, schedule: str, only: str | None, principal: Principal, now: datetime
) -> tuple[Feed, str] | None:
    """A new address and its token, the only time that it can be read; None when this key has too many of the schedule."""
    connection.exec_driver_sql(
        "select pg_advisory_xact_lock(hashtext('calendar_feed'), hashtext(%s))", (principal.name,)
    )
    held = connection.exec_driver_sql(
        "select count(*) from access.calendar_feed where schedule = %s and made_by = %s and revoked_at is null",
        (schedule, principal.name),
    ).scalar_one()
    if held >= MOST:
        return None
    token, made = random_token(), Feed(correlation_id(), schedule, only, principal.name, principal.person, now)
    connection.exec_driver_sql(
        f"insert into access.calendar_feed (hash, {_COLUMNS}) values (%s, %s, %s, %s, %s, %s, %s)",
        (hash_key(token), made.id, schedule, only, made.made_by, made.person, now),
    )
    return made, token


def by_token(connection: Connection, token: str) -> Feed | None:
    """The feed of an address; None for an unknown one, and one that was taken back."""
    row = connection.exec_driver_sql(
        f"select {_COLUMNS} from access.calendar_feed where hash = %s and revoked_at is null", (hash_key(token),)
    ).one_or_none()
    return None if row is None else Feed(*row)


def of_schedule(connection: Connection, schedule: str) -> list[Feed]:
    """The addresses of a schedule that are in force, oldest first."""
    rows = connection.exec_driver_sql(
        f"select {_COLUMNS} from access.calendar_feed where schedule = %s and revoked_at is null order by made_at, id",
        (schedule,),
    )
    return [Feed(*row) for row in rows]


def revoke(connection: Connection, feed: str, now: datetime) -> None:
    """The address shows nothing any more."""
    connection.exec_driver_sql("update access.calendar_feed set revoked_at = %s where id = %s", (now, feed))
