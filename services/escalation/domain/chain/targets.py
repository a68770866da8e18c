"""Targets of a step to people: schedule (with its overrides) → person → delegate; duplicates and the overdue owner left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from services.escalation.domain.chain.view import View
from shared.playbook.escalation import Target

MAX_MANAGERS = 20
"""Longest line of managers followed; a longer one is a mistake."""

IS_OWNER = "is the overdue owner"
NOBODY_STANDS_IN = "away, and nobody stands in"


class Told(msgspec.Struct, frozen=True):
    """A person who is told, and for whom they stand in (themselves, unless that person is away)."""

    person: str
    meant: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """The people of a step: who is to act, who gets a copy, and why others are not told (target or person → reason)."""

    targets: tuple[Told, ...]
    copies: tuple[Told, ...]
    skipped: dict[str, str]


def resolve(targets: Iterable[Target], owner: str | None, avoid: frozenset[str], view: View, at: datetime) -> Resolved:
    """Everybody these targets mean at `at`, each person once (to act rather than in copy), nobody of `avoid`.

    `owner` is the overdue owner, whose managers are meant by `manager`; may be None (then there is no manager).
    """
    skipped: dict[str, str] = {}
    acting: dict[str, Told] = {}
    copied: dict[str, Told] = {}
    for target in targets:
        people, why = _named(target, owner, view, at)
        if not people:
            skipped[str(target)] = why
        for person in people:
            told, why = _standing_in(person, avoid, view, at)
            if told is None:
                skipped[person] = why
            else:
                (copied if target.copy else acting).setdefault(told.person, told)
    copies = tuple(told for person, told in copied.items() if person not in acting)
    return Resolved(tuple(acting.values()), copies, skipped)


def _named(target: Target, owner: str | None, view: View, at: datetime) -> tuple[Sequence[str], str]:
    """The people a target names before anybody stands in for them, and why there are none."""
    if target.person is not None:
        return (target.person,), ""
    if target.role is not None:
        return view.holders_of(target.role), "nobody has this role"
    if target.group is not None:
        return view.members_of(target.group), "the group is empty"
    if target.schedule is not None:
        return view.on_call(target.schedule, at), "nobody is on call"
    manager, why = manager_of(owner, target.manager or 1, view)
    return ((manager,) if manager is not None else ()), why


def _standing_in(person: str, avoid: frozenset[str], view: View, at: datetime) -> tuple[Told | None, str]:
    if person in avoid:
        return None, IS_OWNER
    if not view.is_active(person):
        return None, "not an active person"
    present = view.delegate_of(person, at)
    if present is None:
        return None, NOBODY_STANDS_IN
    if present in avoid:
        return None, f"away, and {present} who stands in {IS_OWNER}"
    return Told(present, person), ""


def manager_of(owner: str | None, level: int, view: View) -> tuple[str | None, str]:
    """The manager `level` links above `owner`, or None and why.

    A manager who has left is passed over: theirs takes the level. A line that comes back to somebody already met is a circle.
    """
    if owner is None:
        return None, "the ticket has no owner, so nobody manages them"
    seen, person, reached = {owner}, owner, 0
    while len(seen) <= MAX_MANAGERS:
        above = view.manager_of(person)
        if above is None:
            return None, f"{person} has no manager on record"
        if above in seen:
            return None, f"the managers of {owner} run in a circle at {above}"
        seen.add(above)
        person = above
        reached += view.is_active(above)
        if reached == level:
            return above, ""
    return None, f"more than {MAX_MANAGERS} managers above {owner}"


def fallback(named: str | None, avoid: frozenset[str], view: View, at: datetime) -> str | None:
    """Who gets what nobody took: the named person or whoever stands in, else the first manager above who may.

    Somebody beats nobody here: a fallback who is away without a delegate is still the fallback. None only when the line of
    managers holds nobody but the overdue owner.
    """
    seen: set[str] = set()
    last_resort = named if named is not None and named not in avoid else None
    while named is not None and named not in seen and len(seen) <= MAX_MANAGERS:
        seen.add(named)
        told, _ = _standing_in(named, avoid, view, at)
        if told is not None:
            return told.person
        named = view.manager_of(named)
    return last_resort
