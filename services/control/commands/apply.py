"""`signalbox apply DIR`: publish a playbook as a new version; running cases keep theirs unless told otherwise."""

from __future__ import annotations

import argparse
import getpass
import sys

from sqlalchemy import Connection

from services.control import platform, publish
from services.control.cli import Failure
from shared.ledger.process import Deps
from shared.runtime.clock import utc_now
from shared.runtime.settings import Settings


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser("apply", help="publish a playbook", description=__doc__)
    one.add_argument("folder", metavar="DIR", nargs="?", help="a playbook folder, or the name of a shipped one")
    one.add_argument("--running", choices=("keep",), default="keep", help="running cases keep their version")
    one.add_argument("--undo", type=int, metavar="VERSION", help="take a version back by new events")
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if (args.folder is None) == (args.undo is None):
        raise Failure("apply: name a folder, or --undo VERSION")
    with platform.servers(Settings.from_environment()) as settings:
        engine = platform.engine(settings, "apply", worker=False)
        given = platform.deps(settings, engine, fresh=True)
        with engine.connect() as connection:
            if args.undo is not None:
                return _undo(given, connection, args.undo)
            checked = publish.load(args.folder, publish.years_around(utc_now()))
            for warning in checked.warnings:
                print(warning, file=sys.stderr)
            done = publish.publish(given, connection, checked.playbook, by=getpass.getuser(), running=args.running)
    if done.new:
        print(
            f"published {checked.playbook.document.name} as version {done.number} ({done.people_changed} people and groups changed)"
        )
    else:
        print(f"version {done.number} is the same already")
    return 0


def _undo(given: Deps, connection: Connection, number: int) -> int:
    """Publish the version before `number` again."""
    current = given.playbooks.number(connection)
    if number != current or number < 2:
        raise Failure(f"apply: only the current version ({current}) can be taken back, and not the first one")
    before = given.playbooks.get(connection, number - 1)
    done = publish.publish(given, connection, before, by=getpass.getuser(), undoes=number)
    print(f"took back version {number}: version {done.number} decides as {number - 1} did")
    return 0
