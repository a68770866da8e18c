"""The directory's types and look-ups, pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

ROLE = "role:"
"""A group named `role:NAME` is everybody who holds the role."""
MAX_CHAIN = 20
"""Longest manager or delegate chain followed; a longer one is a loop or a mistake."""


class Leave(msgspec.Struct, frozen=True, omit_defaults=True):
    """An absence, [from_at, to_at); the delegate takes what comes meanwhile."""

    from_at: datetime
    to_at: datetime
    delegate: str | None = None
    reason: str = ""


class Person(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person as routing, escalation and notification see them.

    `overridden` names the members that people have set by hand: they outlive `apply` until the playbook's own value changes.
    """

    id: str
    name: str = ""
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ("agent",)
    manager: str | None = None
    contacts: dict[str, str] = {}
    skills: dict[str, int] = {}
    capacity: float = 8.0
    presence: str = "available"
    leave: tuple[Leave, ...] = ()
    calendar: str | None = None
    locale: str | None = None
    zone: str | None = None
    quiet_hours: str | None = None
    preferences: dict[str, dict[str, str]] = {}
    """Topic (a message rule, an event type or `*`) -> channel (or `*`) -> `on` or `off`."""
    active: bool = True
    assignable: bool = True
    number: int = 0
    """Item id in the ledger."""
    overridden: dict[str, Any] = {}
    """Member -> the playbook's value at the time it was overridden."""

    @property
    def desks(self) -> tuple[str, ...]:
        """Every queue this person may be given work from: their groups and their roles."""
        return (*self.groups, *(ROLE + one for one in self.roles))

    def on_leave(self, at: datetime) -> Leave | None:
        """The absence that covers `at`, if any."""
        return next((one for one in self.leave if one.from_at <= at < one.to_at), None)


class Group(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A queue and the people who work it."""

    id: str
    name: str = ""
    lead: str | None = None
    members: tuple[str, ...] = ()
    interface: str | None = None
    overflow: str | None = None
    preferences: dict[str, dict[str, str]] = {}
    """Of the team: what holds for its people where they say nothing themselves."""
    active: bool = True
    number: int = 0


@dataclass(frozen=True, slots=True)
class Directory:
    """An immutable snapshot. Unknown names answer None or nothing; they never raise."""

    people: Mapping[str, Person] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    version: int = 0

    def person(self, person_id: str | None) -> Person | None:
        return None if person_id is None else self.people.get(person_id)

    def members(self, group_id: str | None) -> tuple[Person, ...]:
        """Active members of a group in the group's own order; of `role:NAME`, everybody who holds that role."""
        if group_id is not None and group_id.startswith(ROLE):
            held = self.role(group_id.removeprefix(ROLE))
            return tuple(self.people[one] for one in held)
        group = self.groups.get(group_id or "")
        if group is None:
            return ()
        found = (self.people.get(one) for one in group.members)
        return tuple(one for one in found if one is not None and one.active)

    def available(self, person_id: str, at: datetime) -> bool:
        """Whether work may be given to a person at `at`: active, there, not on leave."""
        person = self.people.get(person_id)
        return (
            person is not None
            and person.active
            and person.assignable
            and person.presence == "available"
            and person.on_leave(at) is None
        )

    def home(self, person_id: str) -> str | None:
        """The group an active person works in first; None for nobody."""
        person = self.people.get(person_id)
        return None if person is None or not person.active or not person.groups else person.groups[0]

    def lead(self, group_id: str | None) -> str | None:
        group = self.groups.get(group_id or "")
        return None if group is None else group.lead

    def manager(self, person_id: str | None, level: int = 1) -> str | None:
        """The manager `level` steps up; None where the chain ends, is broken or runs in a circle."""
        seen = {person_id}
        for _ in range(level):
            person = self.person(person_id)
            person_id = None if person is None else person.manager
            if person_id is None or person_id in seen or person_id not in self.people:
                return None
            seen.add(person_id)
        return person_id

    def delegate(self, person_id: str, at: datetime) -> str | None:
        """Whoever stands in for a person at `at`: themselves when present, the end of the delegate chain when on leave.

        None when the chain ends at somebody on leave without a delegate, or runs in a circle.
        """
        seen: set[str] = set()
        while len(seen) < MAX_CHAIN:
            person = self.people.get(person_id)
            if person is None or not person.active or person_id in seen:
                return None
            away = person.on_leave(at)
            if away is None:
                return person_id
            seen.add(person_id)
            if away.delegate is None:
                return None
            person_id = away.delegate
        return None

    def role(self, role: str) -> tuple[str, ...]:
        """Ids of active people who hold a role."""
        return tuple(one.id for one in self.people.values() if one.active and role in one.roles)


def snapshot(people: Iterable[Person], groups: Iterable[Group], version: int = 0) -> Directory:
    """A directory of these people and groups. A group without a member list has the people who name it."""
    known = {one.id: one for one in people}
    filled: dict[str, Group] = {}
    for group in groups:
        named = tuple(one.id for one in known.values() if group.id in one.groups and one.id not in group.members)
        filled[group.id] = msgspec.structs.replace(group, members=group.members + named)
    return Directory(known, filled, version)
