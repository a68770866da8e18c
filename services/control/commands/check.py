"""`signalbox check DIR`: prove a playbook sound before it is published. Writes nothing."""

from __future__ import annotations

import argparse
import sys

from services.control.publish import load, years_around
from shared.runtime.clock import utc_now


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser("check", help="prove a playbook sound", description=__doc__)
    one.add_argument("folder", metavar="DIR", help="a playbook folder, or the name of a shipped one")
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    checked = load(args.folder, years_around(utc_now()))
    for warning in checked.warnings:
        print(warning, file=sys.stderr)
    document = checked.playbook.document
    print(
        f"{document.name}: sound. {len(document.rules)} rule sets, {len(document.groups)} groups, {len(document.agents)} people, "
        f"{len(document.sla)} SLA policies, {len(document.flows)} flows, {len(document.chains)} chains, "
        f"{len(document.messages.rules)} message rules"
    )
    return 0
