"""The staff as the router needs it: who may get what, and what of a person stays as it is from batch to batch.

A batch looks at everybody whose load it may change, some hundred people; what the directory says of them is the same until the
next directory. So it is worked out once for each, and a batch adds the loads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from services.router.domain.pool import Absence, Agent
from services.router.store import Load
from shared.directory.people import Directory

CROWDS = 1_000
"""Sets of groups whose people are kept; more than batches differ in."""


class Staff:
    """What one directory says. Shared by threads: what two of them work out at once is the same."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self._known: dict[str, tuple[Any, ...]] = {}
        self._crowds: dict[frozenset[str], frozenset[str]] = {}

    def crowd(self, groups: Iterable[str]) -> frozenset[str]:
        """Everybody a ticket of these groups may end with: who belongs to them, and who stands in for those."""
        asked = frozenset(groups)
        found = self._crowds.get(asked)
        if found is None:
            people = members(self.directory, asked)
            found = frozenset(people | {step for one in people for step in delegates(self.directory, one)})
            if len(self._crowds) >= CROWDS:
                self._crowds.clear()
            self._crowds[asked] = found
        return found

    def agent(self, name: str, load: Load) -> Agent:
        """The person with a load; somebody the directory does not know is not active."""
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = self._read(name)
        skills, capacity, presence, active, shift, leave = known
        return Agent(
            name, skills, capacity, load.load, load.open_count, 0, load.last_assigned, presence, active, shift, leave
        )

    def _read(self, name: str) -> tuple[Any, ...]:
        person = self.directory.people.get(name)
        if person is None:
            return {}, None, "available", False, None, ()
        return (
            person.skills,
            None if person.capacity >= 1e9 else round(person.capacity * 100),
            person.presence,
            person.active and person.assignable,
            person.calendar,
            tuple(Absence(one.from_at, one.to_at, one.delegate) for one in person.leave),
        )


_latest: Staff | None = None


def staff(directory: Directory) -> Staff:
    """The staff of a directory; of the one asked about last it is kept."""
    global _latest
    found = _latest
    if found is None or found.directory is not directory:
        found = _latest = Staff(directory)
    return found


def members(directory: Directory, groups: Iterable[str]) -> set[str]:
    """Everybody who belongs to the groups, also who is not active: explanations name them."""
    found: set[str] = set()
    for name in groups:
        known = directory.groups.get(name)
        found.update(one.id for one in directory.members(name))
        found.update(known.members if known is not None else ())
    return found


def delegates(directory: Directory, agent: str) -> set[str]:
    """Everybody a ticket for this person may end with."""
    found: set[str] = set()
    todo = [agent]
    while todo:
        person = directory.people.get(todo.pop())
        for leave in person.leave if person is not None else ():
            if leave.delegate is not None and leave.delegate not in found:
                found.add(leave.delegate)
                todo.append(leave.delegate)
    return found
