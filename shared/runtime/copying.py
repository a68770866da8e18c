"""Rows into a table by COPY: the cheapest way in, once a statement of its own is worth it.

Measured on the reference's work (PostgreSQL 18, batches of 200): `insert … select from json_to_recordset` costs the server
20-40 us a row with a few kilobytes of JSON in it, most of that in taking the text apart; COPY of the same row 5-15 us.

A line is built from the values' texts, `field.join` with tabs between; `text` and `json` escape what COPY reads as its own.
Rows that may be there already cannot come this way: the caller knows (it holds the item's lock and has looked).

What nobody reads again before the commit can be `gathered`: it is sent together at the end, in one round trip, and a few rows then
come by INSERT, which needs no answer in between (a ticket that comes alone: 11 ms for its batch before, 8 since).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
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


name = lru_cache(4096)(text)
"""The same for what repeats from row to row: names of people, groups, nodes."""


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
    connection: Connection,
    table: str,
    columns: Columns,
    values: Sequence[Mapping[str, Any]],
    also: Mapping[str, str],
    fixed: Mapping[str, bytes] = MappingProxyType({}),
) -> None:
    """Write rows given as mappings; `also` names further columns that repeat one of theirs, `fixed` those that never differ."""
    cells = {name: _column(write, [row[name] for row in values]) for name, write in columns.items()}
    written = {**cells, **{name: cells[source] for name, source in also.items()}}
    written |= {name: [cell] * len(values) for name, cell in fixed.items()}
    lines = [b"\t".join(cells) + b"\n" for cells in zip(*written.values(), strict=True)]
    copy(connection, f"{table} ({', '.join(written)})", lines)


def _column(write: Callable[[Any], bytes], values: Sequence[Any]) -> list[bytes]:
    """A column's fields. Most say the same again and again, and are written once."""
    first = values[0] if values else None
    # documents are compared as objects: 1 equals 1.0 and True, and is written otherwise
    if all(one is first for one in values) if write is json else values.count(first) == len(values):
        return [write(first)] * len(values)
    if write is number:
        return [NULL if one is None else b"%d" % one for one in values]
    if write is json:
        known = {id(one): one for one in values}  # the values outlive this, so that no other can have the same
        written = {key: write(one) for key, one in known.items()}
        return [written[id(one)] for one in values]
    fields = {one: write(one) for one in set(values)}
    return [fields[one] for one in values]


def copy(connection: Connection, target: str, lines: Sequence[bytes]) -> None:
    """Write rows; `target` is the table with its columns, `schema.table (a, b)`. Raises what a statement would raise."""
    if not lines:
        return
    gathered = connection.info.get(_GATHERED)
    if gathered is None:
        _copy(connection, target, lines)
    elif len(lines) <= FEW:
        gathered.append(_insert(target, lines))
    else:
        gathered.append((target, lines))


def write(connection: Connection, statement: str, parameters: Mapping[str, Any]) -> None:
    """A statement that changes rows and answers nothing."""
    gathered = connection.info.get(_GATHERED)
    if gathered is None:
        connection.exec_driver_sql(statement, parameters)
    else:
        gathered.append((statement, parameters))


@contextmanager
def gathering(connection: Connection) -> Iterator[None]:
    """Within, `copy` and `write` only note what is to be written, until `send`; what is left when an error ends it is forgotten."""
    info = connection.info
    info[_GATHERED] = []
    try:
        yield
    finally:
        info.pop(_GATHERED, None)


def send(connection: Connection) -> None:
    """Write what was gathered, in its order but for COPY, which comes first. Raises what the statements would raise."""
    gathered: list[tuple[str, Any]] = connection.info.get(_GATHERED) or []
    if not gathered:
        return
    taken = gathered[:]
    gathered.clear()
    for target, lines in taken:
        if isinstance(lines, list):
            _copy(connection, target, lines)
    raw = _raw(connection)
    statement = ""
    try:
        with raw.pipeline(), raw.cursor() as cursor:
            for statement, parameters in taken:
                if not isinstance(parameters, list):
                    cursor.execute(statement.encode(), parameters)
    except psycopg.Error as error:
        raise _wrapped(connection, statement, error) from error


def first(connection: Connection, before: str, statement: str, parameters: Mapping[str, Any]) -> Any:
    """The first value that `statement` answers, after another statement `before` it (a lock), in one round trip.

    Each sees what was committed when it begins. Raises what the statements would raise.
    """
    raw = _raw(connection)
    try:
        with raw.pipeline(), raw.cursor() as ahead, raw.cursor() as cursor:
            ahead.execute(before.encode())
            cursor.execute(statement.encode(), parameters)
            row = cursor.fetchone()
    except psycopg.Error as error:
        raise _wrapped(connection, statement, error) from error
    return None if row is None else row[0]


FEW = 8
"""So many rows are sent as values of an INSERT, when they are gathered."""
_GATHERED = "signalbox.gathered"
_UNESCAPE = re.compile(rb"\\(.)")
_PLAIN = {b"t": b"\t", b"n": b"\n", b"r": b"\r"}


def _insert(target: str, lines: Sequence[bytes]) -> tuple[str, tuple[str | None, ...]]:
    """The same rows as an INSERT: values as texts, which the server reads as COPY does."""
    found = [line[:-1].split(b"\t") for line in lines]
    row = f"({', '.join(['%s'] * len(found[0]))})"
    return f"insert into {target} values {', '.join([row] * len(found))}", tuple(
        _value(one) for row in found for one in row
    )


def _value(field: bytes) -> str | None:
    if field == NULL:
        return None
    if b"\\" in field:
        field = _UNESCAPE.sub(lambda found: _PLAIN.get(found[1], found[1]), field)
    return field.decode()


def _raw(connection: Connection) -> psycopg.Connection[Any]:
    """The driver's own, within the transaction that `connection` will commit: one that has run nothing yet would not."""
    if not connection.in_transaction():
        connection.begin()
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    return raw


def _copy(connection: Connection, target: str, lines: Sequence[bytes]) -> None:
    statement = f"copy {target} from stdin"
    try:
        with _raw(connection).cursor() as cursor, cursor.copy(statement) as writer:
            writer.write(b"".join(lines))
    except psycopg.Error as error:
        raise _wrapped(connection, statement, error) from error


def _wrapped(connection: Connection, statement: str, error: psycopg.Error) -> DBAPIError:
    """The driver's error as SQLAlchemy raises it, and the connection given up when it is lost."""
    lost = _raw(connection).closed
    wrapped = DBAPIError.instance(
        statement, None, error, psycopg.Error, connection_invalidated=lost, dialect=connection.dialect
    )
    assert isinstance(wrapped, DBAPIError)
    if lost:
        connection.invalidate(error)
    return wrapped
