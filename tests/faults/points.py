"""The crash points that the code passes, and the services that pass them."""

from __future__ import annotations

import ast
from pathlib import Path

from shared.runtime.crash import POINTS

ROOT = Path(__file__).resolve().parents[2]
WORKERS = ("router", "sla", "escalation", "notifier")
OWNERS = {
    "intake": ("gateway",),
    "command": ("gateway",),
    "stream": ("gateway",),
    "lane": WORKERS,
    "delivery": ("notifier",),
    "topic": ("notifier",),
}
"""Services by the first part of a point's name."""


def passed() -> set[str]:
    """Names of the points in the code."""
    found: set[str] = set()
    for area in ("shared", "services"):
        for path in (ROOT / area).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "crash_point":
                    argument = node.args[0]
                    if isinstance(argument, ast.Constant) and argument.value in POINTS:
                        found.add(str(argument.value))
    return found


def all_of_them() -> list[tuple[str, str]]:
    """(service, point) of every place at which a process can be killed."""
    return [(service, name) for name in sorted(passed()) for service in OWNERS[name.partition(".")[0]]]
