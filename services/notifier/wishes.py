"""What recipients wish: preferences and quiet hours. Pure.

A preference says `on` or `off` for a topic (a message rule, an event type like `sla.warned`, or `*`) on a channel (or `*`). The
nearest word counts: forced by the rule, then the person's, then their team's, then the rule's own plan. Within one owner the
more exact entry goes first: rule before event type before `*`, channel before `*`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from shared.directory.people import Directory, Person
from shared.playbook.messages import Rule

Preferences = Mapping[str, Mapping[str, str]]
"""Topic -> channel -> `on` or `off`."""


@dataclass(frozen=True, slots=True)
class Wish:
    """`off`: why a message is not wanted; `hold_until`: quiet hours, and until when; both None: it may go."""

    off: str | None = None
    hold_until: datetime | None = None
    reason: str | None = None


GO = Wish()


def wish(rule: Rule, event_type: str, channel: str, person: Person | None, directory: Directory, now: datetime) -> Wish:
    """What the recipient wishes about a message that would go now. Nobody of the directory wishes nothing."""
    if person is None:
        return GO
    off = None if rule.forced else _off(rule, event_type, channel, person, directory)
    if off is not None:
        return Wish(off=off)
    if channel == "inbox" or rule.quiet == "pass" or not person.quiet_hours:
        return GO
    until = quiet_until(person.quiet_hours, person.zone or "UTC", now)
    if until is None:
        return GO
    local = until.astimezone(_zone(person.zone or "UTC"))
    told = f"quiet hours of {person.id} until {local:%H:%M} ({person.zone or 'UTC'})"
    if rule.quiet == "downgrade":
        return Wish(off=f"{told}: the inbox only")
    return Wish(hold_until=until, reason=f"held: {told}")


def _off(rule: Rule, event_type: str, channel: str, person: Person, directory: Directory) -> str | None:
    said = choice(person.preferences, rule.name, event_type, channel) if person.preferences else None
    if said is not None:
        return f"turned off by {person.id} ({said[1]})" if said[0] == "off" else None
    for name in person.groups:
        group = directory.groups.get(name)
        if group is None or not group.preferences:
            continue
        said = choice(group.preferences, rule.name, event_type, channel)
        if said is not None:
            return f"turned off by the team {name} ({said[1]})" if said[0] == "off" else None
    return None


def choice(preferences: Preferences, rule: str, event_type: str, channel: str) -> tuple[str, str] | None:
    """(`on` or `off`, the entry that says so), or None when nothing is said."""
    for topic in (rule, event_type, "*") if preferences else ():
        entries = preferences.get(topic, {})
        for place in (channel, "*"):
            if place in entries:
                return entries[place], f"{topic} on {place}"
    return None


def quiet_until(hours: str, zone: str, now: datetime) -> datetime | None:
    """When the quiet hours end that `now` lies in, as UTC; None outside of them. `22:00-07:00` in the person's zone.

    The beginning belongs to them, the end does not. Where the clock jumps over an end, the jump ends them.
    """
    start, end = parse_hours(hours)
    local = now.astimezone(_zone(zone))
    at = local.time().replace(tzinfo=None)
    inside = start <= at < end if start < end else at >= start or at < end
    if not inside:
        return None
    day = local.date() + timedelta(days=1) if start >= end and at >= start else local.date()
    return datetime.combine(day, end, _zone(zone)).astimezone(UTC)


@lru_cache(maxsize=1024)
def parse_hours(text: str) -> tuple[time, time]:
    """`22:00-07:00` as two times of day; raises `ValueError`."""
    first, dash, last = text.partition("-")
    if not dash:
        raise ValueError("quiet hours are written 22:00-07:00")
    start, end = time.fromisoformat(first.strip()), time.fromisoformat(last.strip())
    if start == end:
        raise ValueError("quiet hours begin and end at different times")
    return start, end


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
