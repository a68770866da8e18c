"""The `signalbox` command: arguments, and nothing else. Each subcommand is a file of `commands`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from shared.playbook.source import BadPlaybook
from shared.runtime.settings import BadSetting

COMMANDS = (
    "up", "run", "migrate", "check", "apply", "push", "explain", "eval", "classifier", "forecast", "audit", "doctor",
    "demo", "replay", "flow", "key",
)  # fmt: skip


class Failure(Exception):
    """A command cannot do what was asked; the text is for the person who asked."""


MODULES = {"eval": "evaluate"}


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The whole command line; `only` loads one subcommand's module and leaves the others out, which starts faster."""
    top = argparse.ArgumentParser(
        prog="signalbox",
        description="Routes every ticket to the right person, keeps every promised deadline, tells everyone who must know.",
        epilog="Settings come from the environment (SIGNALBOX_DATABASE_URL, SIGNALBOX_REDIS_URL, …); see the README.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS if only is None else (only,):
        import_module(f"services.control.commands.{MODULES.get(name, name)}").add_parser(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 only when all of it succeeded, 2 for wrong arguments."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = parser(given[0] if given and given[0] in COMMANDS else None).parse_args(given)
    try:
        return int(args.run(args))
    except (BadPlaybook, BadSetting, Failure) as error:
        print(f"signalbox: {error}" if not isinstance(error, BadPlaybook) else str(error), file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
