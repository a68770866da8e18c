"""Tickets in files: NDJSON and CSV, plain or gzipped, read line by line, however long a line or broken a row is."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, cast

import orjson

from services.control.cli import Failure
from shared.contracts import intake as wire
from shared.contracts.strict import Fault, Unacceptable, decode, take
from shared.playbook.routing import CustomField, FieldType

LINE_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Line:
    """One line or row: its number in the file, its bytes as read (at most `LINE_BYTES`), and the ticket or why it is none."""

    number: int
    raw: bytes
    ticket: wire.TicketIn | Fault


def opened(source: BinaryIO) -> BinaryIO:
    """The content of a source that may be gzipped; told by its first bytes."""
    buffered = source if hasattr(source, "peek") else io.BufferedReader(cast(Any, source))
    start: bytes = cast(Any, buffered).peek(2)[:2]
    return cast(BinaryIO, gzip.GzipFile(fileobj=buffered)) if start == _GZIP else buffered


def read(source: BinaryIO, *, is_csv: bool, fields: dict[str, CustomField]) -> Iterator[Line]:
    """Every line of a content. `fields` are those that the playbook declares: a CSV's cells are read as their types.

    Raises:
        Failure: the content ends in the middle (a torn archive), or a CSV's header names a column twice.
    """
    lines = _csv(source, fields) if is_csv else _ndjson(source)
    number = 0
    try:
        for line in lines:
            number = line.number
            yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Failure(f"push: the archive is broken after line {number}: {error}") from error


def _ndjson(source: BinaryIO) -> Iterator[Line]:
    number = 0
    while raw := source.readline(LINE_BYTES + 1):
        number += 1
        if len(raw) > LINE_BYTES and not raw.endswith(b"\n"):
            while (rest := source.readline(LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield Line(number, raw[:1_000], Fault("", f"the line has more than {LINE_BYTES:,} bytes"))
            continue
        raw = raw.rstrip(b"\r\n")
        if raw.strip():
            yield Line(number, raw, _ticket(partial(decode, raw, wire.TicketIn)))


def _csv(source: BinaryIO, fields: dict[str, CustomField]) -> Iterator[Line]:
    csv.field_size_limit(LINE_BYTES)
    text = io.TextIOWrapper(source, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text)
    header = next(reader, [])
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise Failure(f"push: line 1: the column {twice!r} stands twice")
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield Line(reader.line_num, b"", Fault("", f"no row that can be read: {error}"))
            continue
        if cells is None:
            return
        if not cells:
            continue
        raw = orjson.dumps([cell.encode("utf-8", "backslashreplace").decode() for cell in cells])
        yield Line(reader.line_num, raw, _ticket(partial(_row, header, cells, fields)))


def _ticket(make: Callable[[], wire.TicketIn]) -> wire.TicketIn | Fault:
    try:
        return make()
    except Unacceptable as error:
        return error.fault


def _row(header: list[str], cells: list[str], fields: dict[str, CustomField]) -> wire.TicketIn:
    return take(_nested(header, cells, fields), wire.TicketIn)


def _nested(header: list[str], cells: list[str], fields: dict[str, CustomField]) -> dict[str, Any]:
    if len(cells) != len(header):
        raise Unacceptable("", f"the row has {len(cells)} cells, the header {len(header)}")
    ticket: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=True):
        if cell == "":
            continue
        if any("\udc80" <= letter <= "\udcff" for letter in cell):
            raise Unacceptable(f"/{name.replace('.', '/', 1)}", "not UTF-8")
        outer, dot, inner = name.partition(".")
        if not dot:
            ticket[name] = cell
        else:
            ticket.setdefault(outer, {})[inner] = _typed(outer, inner, cell, fields)
    return ticket


def _typed(outer: str, inner: str, cell: str, fields: dict[str, CustomField]) -> Any:
    """A cell as its member's type; what does not fit stays text, and is refused with its place by the check."""
    kind = fields[inner].type if outer == "fields" and inner in fields else None
    if kind is FieldType.BOOL or (outer, inner) == ("requester", "automated"):
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(cell.lower(), cell)
    if kind is FieldType.NUMBER:
        with suppress(ValueError):
            return int(cell)
        with suppress(ValueError):
            return float(cell)
    if kind is FieldType.LIST:
        return [one.strip() for one in cell.split(";") if one.strip()]
    return cell
