"""Reading a log: CSV, gzip or not, through a mapping. A bad row is set aside with its reason, and the rest goes on."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from services.control.cli import Failure
from services.control.replay.mapping import Mapping, Pick, Stamp, Value, filled

MAX_CELL = 1 << 20


class Row(NamedTuple):
    """One good row: what it says of its case at an instant. `cells` only where the row may open its case."""

    at: datetime
    line: int
    case: str
    state: str
    group: str | None
    person: str | None


class Opening(NamedTuple):
    """A ticket as the log opened it, in the members of an intake message."""

    at: datetime
    ticket: dict[str, Any]
    group: str | None


@dataclass(slots=True)
class Log:
    """A whole log: rows by case in the order of their instants (then of the file), and how each case opened."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    openings: dict[str, Opening] = field(default_factory=dict)
    read: int = 0
    rejected: int = 0
    rejects_in: str | None = None


class _Bad(ValueError):
    """A row that cannot be used; the text names column and value."""


@contextmanager
def opened(path: Path) -> Iterator[io.TextIOWrapper]:
    """A log as text; gzip is known by its first bytes, whatever it is called. Undecodable bytes are kept as surrogates."""
    if not path.is_file():
        raise Failure(f"replay: no such file: {path}")
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream: Any = gzip.GzipFile(fileobj=raw) if packed else raw
        yield io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")


def header(path: Path, delimiter: str = ",") -> list[str]:
    """The columns. Raises `Failure` for a file without any."""
    csv.field_size_limit(MAX_CELL)
    with opened(path) as text:
        try:
            columns = next(csv.reader(text, delimiter=delimiter), None)
        except (csv.Error, OSError, EOFError) as error:
            raise Failure(f"replay: {path}: {error}") from error
    if not columns:
        raise Failure(f"replay: {path}:1: no header row")
    return columns


def read(path: Path, mapping: Mapping, rejects: Rejects) -> Log:
    """Read everything. Rows that cannot be used are in `rejects` with line and reason."""
    log, reader = Log(), _Reader(mapping, header(path, mapping.delimiter))
    csv.field_size_limit(MAX_CELL)
    with opened(path) as text:
        lines = csv.reader(text, delimiter=mapping.delimiter)
        next(lines)
        while True:
            try:
                cells = next(lines, None)
            except csv.Error as error:
                rejects.add(lines.line_num, [], str(error))
                continue
            except (OSError, EOFError) as error:
                raise Failure(f"replay: {path}:{lines.line_num}: {error}") from error
            if cells is None:
                break
            if not cells:
                continue
            log.read += 1
            try:
                reader.take(log, lines.line_num, cells)
            except _Bad as bad:
                rejects.add(lines.line_num, cells, str(bad))
    for rows in log.rows.values():
        rows.sort(key=lambda row: (row.at, row.line))
    log.rejected, log.rejects_in = rejects.count, rejects.name if rejects.count else None
    return log


