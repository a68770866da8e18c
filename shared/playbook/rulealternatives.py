"""Conditions that hold in one of several ways (`any`): which of them the values of a ticket leave standing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from shared.playbook.facts import Facts
from shared.playbook.predicates import AnyOf, Condition, OneOf, Range
from shared.playbook.ruletables import Members, RangeTable, fits, value_table

Anchor = OneOf | Range
"""A comparison without which one of the ways cannot hold."""
_RANGE_SHARE = 0.5


class Alternatives:
    """One `any` a condition, as far as each of its members asks for a value or a numeric range.

    A member that is an `all` stands with the comparison that the fewest tickets meet. What is left may hold, so tests follow; it is
    never too few.
    """

    __slots__ = ("_base", "_lists", "_ranges", "_scalars")

    def __init__(self, anys: Iterable[tuple[int, AnyOf]], size: int) -> None:
        given = list(anys)
        known: dict[str, set[object]] = defaultdict(set)
        for _, one in given:
            for part in one.walk():
                if isinstance(part, OneOf):
                    known[part.field] |= part.values
        values: dict[tuple[str, bool], Members] = defaultdict(list)
        ranges: dict[str, Members] = defaultdict(list)
        asked: dict[int, None] = {}
        for position, one in given:
            anchors = None if position in asked else _anchors(one, known)
            for anchor in anchors or ():
                asked[position] = None
                if isinstance(anchor, OneOf):
                    values[anchor.field, anchor.many].append((position, anchor))
                else:
                    ranges[anchor.field].append((position, anchor))
        self._base = (1 << size) - 1
        for position in asked:
            self._base ^= 1 << position
        self._scalars: list[tuple[str, dict[object, int]]] = []
        self._lists: list[tuple[str, dict[object, int]]] = []
        for (field, many), members in values.items():
            if fits(members, size):
                (self._lists if many else self._scalars).append((field, value_table(members, 0)[0]))
            else:
                for position, _ in members:
                    self._base |= 1 << position
        self._ranges = [RangeTable(field, members, [], 0) for field, members in ranges.items()]

    def __bool__(self) -> bool:
        return bool(self._scalars or self._lists or self._ranges)

    def accepting(self, facts: Facts) -> int:
        """Return the conditions of which one way may hold, and those that are not looked at here."""
        bits, get = self._base, facts.get
        for field, table in self._scalars:
            value = get(field)
            if isinstance(value, (str, int, float)):
                bits |= table.get(value, 0)
        for field, table in self._lists:
            for value in get(field) or ():
                bits |= table.get(value, 0)
        for ranges in self._ranges:
            bits |= ranges.accepting(get(ranges.field))
        return bits


def _anchors(condition: Condition, known: dict[str, set[object]]) -> Sequence[Anchor] | None:
    """Comparisons of which one must hold for the condition to hold; None where none are needed that a table could answer."""
    if isinstance(condition, OneOf) or (isinstance(condition, Range) and condition.is_numeric):
        return [condition]
    if isinstance(condition, AnyOf):
        found = [_anchors(member, known) for member in condition.members]
        return None if None in found else [anchor for some in found for anchor in some or ()]
    needed = [some for part in condition.conjuncts() if part is not condition and (some := _anchors(part, known))]
    return min(needed, key=lambda some: sum(_share(anchor, known) for anchor in some), default=None)


def _share(anchor: Anchor, known: dict[str, set[object]]) -> float:
    """What part of all tickets may meet it, at a guess."""
    return len(anchor.values) / len(known[anchor.field]) if isinstance(anchor, OneOf) else _RANGE_SHARE
