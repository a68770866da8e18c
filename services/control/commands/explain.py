"""`signalbox explain TICKET_ID|FILE`: why a ticket is where it is; for a file of tickets: what would happen. Writes nothing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from services.control import platform
from services.control.cli import Failure
from services.gateway import queries
from services.gateway.errors import Problem
from shared.access.principals import SYSTEM
from shared.runtime.settings import Settings
from shared.ticket.commands import parse_id


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser("explain", help="why: classification, rule, candidates, clocks, …", description=__doc__)
    one.add_argument("what", metavar="TICKET_ID|FILE", help="a ticket (1042 or T-1042), or a file of tickets (NDJSON)")
    one.add_argument("--playbook", metavar="DIR", help="for a file: a playbook instead of the published one")
    one.add_argument(
        "--json", action="store_true", help="JSON instead of text (for a file it is JSON into a pipe anyway)"
    )
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    ticket_id = parse_id(args.what)
    if ticket_id is None or Path(args.what).is_file():
        from services.control.foresee import foresee

        return foresee(Path(args.what), args.playbook, as_json=args.json)
    with platform.servers(Settings.from_environment()) as settings:
        engine = platform.engine(settings, "explain", worker=False)
        given = platform.deps(settings, engine, fresh=True)
        with engine.connect() as connection:
            try:
                story = queries.explain(given, connection, ticket_id, SYSTEM)
                shown = queries.ticket(given, connection, ticket_id, SYSTEM)
            except Problem as error:
                raise Failure(f"explain: {error.detail}") from error
    if args.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(story)) + b"\n")
        return 0
    from services.control.narrate import narrate

    print(narrate(shown, story))
    return 0
