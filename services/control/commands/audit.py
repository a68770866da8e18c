"""`signalbox audit verify`: an independent check of the ledger: gapless versions, projections equal to their events."""

from __future__ import annotations

import argparse
import sys

from services.control import platform
from shared.ledger import reader
from shared.ledger.unit import decode_ticket
from shared.runtime.settings import Settings
from shared.ticket.projection import project


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser("audit", help="check the ledger independently", description=__doc__)
    one.add_argument("what", choices=("verify",))
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    bad = checked = 0
    with platform.servers(Settings.from_environment()) as settings:
        engine = platform.engine(settings, "audit", worker=False)
        with engine.connect() as connection:
            gaps = connection.exec_driver_sql(
                """select kind, id from ledger.event group by kind, id
                having min(version) <> 1 or max(version) <> count(*) or count(distinct version) <> count(*)"""
            ).all()
            for row in gaps:
                print(f"{row.kind} {row.id}: versions are not gapless", file=sys.stderr)
            bad += len(gaps)
            after = 0
            while rows := connection.exec_driver_sql(
                "select id, state::text as state from ledger.ticket where id > %s order by id limit 500", (after,)
            ).all():
                for row in rows:
                    checked += 1
                    if project(reader.stream(connection, "ticket", row.id)) != decode_ticket(row.state):
                        print(f"T-{row.id}: the stored ticket is not what its events say", file=sys.stderr)
                        bad += 1
                after = rows[-1].id
                connection.rollback()
    print(f"{checked} tickets checked, {bad} faults")
    return 1 if bad else 0
