"""`signalbox demo`: a day of generated tickets through every service in fast-forward, on a database of its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.live import Live
from rich.table import Table

from services.control import platform, publish
from services.control.cli import Failure
from services.control.demo.day import arrivals
from services.control.demo.door import gateway, listening
from services.control.demo.play import Day, Progress
from services.control.demo.stories import stories, summary
from services.control.replay import own
from services.control.replay.engine import Engine
from services.gateway.intake import Intake
from shared.ledger.invariants import INVARIANTS, violations
from shared.runtime.migrate import upgrade
from shared.runtime.settings import Settings

START = datetime(2026, 3, 2, 16, 0, tzinfo=UTC)
"""Midnight of Tuesday, 3 March 2026, in Shanghai."""
DATABASE = "signalbox_demo"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser("demo", help="a day of tickets in fast-forward", description=__doc__)
    one.add_argument("--tickets", type=int, default=220, metavar="N", help="how many come in the day (default 220)")
    one.add_argument("--days", type=int, default=1, metavar="N", help="over how many days, from a Tuesday (default 1)")
    one.add_argument("--seed", type=int, default=7, metavar="N", help="another seed is another day (default 7)")
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if not 1 <= args.tickets <= 100_000:
        raise Failure("demo: --tickets is 1 to 100000")
    if not 1 <= args.days <= 60:
        raise Failure("demo: --days is 1 to 60")
    console = Console()
    end = START + timedelta(days=args.days)
    with (
        listening() as port,
        platform.servers(Settings.from_environment()) as settings,
        own.database(settings, DATABASE) as mine,
    ):
        assert mine.database_url is not None
        upgrade(mine.database_url)
        mine = replace(mine, redis_url=None, public_url=f"http://127.0.0.1:{port.getsockname()[1]}")
        database = platform.engine(mine, "demo", sync=False)
        given = platform.deps(mine, database, fresh=True)
        # this process publishes once, and nobody else is here
        given.playbooks.max_age_seconds = given.directory.max_age_seconds = 3600.0
        with database.connect() as connection:
            connection.exec_driver_sql("insert into ledger.clock (at) values (%s)", (START,))
            connection.commit()
            checked = publish.load("selected", publish.years_around(START))
            publish.publish(given, connection, checked.playbook, by="demo")
        engine = Engine(given, database)
        engine.settle_all()
        span = "A day" if args.days == 1 else f"{args.days} days"
        console.print(f"{span} of {args.tickets} tickets at a chain of clinics, playbook `selected`, in fast-forward.")
        with gateway(mine, port) as door, _live(console) as show:
            day = Day(engine, Intake(given), door, args.seed, START)
            engine.on_send = day.on_send
            day.play(arrivals(START, args.tickets, args.seed, args.days), end, show)
        with database.connect() as connection:
            broken = {one.name: rows for one in INVARIANTS if (rows := violations(connection, one))}
            console.print(summary(connection, day))
            for story in stories(connection, day.ids):
                console.print(story, soft_wrap=True)
        database.dispose()
    for name, rows in broken.items():
        print(f"signalbox demo: invariant {name} is broken: {rows[0]}", file=sys.stderr)
    return 1 if broken else 0


@contextmanager
def _live(console: Console) -> Iterator[Progress]:
    """A live table on a terminal, silence in a pipe."""
    if not console.is_terminal:
        yield lambda _: None
        return
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        yield lambda day: live.update(_table(day))


def _table(day: Day) -> Table:
    table = Table(title=f"{day.now.astimezone().isoformat(timespec='minutes')}")
    for name in ("opened", "accept", "reply", "pause", "resolve"):
        table.add_column(name, justify="right")
    table.add_row(*(str(day.counts[name]) for name in ("opened", "accept", "reply", "pause", "resolve")))
    return table