class _Reader:
    """Turns cells into rows and openings."""

    def __init__(self, mapping: Mapping, columns: Sequence[str]) -> None:
        self._mapping = mapping
        self._columns = {name: place for place, name in reversed(list(enumerate(columns)))}
        self._width = len(columns)
        self._missing = frozenset(mapping.missing)
        self._zones = {stamp.zone: ZoneInfo(stamp.zone) for stamp in (mapping.time, mapping.opened.at) if stamp}
        self._stamps: dict[tuple[str, str], datetime] = {}
        self._first: dict[str, datetime] = {}
        self._states = [self._columns[name] for name in mapping.state.columns]

    def take(self, log: Log, line: int, cells: list[str]) -> None:
        """Add one row to the log. Raises `_Bad` when it says nothing that can be understood."""
        mapping = self._mapping
        if len(cells) != self._width:
            raise _Bad(f"{len(cells)} cells where the header has {self._width}")
        joined = "".join(cells)
        if not joined.isascii() and any("\udc80" <= letter <= "\udcff" for letter in joined):
            raise _Bad("not UTF-8")
        case = self._cell(cells, mapping.case)
        if case is None:
            raise _Bad(f"{mapping.case}: no case")
        if len(case) > 200 or "\0" in case:
            raise _Bad(f"{mapping.case}: not the name of a case")
        at = self._at(cells, mapping.time)
        if at is None:
            raise _Bad(f"{mapping.time.column}: no instant")
        state = " / ".join(cells[place] for place in self._states)
        if state not in mapping.state.values and mapping.state.otherwise is None:
            raise _Bad(f"{', '.join(mapping.state.columns)}: {state!r} is not in the mapping")
        row = Row(at, line, case, state, self.value(cells, mapping.group), self.value(cells, mapping.person))
        rows = log.rows.setdefault(case, [])
        if not rows or self._first[case] > at:
            self._first[case] = at
            log.openings[case] = self._opening(cells, row)
        rows.append(row)

    def _opening(self, cells: list[str], row: Row) -> Opening:
        opened = self._mapping.opened
        at = None if opened.at is None else self._at(cells, opened.at)
        ticket: dict[str, Any] = {"subject": (self.value(cells, opened.subject) or row.case)[:500]}
        for name in ("body", "source", "kind"):
            if (value := self.value(cells, getattr(opened, name))) is not None:
                ticket[name] = value
        for name in ("requester", "labels", "fields"):
            wanted: dict[str, Value] = getattr(opened, name)
            found = {key: value for key, one in wanted.items() if (value := self.value(cells, one)) is not None}
            if found:
                ticket[name] = found
        return Opening(row.at if at is None else min(at, row.at), ticket, row.group)

    def value(self, cells: list[str], value: Value | None) -> str | None:
        """A cell's meaning, or None where there is none."""
        if value is None:
            return None
        if isinstance(value, str):
            return self._cell(cells, value)
        if value.text is not None:
            return filled(value.text, lambda name: self._cell(cells, name) or "").strip() or None
        return self._picked(cells, value)

    def _picked(self, cells: list[str], value: Pick) -> str | None:
        cell = self._cell(cells, str(value.column))
        if cell is not None and cell in value.values:
            return value.values[cell]
        if value.otherwise is not None:
            return value.otherwise
        return None if value.values else cell

    def _cell(self, cells: list[str], column: str) -> str | None:
        cell = cells[self._columns[column]].strip()
        return None if cell in self._missing else cell

    def _at(self, cells: list[str], stamp: Stamp) -> datetime | None:
        cell = self._cell(cells, stamp.column)
        if cell is None:
            return None
        key = (cell, stamp.column)
        known = self._stamps.get(key)
        if known is None:
            try:
                known = self._parse(cell, stamp)
            except (ValueError, OverflowError) as error:
                raise _Bad(f"{stamp.column}: {cell[:60]!r} is no instant of the form {stamp.format!r}") from error
            if len(self._stamps) > 100_000:
                self._stamps.clear()
            self._stamps[key] = known
        return known

    def _parse(self, cell: str, stamp: Stamp) -> datetime:
        at = datetime.fromisoformat(cell) if stamp.format == "iso" else datetime.strptime(cell, stamp.format)
        if at.tzinfo is None:
            at = at.replace(tzinfo=self._zones[stamp.zone])
        at = at.astimezone(UTC)
        if not 1971 <= at.year <= 2200:
            raise ValueError("far away")
        return at


class Rejects:
    """`EVENTS.rejected`: one JSON object a line with line number, reason and cells. Made when the first comes.

    A log in a folder that may not be written to has its rejects in the working folder.
    """

    def __init__(self, path: Path) -> None:
        self._paths = (Path(f"{path}.rejected"), Path(f"{path.name}.rejected"))
        self.name = str(self._paths[0])
        self.count = 0
        self._file: BinaryIO | None = None

    def add(self, line: int, cells: Sequence[str], reason: str) -> None:
        """Set a row aside."""
        self.count += 1
        shown = [cell.encode("utf-8", "backslashreplace").decode() for cell in cells]
        file = self._file or self._made()
        file.write(orjson.dumps({"line": line, "reason": reason, "cells": shown}) + b"\n")

    def close(self) -> None:
        """Done; a file that an earlier run left behind for the same log is taken away when nothing was rejected."""
        if self._file is not None:
            self._file.close()

    def _made(self) -> BinaryIO:
        for path in self._paths:
            try:
                self._file = path.open("wb")
            except OSError:
                continue
            self.name = str(path)
            return self._file
        raise Failure(f"replay: {self._paths[0]} cannot be written, nor can {self._paths[1]}")
