"""What is expected while a ticket waits, and of its todos and task groups. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from msgspec.structs import replace

from services.escalation.watched import Expected
from shared.ticket.state import Ticket

Key = tuple[str, str, int]
"""What, where, which visit."""


def frozen(expected: Mapping[Key, Expected], at: datetime) -> dict[Key, Expected]:
    """The ticket waits from `at` on: what is left of the time to accept stands still."""
    return {
        key: replace(one, left=max(0.0, (one.due_at - at).total_seconds()))
        if one.what == "unaccepted" and one.left is None
        else one
        for key, one in expected.items()
    }


def thawed(expected: Mapping[Key, Expected], at: datetime) -> dict[Key, Expected]:
    """The ticket goes on at `at`; a node's own instant moves with the ticket."""
    found = dict(expected)
    for key, one in expected.items():
        if one.left is not None:
            moves = one.what == "unaccepted" and not one.noted
            found[key] = replace(one, due_at=at + timedelta(seconds=one.left) if moves else one.due_at, left=None)
    return found


def of_tasks(ticket: Ticket, expected: Mapping[Key, Expected]) -> Iterator[Expected]:
    """Open todos and task groups that have an instant; `expected`: what was known of them before."""
    for task in ticket.open_tasks:
        if task.due_at is not None:
            known = expected.get(("task", str(task.id), 1))
            noted = known is not None and known.noted and known.due_at == task.due_at
            yield Expected("task", task.due_at, task.opened_at, 0, str(task.id), 1, task.owner, noted)
