"""`signalbox eval KIND`: pure evaluation, NDJSON in, NDJSON out; every computable `expected…` member is filled in.

With `--playbook` a `calendar` may be the name of one of the playbook's, with its holidays and exceptions as they are published:
{"kind": "calendar_days", "op": "is_working_day", "calendar": "office", "date": "2026-10-10"}.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import orjson

from shared.calendar.spec import CalendarSpec
from shared.playbook.model import Playbook
from shared.runtime.clock import utc_now

KINDS = ("calendar", "clocks", "oncall", "escalation", "assignment", "classify", "flow")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser(
        "eval",
        help="evaluate cases, NDJSON in and out",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    one.add_argument(
        "--playbook",
        default="selected",
        metavar="DIR",
        help="for `classify` and calendars by name: a folder or a shipped name",
    )
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    evaluate = _evaluator(args.kind, args.playbook)
    failed = 0
    for number, line in enumerate(sys.stdin.buffer, start=1):
        if not line.strip():
            continue
        try:
            case = orjson.loads(line)
            if not isinstance(case, dict):
                raise ValueError(
                    f"one case a line, each a JSON object; this is {line.decode(errors='replace').strip()[:60]}"
                )
            answer = evaluate(case)
        except (ValueError, KeyError, TypeError) as error:
            print(f"signalbox eval: standard input:{number}: {type(error).__name__}: {error}", file=sys.stderr)
            failed += 1
            continue
        sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
    sys.stdout.buffer.flush()
    return 1 if failed else 0


def _evaluator(kind: str, playbook: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    module = import_module(f"services.control.evaluate.{kind}")
    evaluate: Callable[..., dict[str, Any]] = module.evaluate
    if kind == "classify":
        routing = _playbook(playbook).routing
        return lambda case: evaluate(case, routing)
    if kind == "calendar":
        return lambda case: evaluate(case, lambda name: _named(playbook, name))
    return evaluate


def _named(playbook: str, name: str) -> CalendarSpec:
    specs = _playbook(playbook).specs
    if name not in specs:
        raise ValueError(
            f"calendar: the playbook {playbook} has none called {name!r} (known: {', '.join(sorted(specs))})"
        )
    return specs[name]


@cache
def _playbook(name_or_folder: str) -> Playbook:
    from services.control.publish import load, years_around

    return load(name_or_folder, years_around(utc_now())).playbook
