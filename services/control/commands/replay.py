"""`signalbox replay EVENTS`: a recorded history through the services on a virtual clock: what would have happened.

Given are the openings, replies, waits, transfers and resolutions of the log, whose people become the directory; decided anew are
labels, assignment, clocks, escalation and deliveries. The log is a CSV (gzip or not) that a mapping explains (docs/replay.md); a
shipped mapping is found by the log's name. Rows that cannot be used go to EVENTS.rejected with their reasons.

With --against the same history runs under both playbooks, in memory, and what differs is shown by group and priority.

Else it runs in a database of its own, `signalbox_replay`, on the given server or on one that is thrown away at the end.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from services.control import platform
from services.control.cli import Failure
from services.control.replay import own, report
from services.control.replay.reading import Rejects
from services.control.replay.run import History, Tell, elapsed, load, play, playbook_of, prepare, result
from services.control.replay.whatif import both, difference
from shared.playbook.model import Playbook
from shared.runtime import memory
from shared.runtime.migrate import upgrade
from shared.runtime.settings import Settings

DATABASE = "signalbox_replay"
PIPE_WIDTH = 150


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser(
        "replay", help="a recorded history through the services", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    one.add_argument("events", metavar="EVENTS", type=Path, help="the log: CSV, gzip or not")
    one.add_argument("--playbook", metavar="DIR|NAME", default="selected", help="default: selected")
    one.add_argument(
        "--against",
        metavar="DIR|NAME",
        help="the same history under another playbook too, in memory: what would differ",
    )
    one.add_argument("--mapping", metavar="MAP", help="a mapping file, or the name of a shipped one")
    one.add_argument("--out", metavar="FILE", type=Path, help="save the result as JSON")
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if not args.events.is_file():
        raise Failure(f"replay: {args.events}: no such file")
    if args.out is not None and not args.out.absolute().parent.is_dir():  # said before the work and not after it
        raise Failure(f"replay: --out {args.out}: {args.out.parent} is not a folder")
    rejects = Rejects(args.events)
    try:
        history = load(args.events, args.mapping, rejects)
        memory.settle()
        playbook = playbook_of(args.playbook, history)
        if args.against is not None:
            found, shown = _compare(history, (args.playbook, args.against), playbook)
        else:
            found, shown = _play(history, args.playbook, playbook, rejects)
    finally:
        rejects.close()
    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    console.print(shown)
    if args.out is not None:
        save(args.out, found)
    if rejects.count:
        print(f"signalbox: {rejects.count} rejected rows are in {rejects.name}", file=sys.stderr)
    return 1 if rejects.count else 0


def _play(history: History, name: str, playbook: Playbook, rejects: Rejects) -> tuple[dict[str, Any], RenderableType]:
    with (
        own.server(Settings.from_environment()) as (settings, stays),
        own.database(settings, DATABASE, keep=stays) as mine,
    ):
        assert mine.database_url is not None
        upgrade(mine.database_url)
        database = platform.engine(mine, "replay", sync=False)
        try:
            deps = prepare(mine, database, playbook, history.start)
            with _progress(len(history.everything)) as tell:
                tally, played = play(history, deps, database, rejects, tell)
            with database.connect() as connection:
                times = elapsed(connection, history, tally)
        finally:
            database.dispose()
    found = result(history, name, tally, played, rejects.count) | {"elapsed_seconds": times}
    return found, report.shown(found, f"{history.name} under {name}")


def _compare(history: History, names: tuple[str, str], first: Playbook) -> tuple[dict[str, Any], RenderableType]:
    sides = (first, playbook_of(names[1], history))
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks = [progress.add_task(name, total=len(history.everything)) for name in names]
        found = both(history, sides, lambda side, done: progress.update(tasks[side], completed=done))
    differs = difference(history, names, found)
    return differs, report.compared(differs)


def save(path: Path, found: dict[str, object]) -> None:
    """The result as JSON, for people and programs."""
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    except OSError as error:
        raise Failure(f"replay: {path}: {error.strerror}") from error


@contextmanager
def _progress(total: int) -> Iterator[Tell]:
    """Where it is and how fast, on a terminal; silence in a pipe."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(show_speed=True),
        TextColumn("{task.fields[tickets]} tickets"), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading", total=total, tickets=0)

        def tell(at: datetime, rows: int, tickets: int) -> None:
            progress.update(task, advance=rows, description=f"{at:%Y-%m-%d %H:%M}", tickets=tickets)

        yield (lambda _at, _rows, _tickets: None) if not console.is_terminal else tell
