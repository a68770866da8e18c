"""`signalbox flow import FILE`: a flow drawn in BPMN 2.0 as YAML. `signalbox flow export DIR FLOW`: the way back.

What is taken of BPMN is listed in docs/bpmn-profile.md; everything else is refused by element id. Writes nothing but its output.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from services.control.cli import Failure
from services.control.publish import load, years_around
from shared.runtime.clock import utc_now
from shared.ticket.flow.bpmn_export import export_bpmn
from shared.ticket.flow.bpmn_import import import_bpmn
from shared.ticket.flow.bpmn_read import BpmnRefused
from shared.ticket.flow.model import written

OWNERS = ("group", "role", "person")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser(
        "flow", help="flows from and to BPMN", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ways = one.add_subparsers(dest="way", required=True, metavar="import|export")
    taken = ways.add_parser("import", help="a BPMN 2.0 file as YAML")
    taken.add_argument("file", metavar="FILE", type=Path)
    taken.add_argument(
        "--responsible",
        metavar="KIND:NAME",
        help=f"who moves what nobody is named for: {', '.join(f'{kind}:NAME' for kind in OWNERS)}",
    )
    given = ways.add_parser("export", help="a flow of a playbook as BPMN 2.0")
    given.add_argument("folder", metavar="DIR", help="a playbook folder, or the name of a shipped one")
    given.add_argument("flow", metavar="FLOW", help="the flow's name")
    given.add_argument("--locale", default="en", help="of titles that there are in several languages (en)")
    for way in (taken, given):
        way.add_argument("--out", metavar="FILE", type=Path, help="write to a file")
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    data = (
        _import(args.file, args.responsible) if args.way == "import" else _export(args.folder, args.flow, args.locale)
    )
    try:
        if args.out is None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            args.out.write_bytes(data)
    except OSError as error:
        raise Failure(f"flow: {args.out or 'output'}: {error.strerror}") from error
    return 0


def _import(file: Path, responsible: str | None) -> bytes:
    owner: dict[str, str] | None = None
    if responsible is not None:
        kind, _, name = responsible.partition(":")
        if kind not in OWNERS or not name:
            raise Failure(f"flow: --responsible is one of {', '.join(f'{one}:NAME' for one in OWNERS)}")
        owner = {kind: name}
    try:
        flow = import_bpmn(file.read_bytes(), responsible=owner)
    except OSError as error:
        raise Failure(f"flow: {file}: {error.strerror}") from error
    except BpmnRefused as error:
        raise Failure("\n".join(f"{file}: {one}" for one in error.refused)) from error
    text: str = yaml.safe_dump({"flows": [written(flow)]}, allow_unicode=True, sort_keys=False, width=120)
    return text.encode()


def _export(folder: str, name: str, locale: str) -> bytes:
    flows = {flow.name: flow for flow in load(folder, years_around(utc_now())).playbook.document.flows}
    if name not in flows:
        raise Failure(f"flow: no flow {name!r} in {folder} (there: {', '.join(flows) or 'none'})")
    return export_bpmn(flows[name], locale=locale)
