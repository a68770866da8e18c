"""SQL of published classifiers; never commits. One version of each name is current."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from shared.ledger.unit import dumps

_SPACE = 20837
"""Key space of the advisory locks that keep two publishers of one name apart."""


@dataclass(frozen=True, slots=True)
class Published:
    """A version of a model, without its data."""

    name: str
    version: int
    figures: Mapping[str, Any]
    current: bool
    by: str


def publish(connection: Connection, name: str, data: bytes, figures: Mapping[str, Any], by: str) -> int:
    """Store a model as the next version of its name, and make it current. Returns the version."""
    _lock(connection, name)
    connection.exec_driver_sql("update router.model set current = false where name = %s and current", (name,))
    row = connection.exec_driver_sql(
        """insert into router.model (name, version, data, figures, current, published_at, published_by)
        select %(name)s, coalesce(max(version), 0) + 1, %(data)s, %(figures)s::jsonb, true, clock_timestamp(), %(by)s
        from router.model where name = %(name)s returning version""",
        {"name": name, "data": data, "figures": dumps(figures), "by": by},
    ).one()
    return int(row.version)


def choose(connection: Connection, name: str, version: int | None = None) -> int | None:
    """Make another version current: the given one, or the one before the present. None when there is no such version."""
    _lock(connection, name)
    row = connection.exec_driver_sql(
        """select max(version) as version from router.model m where name = %(name)s and case
            when %(version)s::integer is not null then version = %(version)s
            else version < (select version from router.model where name = %(name)s and current) end""",
        {"name": name, "version": version},
    ).one()
    if row.version is None:
        return None
    connection.exec_driver_sql("update router.model set current = false where name = %s and current", (name,))
    connection.exec_driver_sql(
        "update router.model set current = true where name = %s and version = %s", (name, row.version)
    )
    return int(row.version)


def all_published(connection: Connection) -> list[Published]:
    """Every version of every name, newest first."""
    rows = connection.exec_driver_sql(
        "select name, version, figures, current, published_by from router.model order by name, version desc"
    )
    return [Published(row.name, row.version, row.figures, row.current, row.published_by) for row in rows]


def current_versions(connection: Connection) -> dict[str, int]:
    """The current version of each name."""
    rows = connection.exec_driver_sql("select name, version from router.model where current")
    return {row.name: row.version for row in rows}


def data_of(connection: Connection, name: str, version: int) -> bytes:
    """A version's bytes. Raises `NoResultFound` for one that was never published."""
    return bytes(
        connection.exec_driver_sql(
            "select data from router.model where name = %s and version = %s", (name, version)
        ).scalar_one()
    )


def _lock(connection: Connection, name: str) -> None:
    connection.exec_driver_sql("select pg_advisory_xact_lock(%s, hashtext(%s))", (_SPACE, name))
