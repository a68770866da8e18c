"""Rows into a table by COPY: the cheapest way in, once a statement of its own is worth it.

Measured on the reference's work (PostgreSQL 18, batches of 200): `insert … select from json_to_recordset` costs the server
20-40 us a row with a few kilobytes of JSON in it, most of that in taking the text apart; COPY of the same row 5-15 us.

A line is built from the values' texts, `field.join` with tabs between; `text` and `json` escape what COPY reads as its own.
Rows that may be there already cannot come this way: the caller knows (it holds the item's lock and has looked).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

NULL = b"\\N"
TRUE, FALSE = b"t", b"f"
_encode = msgspec.json.Encoder().encode
_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPED = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


def text(value: str | None) -> bytes:
    """A text field; a NUL is refused by the server, as in any statement."""
    if value is None:
        return NULL
    if _SPECIAL.search(value):
        value = _SPECIAL.sub(lambda found: _ESCAPED[found[0]], value)
    return value.encode()


def json(value: Any) -> bytes:
    """A value as JSON; None is SQL's null. JSON escapes line breaks and tabs itself, so only backslashes are doubled."""
    if value is None:
        return NULL
    encoded = _encode(value)
    return encoded.replace(b"\\", b"\\\\") if b"\\" in encoded else encoded


def number(value: int | None) -> bytes:
    """A whole number."""
    return NULL if value is None else b"%d" % value


def boolean(value: bool) -> bytes:
    """True or false."""
    return TRUE if value else FALSE


def instant(value: datetime | None) -> bytes:
    """An aware instant."""
    return NULL if value is None else value.isoformat().encode()


def line(*fields: bytes) -> bytes:
    """One row."""
    return b"\t".join(fields) + b"\n"


Columns = Mapping[str, Callable[[Any], bytes]]
"""Columns of a table, each with what writes its values."""


def rows(
    connection: Connection, table: str, columns: Columns, values: Sequence[Mapping[str, Any]], also: Mapping[str, str]
) -> None:
    """Write rows given as mappings; `also` names further columns that repeat one of theirs."""
    written = {**columns, **{name: columns[source] for name, source in also.items()}}
    sources = [(also.get(name, name), write) for name, write in written.items()]
    lines = [b"\t".join([write(row[name]) for name, write in sources]) + b"\n" for row in values]
    copy(connection, f"{table} ({', '.join(written)})", lines)


def copy(connection: Connection, target: str, lines: Sequence[bytes]) -> None:
    """Write rows; `target` is the table with its columns, `schema.table (a, b)`. Raises what a statement would raise."""
    if not lines:
        return
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    try:
        with raw.cursor() as cursor, cursor.copy(f"copy {target} from stdin") as writer:
            writer.write(b"".join(lines))
    except psycopg.Error as error:
        wrapped = DBAPIError.instance(
            f"copy {target}",
            None,
            error,
            psycopg.Error,
            connection_invalidated=raw.closed,
            dialect=connection.dialect,
        )
        if raw.closed:
            connection.invalidate(error)
        raise wrapped from error
