"""`signalbox push FILE|-`: tickets from NDJSON or CSV into a running system. Rejects go to FILE.rejected with their reasons.

May be repeated: tickets with `external_id` are taken once. A CSV has a header row with the members of a ticket; `labels.NAME`,
`fields.NAME` and `requester.NAME` columns fill the nested ones, empty cells are left out.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from rich.progress import Progress

from services.control import platform
from services.control.cli import Failure
from services.gateway.intake import Intake, Submission
from shared.contracts import intake as wire
from shared.contracts.envelope import Actor
from shared.contracts.strict import Unacceptable, convert, decode
from shared.runtime.settings import Settings

CHUNK = 500


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser("push", help="push tickets from a file", description=__doc__)
    one.add_argument("file", metavar="FILE", help="NDJSON or CSV (by its ending), or - for NDJSON on standard input")
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    path = None if args.file == "-" else Path(args.file)
    if path is not None and not path.is_file():
        raise Failure(f"push: no such file: {path}")
    counts = {"accepted": 0, "repeat": 0, "rejected": 0}
    with platform.servers(Settings.from_environment()) as settings, ExitStack() as stack:
        engine = platform.engine(settings, "push")
        intake = Intake(platform.deps(settings, engine))
        source = stack.enter_context(path.open("rb")) if path is not None else sys.stdin.buffer
        rejects = _Rejects(path)
        progress = stack.enter_context(Progress(transient=True, disable=not sys.stderr.isatty()))
        task = progress.add_task("pushing", total=path.stat().st_size if path is not None else None)
        chunk: list[tuple[int, bytes, Submission]] = []
        actor = Actor(kind="automation", id="push")
        for number, raw, ticket in _tickets(source, path):
            progress.update(task, advance=len(raw) + 1)
            if isinstance(ticket, Unacceptable):
                rejects.add(number, raw, f"{ticket.fault.pointer or '/'}: {ticket.fault.reason}")
                counts["rejected"] += 1
                continue
            chunk.append((number, raw, Submission(ticket, actor)))
            if len(chunk) >= CHUNK:
                _send(intake, chunk, counts, rejects)
                chunk = []
        _send(intake, chunk, counts, rejects)
        rejects.close()
    print(f"{counts['accepted']} accepted, {counts['repeat']} already there, {counts['rejected']} rejected")
    if counts["rejected"]:
        print(f"signalbox: rejected lines are in {rejects.name}", file=sys.stderr)
    return 1 if counts["rejected"] else 0


def _send(
    intake: Intake, chunk: list[tuple[int, bytes, Submission]], counts: dict[str, int], rejects: _Rejects
) -> None:
    if not chunk:
        return
    for (number, raw, _), answer in zip(chunk, intake.open_many([one for _, _, one in chunk]), strict=True):
        if answer.fault is not None:
            rejects.add(number, raw, f"{answer.fault.pointer or '/'}: {answer.fault.reason}")
            counts["rejected"] += 1
        elif answer.conflict:
            rejects.add(number, raw, "/external_id: came with another body before")
            counts["rejected"] += 1
        else:
            counts["accepted" if answer.new else "repeat"] += 1


class _Rejects:
    """`FILE.rejected`: one JSON object a line with line number, reason and the original. Made when the first comes."""

    def __init__(self, path: Path | None) -> None:
        self.name = f"{path if path is not None else 'stdin'}.rejected"
        self._file: BinaryIO | None = None

    def add(self, line: int, raw: bytes, reason: str) -> None:
        if self._file is None:
            self._file = Path(self.name).open("wb")  # noqa: SIM115 - closed by `close`
        original = raw.decode("utf-8", "backslashreplace")
        self._file.write(orjson.dumps({"line": line, "reason": reason, "original": original}) + b"\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _tickets(source: BinaryIO, path: Path | None) -> Iterator[tuple[int, bytes, wire.TicketIn | Unacceptable]]:
    if path is not None and path.suffix.lower() == ".csv":
        yield from _csv(source)
        return
    for number, line in enumerate(source, start=1):
        raw = line.rstrip(b"\r\n")
        if not raw.strip():
            continue
        try:
            yield number, raw, decode(raw, wire.TicketIn)
        except Unacceptable as error:
            yield number, raw, error


def _csv(source: BinaryIO) -> Iterator[tuple[int, bytes, wire.TicketIn | Unacceptable]]:
    reader = csv.DictReader(io.TextIOWrapper(source, encoding="utf-8-sig", errors="surrogateescape", newline=""))
    for row in reader:
        raw = orjson.dumps(
            {
                k: (v or "").encode("utf-8", "backslashreplace").decode()
                for k, v in row.items()
                if k and isinstance(v, str | None)
            }
        )
        try:
            yield reader.line_num, raw, convert(_nested(row), wire.TicketIn)
        except Unacceptable as error:
            yield reader.line_num, raw, error


def _nested(row: dict[str | Any, str | Any]) -> dict[str, Any]:
    ticket: dict[str, Any] = {}
    for name, value in row.items():
        if name is None or value is None:
            raise Unacceptable("", "the row has another number of cells than the header")
        if value == "":
            continue
        if any("\udc80" <= letter <= "\udcff" for letter in value):
            raise Unacceptable(f"/{name}", "not UTF-8")
        outer, dot, inner = name.partition(".")
        if dot:
            ticket.setdefault(outer, {})[inner] = value
        else:
            ticket[name] = value
    return ticket
