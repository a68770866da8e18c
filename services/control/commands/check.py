"""`signalbox check DIR`: prove a playbook sound before it is published. Writes nothing.

Where the system is set up (`SIGNALBOX_DATABASE_URL`, or embedded servers in `SIGNALBOX_HOME`) it also lists what people set by hand
and this playbook would leave so: presence, leave and skills, until the playbook's own value changes.
"""

from __future__ import annotations

import argparse
import sys

from sqlalchemy.exc import SQLAlchemyError

from services.control import platform
from services.control.publish import load, set_by_hand, years_around
from shared.playbook.model import Playbook
from shared.runtime.clock import utc_now
from shared.runtime.settings import Settings


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser("check", help="prove a playbook sound", description=__doc__)
    one.add_argument("folder", metavar="DIR", help="a playbook folder, or the name of a shipped one")
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    checked = load(args.folder, years_around(utc_now()))
    for warning in checked.warnings:
        print(warning, file=sys.stderr)
    for line in _set_by_hand(checked.playbook):
        print(f"kept: {line}")
    document = checked.playbook.document
    print(
        f"{document.name}: sound. {len(document.rules)} rule sets, {len(document.groups)} groups, {len(document.agents)} people, "
        f"{len(document.sla)} SLA policies, {len(document.flows)} flows, {len(document.chains)} chains, "
        f"{len(document.messages.rules)} message rules"
    )
    return 0


def _set_by_hand(playbook: Playbook) -> list[str]:
    settings = Settings.from_environment()
    if settings.database_url is None and not settings.home.exists():
        return []
    try:
        with platform.servers(settings) as given:
            engine = platform.engine(given, "check", worker=False)
            with engine.connect() as connection:
                return set_by_hand(connection, playbook)
    except SQLAlchemyError as error:  # a playbook is as sound without the system
        print(f"check: what was set by hand is not known: {str(error).splitlines()[0]}", file=sys.stderr)
        return []
