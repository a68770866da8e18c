"""`signalbox eval KIND`: pure evaluation, NDJSON in, NDJSON out; every computable `expected…` member is filled in."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import orjson

from shared.runtime.clock import utc_now

KINDS = ("calendar", "clocks", "oncall", "escalation", "assignment", "classify", "flow")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser("eval", help="evaluate cases, NDJSON in and out", description=__doc__)
    one.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    one.add_argument("--playbook", default="selected", metavar="DIR", help="for `classify`: a folder or a shipped name")
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    evaluate = _evaluator(args.kind, args.playbook)
    failed = 0
    for number, line in enumerate(sys.stdin.buffer, start=1):
        if not line.strip():
            continue
        try:
            answer = evaluate(orjson.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            print(f"signalbox eval: standard input:{number}: {type(error).__name__}: {error}", file=sys.stderr)
            failed += 1
            continue
        sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
    sys.stdout.buffer.flush()
    return 1 if failed else 0


def _evaluator(kind: str, playbook: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    module = import_module(f"services.control.evaluate.{kind}")
    if kind != "classify":
        found: Callable[[dict[str, Any]], dict[str, Any]] = module.evaluate
        return found
    from services.control.publish import load, years_around

    routing = load(playbook, years_around(utc_now())).playbook.routing
    return lambda case: module.evaluate(case, routing)
