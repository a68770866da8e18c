"""`signalbox doctor`: what is wrong: servers, versions, lag, silent loops, orphans, invariants, quarantine, on-call gaps.

Prints a line for each thing looked at, with what to do about what is wrong; exit code 1 when anything is.
"""

from __future__ import annotations

import argparse
import sys

from services.control import diagnosis, platform
from shared.runtime.settings import Settings

_MARKS = {"ok": "ok  ", "note": "note", "bad": "BAD "}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser("doctor", help="what is wrong", description=__doc__)
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    wrong = 0
    with platform.servers(Settings.from_environment()) as settings:
        for finding in diagnosis.diagnose(settings):
            print(f"{_MARKS[finding.level]} {finding.text}", flush=True)
            wrong += finding.bad
    if wrong:
        print(f"signalbox: unhealthy: {wrong} thing{'s' if wrong > 1 else ''} wrong, see above", file=sys.stderr)
    return 1 if wrong else 0
