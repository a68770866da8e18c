"""`signalbox push FILE|-`: tickets from NDJSON or CSV, gzipped too, into a running system. Rejects go to FILE.rejected.

An interrupted push is simply repeated: tickets with `external_id` are taken once, and so are the other lines of a file (for a
week), each by its place and content. A CSV has a header row with the members of a ticket; `labels.NAME`, `fields.NAME` and
`requester.NAME` columns fill the nested ones, empty cells are left out. The exit code is 0 when every line was taken.
"""

from __future__ import annotations

import argparse
import hashlib
import signal
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import orjson
from rich.progress import Progress
from sqlalchemy.exc import DBAPIError

from services.control import platform
from services.control.cli import Failure
from services.control.ticketfile import Line, opened, read
from services.gateway.intake import Answer, Intake, Submission
from shared.contracts.envelope import Actor
from shared.contracts.strict import Fault
from shared.ledger.process import Deps
from shared.playbook.routing import CustomField
from shared.playbook.store import NothingPublished
from shared.runtime.settings import Settings

CHUNK = 500
ACTOR = Actor(kind="automation", id="push")
FILES = -2
"""In place of a key's id, for the idempotency of lines without `external_id`."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser("push", help="push tickets from a file", description=__doc__)
    one.add_argument(
        "file", metavar="FILE", help="NDJSON, or CSV by its name (x.csv, x.csv.gz); - for NDJSON on standard input"
    )
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    path = None if args.file == "-" else Path(args.file)
    if path is not None and not path.is_file():
        raise Failure(f"push: no such file: {path}")
    with platform.servers(Settings.from_environment()) as settings, ExitStack() as stack:
        engine = platform.engine(settings, "push")
        stack.callback(engine.dispose)
        source = stack.enter_context(path.open("rb")) if path is not None else sys.stdin.buffer
        push = Push(platform.deps(settings, engine), path)
        stack.callback(push.close)
        if threading.current_thread() is threading.main_thread():
            stack.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, push.interrupt))
        try:
            push.all(source, stack.enter_context(Progress(transient=True, disable=not sys.stderr.isatty())))
        except (Failure, KeyboardInterrupt):
            push.say("stopped: ")
            raise
    push.say()
    return 1 if push.counts["rejected"] else 0


@dataclass(slots=True)
class Push:
    """One file on its way in."""

    deps: Deps
    path: Path | None
    counts: Counter[str] = field(default_factory=Counter)
    _interrupted: bool = False
    _rejects: BinaryIO | None = None

    @property
    def rejected(self) -> Path:
        """Where rejects go; there is no such file when there are none."""
        return Path(f"{self.path if self.path is not None else 'stdin'}.rejected")

    def all(self, source: BinaryIO, progress: Progress) -> None:
        """Push every line, in chunks of one transaction each; waits for a database that goes away meanwhile."""
        self.rejected.unlink(missing_ok=True)
        intake = Intake(self.deps)
        size = self.path.stat().st_size if self.path is not None else None
        task = progress.add_task("pushing", total=size)
        is_csv = self.path is not None and ".csv" in [one.lower() for one in self.path.suffixes[-2:]]
        chunk: list[Line] = []
        for line in read(opened(source), is_csv=is_csv, fields=self._fields()):
            chunk.append(line)
            if self._interrupted:
                raise KeyboardInterrupt
            if len(chunk) >= CHUNK:
                self._send(intake, chunk)
                chunk = []
            if size is not None:
                progress.update(task, completed=source.tell())
        self._send(intake, chunk)

    def interrupt(self, *_: object) -> None:
        """Stop now; at the next line when the exception is lost, as it is in a callback of the garbage collector."""
        self._interrupted = True
        raise KeyboardInterrupt

    def say(self, before: str = "") -> None:
        """Print the counts, and where the rejects are."""
        counts = self.counts
        print(f"{before}{counts['accepted']} accepted, {counts['repeat']} already there, {counts['rejected']} rejected")
        if counts["rejected"]:
            print(f"signalbox: rejected lines are in {self.rejected}", file=sys.stderr)

    def close(self) -> None:
        if self._rejects is not None:
            self._rejects.close()

    def _fields(self) -> dict[str, CustomField]:
        try:
            with self.deps.engine.connect() as connection:
                return dict(self.deps.playbooks.current(connection).document.fields)
        except NothingPublished as error:
            raise Failure(f"push: {error}") from error
        except DBAPIError as error:
            raise Failure(f"push: the database cannot be used: {error.orig}") from error

    def _key(self, line: Line) -> tuple[int, str] | None:
        """What makes a line of a file the same line again: the file's name, its place, its content."""
        if self.path is None:
            return None
        digest = hashlib.blake2b(line.raw, digest_size=16).hexdigest()
        name = hashlib.blake2b(self.path.name.encode(errors="surrogateescape"), digest_size=8).hexdigest()
        return FILES, f"push:{name}:{line.number}:{digest}"

    def _send(self, intake: Intake, chunk: Sequence[Line]) -> None:
        submissions = [
            Submission(line.ticket, ACTOR, idempotency=self._key(line))
            for line in chunk
            if not isinstance(line.ticket, Fault)
        ]
        answers = intake.open_patiently(submissions, threading.Event()) if submissions else []
        assert answers is not None
        done = iter(answers)
        for line in chunk:
            if isinstance(line.ticket, Fault):
                self._reject(line, line.ticket)
            else:
                self._count(line, next(done))

    def _count(self, line: Line, answer: Answer) -> None:
        if answer.fault is not None:
            self._reject(line, answer.fault)
        elif answer.conflict:
            self._reject(line, Fault("/external_id", "came with another body before"))
        else:
            self.counts["accepted" if answer.new else "repeat"] += 1

    def _reject(self, line: Line, fault: Fault) -> None:
        self.counts["rejected"] += 1
        if self._rejects is None:
            self._rejects = self.rejected.open("wb")
        reason = f"{fault.pointer or '/'}: {fault.reason}"
        original = line.raw.decode("utf-8", "backslashreplace")
        self._rejects.write(orjson.dumps({"line": line.number, "reason": reason, "original": original}) + b"\n")
