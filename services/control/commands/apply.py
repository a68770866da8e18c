"""`signalbox apply DIR`: publish a playbook as a new version; running cases keep theirs unless told otherwise.

`--preview` publishes nothing: it prints, ticket by ticket, what moving the running ones would change. `--running from-now` moves
them as they are, `--running whole` counts their clocks anew from the start. `--undo VERSION` takes the current version back by
new events. A move that was cut off goes on when the same command is given again.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import Progress
from sqlalchemy import Connection, Engine

from services.control import platform, publish
from services.control.cli import Failure
from services.control.moving import Foreseen, Moved, Mover, Watch, foresee
from services.control.narrate import change_of_clock
from shared.ledger.process import Deps
from shared.playbook.model import Playbook
from shared.runtime.clock import utc_now
from shared.runtime.settings import Settings


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser(
        "apply", help="publish a playbook", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    one.add_argument("folder", metavar="DIR", nargs="?", help="a playbook folder, or the name of a shipped one")
    one.add_argument(
        "--running",
        choices=("keep", "from-now", "whole"),
        help="what running tickets do: keep their version (the default), or move to the new one",
    )
    one.add_argument(
        "--preview",
        action="store_true",
        help="print which running tickets would change and how (by --running, from-now when it is not given)",
    )
    one.add_argument("--undo", type=int, metavar="VERSION", help="take the current version back by new events")
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if (args.folder is None) == (args.undo is None):
        raise Failure("apply: name a folder, or --undo VERSION")
    if args.undo is not None and (args.preview or args.running):
        raise Failure("apply: --undo takes neither --preview nor --running")
    with platform.servers(Settings.from_environment()) as settings:
        engine = platform.engine(settings, "apply", worker=False)
        given = platform.deps(settings, engine, fresh=True)
        try:
            if args.undo is not None:
                return _undo(given, engine, args.undo)
            return _apply(given, engine, args)
        finally:
            engine.dispose()


def _apply(given: Deps, engine: Engine, args: argparse.Namespace) -> int:
    running = args.running or "keep"
    with engine.connect() as connection:
        checked = publish.load(args.folder, publish.years_around(utc_now()))
        for warning in checked.warnings:
            print(warning, file=sys.stderr)
        for line in publish.set_by_hand(connection, checked.playbook):
            print(f"kept: {line}")
        if args.preview:
            return _preview(given, connection, checked.playbook, args.running or "from-now")
        done = publish.publish(given, connection, checked.playbook, by=getpass.getuser(), running=running)
    if done.new:
        print(
            f"published {checked.playbook.document.name} as version {done.number} ({done.people_changed} people and groups changed)"
        )
    else:
        print(f"version {done.number} is the same already")
    if running != "keep":
        with _shown("moving running tickets") as progress:
            moved = Mover(given, engine, done.number, getpass.getuser(), progress).move(running)
        _report(moved, f"moved to version {done.number} ({running})")
    return 0


def _preview(given: Deps, connection: Connection, playbook: Playbook, mode: str) -> int:
    current = publish.latest(connection)
    number = 1 if current is None else current.number + 1
    same = current is not None and current.checksum == playbook.checksum
    candidate = Playbook(number - 1 if same else number, playbook.document, playbook.specs)
    looked = changed = broken = stay = 0
    for one in foresee(given, connection, candidate, mode) if current is not None else ():
        looked += 1
        if one.stays is not None:
            stay += 1
            print(f"{one.ahead.ticket.number} stays under version {one.ahead.ticket.playbook}: {one.stays}")
        elif one.ahead.changes or one.way.lines:
            changed += 1
            broken += any(change.breaks for change in one.ahead.changes)
            _print_changes(one)
    what = f"version {candidate.number}" + (" (published already)" if same else "")
    print(
        f"{what}, --running {mode}: of {looked} running tickets {changed} would change, {broken} would break a promise, "
        f"{stay} would stay under theirs; nothing was written"
    )
    return 0


def _print_changes(one: Foreseen) -> None:
    for change in one.ahead.changes:
        print(f"{one.ahead.ticket.number} {change_of_clock(change.metric, change.before, change.after)}")
    for line in one.way.lines:
        print(f"{one.ahead.ticket.number} {line}")


def _undo(given: Deps, engine: Engine, number: int) -> int:
    """Publish the version before `number` again, and give the tickets it had moved back to where they were."""
    with engine.connect() as connection:
        current = publish.latest(connection)
        if current is not None and current.undoes == number:  # cut off: go on
            at = current.number
        elif current is None or number != current.number or number < 2:
            there = 0 if current is None else current.number
            raise Failure(f"apply: only the current version ({there}) can be taken back, and not the first one")
        else:
            before = given.playbooks.get(connection, number - 1)
            at = publish.publish(given, connection, before, by=getpass.getuser(), undoes=number).number
        mode = publish.running_of(connection, number)
        connection.rollback()
    print(f"took back version {number}: version {at} decides as {number - 1} did")
    with _shown("giving tickets back") as progress:
        moved = Mover(given, engine, at, getpass.getuser(), progress).take_back(number, mode)
    _report(moved, f"taken back from version {number}")
    for ticket_id in moved.touched:
        if ticket_id not in moved.stayed:
            print(f"T-{ticket_id} was recomputed: something had happened to it since")
    return 0


def _report(moved: Moved, what: str) -> None:
    for ticket_id, why in sorted(moved.stayed.items()):
        print(f"T-{ticket_id} stays where it is: {why}")
    print(f"{moved.moved} running tickets {what}, {len(moved.stayed)} stay")


@contextmanager
def _shown(what: str) -> Iterator[Watch]:
    """Progress on a terminal, none in a pipe."""
    with Progress(transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda count: bar.update(task, advance=count)
