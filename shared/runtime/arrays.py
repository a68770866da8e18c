"""Columns of many rows as parameters: `unnest(%(ids)b, %(states)b::jsonb[])` in place of JSON that the server takes apart.

Each class is a list of one SQL type, written in the server's binary array format; the statement sees the same types whatever the
values are, so that it is prepared once. Half the server's cost of `json_to_recordset` for rows with JSON in them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import msgspec
import psycopg
from psycopg import adapters
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)
_NONE = b"\xff\xff\xff\xff"
_length = struct.Struct("!i").pack
_long = struct.Struct("!iq").pack
_encode = msgspec.json.Encoder().encode


class Column:
    """One column; `values` may hold None where the statement allows it."""

    element: ClassVar[int]
    """Type of an element, as `pg_type` numbers it."""
    __slots__ = ("values",)

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = values

    def encoded(self) -> list[bytes]:
        """Each value with its length in front."""
        raise NotImplementedError

    def array(self) -> bytes:
        """All of it in the server's binary format."""
        parts = self.encoded()
        return struct.pack("!iiiii", 1, 1, self.element, len(parts), 1) + b"".join(parts)


def _numbers(column: Column, size: int, code: str) -> bytes | None:
    """An array of numbers written in one step; None where some are missing. Every claim and every save names its items."""
    values = column.values
    if None in values:
        return None
    cells = [size] * (2 * len(values))
    cells[1::2] = values
    return struct.pack(f"!iiiii{('i' + code) * len(values)}", 1, 0, column.element, len(values), 1, *cells)


class Longs(Column):
    """`bigint[]`."""

    element = 20
    __slots__ = ()

    def encoded(self) -> list[bytes]:
        return [_NONE if one is None else _long(8, one) for one in self.values]

    def array(self) -> bytes:
        return _numbers(self, 8, "q") or super().array()


class Ints(Column):
    """`integer[]`."""

    element = 23
    __slots__ = ()

    def encoded(self) -> list[bytes]:
        return [_NONE if one is None else struct.pack("!ii", 4, one) for one in self.values]

    def array(self) -> bytes:
        return _numbers(self, 4, "i") or super().array()


class Doubles(Column):
    """`double precision[]`."""

    element = 701
    __slots__ = ()

    def encoded(self) -> list[bytes]:
        return [_NONE if one is None else struct.pack("!id", 8, one) for one in self.values]


class Bools(Column):
    """`boolean[]`."""

    element = 16
    __slots__ = ()

    def encoded(self) -> list[bytes]:
        return [_NONE if one is None else b"\0\0\0\1\1" if one else b"\0\0\0\1\0" for one in self.values]


class Texts(Column):
    """`text[]`."""

    element = 25
    __slots__ = ()

    def encoded(self) -> list[bytes]:
        if self.values and self.values.count(self.values[0]) == len(self.values):
            one = self.values[0]
            return [_NONE if one is None else _length(len(data := one.encode())) + data] * len(self.values)
        # most columns say the same again and again
        written = {one: _NONE if one is None else _length(len(data := one.encode())) + data for one in set(self.values)}
        return [written[one] for one in self.values]


class Jsons(Column):
    """`text[]` of values written as JSON, for a cast to `jsonb`; None is SQL's null."""

    element = 25
    __slots__ = ()

    def encoded(self) -> list[bytes]:
        found = []
        for one in self.values:
            if one is None:
                found.append(_NONE)
            else:
                data = _encode(one)
                found.append(_length(len(data)) + data)
        return found


class Instants(Column):
    """`timestamptz[]` of aware instants."""

    element = 1184
    __slots__ = ()

    def encoded(self) -> list[bytes]:
        known: dict[datetime | None, bytes] = {None: _NONE}
        found = []
        for one in self.values:
            written = known.get(one)
            if written is None:
                written = known[one] = _long(8, (one - _EPOCH) // _MICRO)
            found.append(written)
        return found


def _register(kind: type[Column], array_oid: int) -> None:
    class ColumnDumper(Dumper):
        format = Format.BINARY
        oid = array_oid

        def dump(self, obj: Any) -> Buffer | None:
            column: Column = obj
            return column.array()

    adapters.register_dumper(kind, ColumnDumper)


for _kind in (Longs, Ints, Doubles, Bools, Texts, Jsons, Instants):
    _found = psycopg.postgres.types[_kind.element]
    _register(_kind, _found.array_oid)
