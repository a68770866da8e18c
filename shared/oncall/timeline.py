"""The one sweep: items that cover spans of time in, who is on call between any two edges out.

Everything a schedule says becomes an `Item`: from `start` to `end` (half-open) a `Meaning` holds. Between two neighbouring edges
the set of active items is constant, so the set of people is too; `resolve` says which.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from itertools import pairwise
from typing import TypeAlias

OVERRIDE_LEVEL = 1 << 31
"""The level of override shifts: above every priority a playbook can write."""


class Role(IntEnum):
    """What an item does; in the order in which `resolve` applies them."""

    ON = 0  # `user` is on call at `level`
    REMOVE = 1  # `other` is taken off
    REPLACE = 2  # `user` is on call where `other` would be
    ADD = 3  # `user` is on call too
    SWAP = 4  # `user` stands in for `other`, whatever put `other` on call
    TEMPORARY = 5  # a temporary schedule covers this span: only FIXED items count
    FIXED = 6  # `user` is on call by the temporary schedule


@dataclass(frozen=True, slots=True)
class Item:
    start: datetime
    end: datetime
    role: Role
    user: str = ""
    other: str = ""
    level: int = 0
    order: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Stretch:
    """`user` is on call from `start` to `end` without a break (aware UTC, half-open)."""

    start: datetime
    end: datetime
    user: str


Span: TypeAlias = tuple[datetime, datetime]


def resolve(active: Iterable[Item]) -> frozenset[str]:
    """Who is on call while exactly these items hold.

    `remove` and replace look at the people on call by rules and shifts alone, all at once, so that two overrides cannot chase
    each other's people; `add` comes after them. Source: tests/vectors/README.md, kind `oncall`.
    """
    roles: dict[Role, list[Item]] = {}
    for item in active:
        roles.setdefault(item.role, []).append(item)
    if Role.TEMPORARY in roles:
        return frozenset(item.user for item in roles.get(Role.FIXED, ()))
    on = roles.get(Role.ON, [])
    top = max((item.level for item in on), default=0)
    base = {item.user for item in on if item.level == top}
    replacing = [item for item in roles.get(Role.REPLACE, ()) if item.other in base]
    people = base - {item.other for item in roles.get(Role.REMOVE, ())} - {item.other for item in replacing}
    people |= {item.user for item in replacing} | {item.user for item in roles.get(Role.ADD, ())}
    for swap in sorted(roles.get(Role.SWAP, ()), key=lambda item: item.order):
        if swap.other in people:
            people = (people - {swap.other}) | {swap.user}
    return frozenset(people)


def segments(
    items: Iterable[Item], start: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime, frozenset[str]]]:
    """Cut `[start, end)` at every edge and say who is on call in each piece, in order; pieces join to the whole window."""
    edges: dict[datetime, tuple[list[Item], list[Item]]] = {start: ([], []), end: ([], [])}
    for item in items:
        opens, closes = max(item.start, start), min(item.end, end)
        if opens < closes:
            edges.setdefault(opens, ([], []))[0].append(item)
            edges.setdefault(closes, ([], []))[1].append(item)
    active: dict[int, Item] = {}
    ordered = sorted(edges)
    for here, following in pairwise(ordered):
        opening, closing = edges[here]
        for item in closing:
            active.pop(id(item), None)
        for item in opening:
            active[id(item)] = item
        yield here, following, resolve(active.values())


def stretches(items: Iterable[Item], start: datetime, end: datetime) -> list[Stretch]:
    """Every person's unbroken times on call inside the window, ordered by start, end, user."""
    found: list[Stretch] = []
    since: dict[str, datetime] = {}
    for opens, _, people in segments(items, start, end):
        for user in [user for user in since if user not in people]:
            found.append(Stretch(since.pop(user), opens, user))
        for user in people:
            since.setdefault(user, opens)
    found.extend(Stretch(opened, end, user) for user, opened in since.items())
    return sorted(found)


def gaps(items: Iterable[Item], start: datetime, end: datetime) -> list[Span]:
    """The parts of the window in which nobody is on call, joined, in order."""
    found: list[Span] = []
    for opens, closes, people in segments(items, start, end):
        if people:
            continue
        if found and found[-1][1] == opens:
            found[-1] = (found[-1][0], closes)
        else:
            found.append((opens, closes))
    return found
