"""What a chain needs to know about people and calendars, as a small protocol, and the protocol over the real directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from shared.calendar.business import ALWAYS_OPEN, BusinessCalendar
from shared.directory.people import Directory
from shared.oncall.schedule import Schedule


class View(Protocol):
    """People and calendars at one instant; unknown names answer None or nothing and never raise."""

    def is_active(self, person: str) -> bool: ...

    def manager_of(self, person: str) -> str | None: ...

    def members_of(self, group: str) -> Sequence[str]: ...

    def holders_of(self, role: str) -> Sequence[str]: ...

    def delegate_of(self, person: str, at: datetime) -> str | None:
        """The person themselves when present, whoever stands in when away, None when nobody does."""

    def on_call(self, schedule: str, at: datetime) -> Sequence[str]:
        """People on call, overrides and swaps applied, in a stable order."""

    def hours(self, calendar: str | None) -> BusinessCalendar:
        """The calendar of that name; around the clock for None and for unknown names."""


@dataclass(frozen=True, slots=True)
class DirectoryView:
    """The view over a directory snapshot and the schedules and calendars of one playbook version."""

    directory: Directory
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    calendars: Mapping[str, BusinessCalendar] = field(default_factory=dict)

    def is_active(self, person: str) -> bool:
        known = self.directory.person(person)
        return known is not None and known.active

    def manager_of(self, person: str) -> str | None:
        known = self.directory.person(person)
        return None if known is None else known.manager

    def members_of(self, group: str) -> Sequence[str]:
        return tuple(person.id for person in self.directory.members(group))

    def holders_of(self, role: str) -> Sequence[str]:
        return self.directory.role(role)

    def delegate_of(self, person: str, at: datetime) -> str | None:
        return self.directory.delegate(person, at)

    def on_call(self, schedule: str, at: datetime) -> Sequence[str]:
        known = self.schedules.get(schedule)
        return () if known is None else sorted(known.users_at(at))

    def hours(self, calendar: str | None) -> BusinessCalendar:
        return ALWAYS_OPEN if calendar is None else self.calendars.get(calendar, ALWAYS_OPEN)
