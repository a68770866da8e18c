"""Which of many conditions hold: one bitmap of conditions per value of a field.

Every condition is a conjunction. Its comparisons are spread over tables:

- equality and membership, and their negation: value → bitmap of the conditions that accept it (exact);
- words and patterns of one text: one RE2 set finds all of them in one pass over the text (exact), also those that stand inside
  an `any` or a `not`;
- numeric ranges, and their negation: at most 64 segments → bitmap of the conditions that may accept it (never too few, so tests
  follow);
- an `any`: the same tables for what its members ask, put together (never too few, see `rulealternatives`);
- whatever else a condition says stays a closure, asked only where the bitmaps leave the condition standing.

The conjunction of the bitmaps is the answer, so time grows with the conditions that could hold and not with all of
them: at 10,000 conditions one AND of two bitmaps takes about 0.2 µs. Bitmaps are Python ints; bit i is condition i.
Measured against a linear scan by `bench/rules.py`.

What is left to closures is bounded: a look that would cost more than its ticket may still spend (`rulecost`) is not begun, and the
dearest of its conditions are to blame, as many as bring it below. A condition that is to blame three times is left out from then
on, and one whose pattern alone took the whole budget is at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from shared.playbook.facts import Facts
from shared.playbook.onepass import is_dear
from shared.playbook.predicates import (
    AnyOf,
    Ask,
    Comparison,
    Condition,
    Contains,
    Matches,
    Not,
    OneOf,
    Range,
    Test,
    conjunction,
)  # fmt: skip
from shared.playbook.rulealternatives import Alternatives
from shared.playbook.rulecost import LOOK, PART, Burnt, Prices, Purse, TooCostly, alone, leaves, positions, timed
from shared.playbook.ruletables import Members, RangeTable, Table, TextTable, distinct, fits, refusal_table, value_table

_FEW = 12
_SHORT = 2_048  # so few candidates, that seek so little in so short texts, are tested sooner than looked up
_WORD, _PART = 64, 16  # four words, eight comparisons
OTHER = "text and combined conditions"
ALTERNATIVES = "alternatives"
STRIKES = 3
"""So often may a condition be to blame for a look that was not begun; then it is asked no more."""


@dataclass(frozen=True, slots=True)
class _Way:
    """How conditions are asked one by one: their tests, what these cost, and what they cost a KiB of text besides.

    `sure`: the bitmap of those that need no test.
    """

    tests: Sequence[Test | None]
    sure: int
    parts: Prices
    texts: Prices


class RuleIndex:
    """An index over `conditions`, in order. Safe to share between threads; nothing changes but what is left out."""

    __slots__ = (
        "_all", "_allowed", "_alternatives", "_by_pass", "_dear", "_lists", "_ranges", "_scalars", "_scanned",
        "_strikes", "_texts", "quarantined", "size",
    )  # fmt: skip

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self.size = len(conditions)
        self._all = self._allowed = (1 << self.size) - 1
        self._strikes: dict[int, int] = {}
        self.quarantined: tuple[int, ...] = ()
        """Positions that are asked no more."""
        split = _Split(conditions)
        self._scalars: list[Table] = []
        self._lists: list[Table] = []
        for (field, many), members in sorted(split.values.items(), key=lambda item: -distinct(item[1])):
            if not fits(members, self.size):
                split.leave_to_tests(members)
                continue
            table, base = value_table(members, self._all)
            (self._lists if many else self._scalars).append((field, table, base))
        for field, members in split.refusals.items():
            if not fits(members, self.size):
                split.leave_to_tests([(position, Not(part)) for position, part in members])
                continue
            self._scalars.append((field, *refusal_table(members, self._all)))
        self._ranges = [
            RangeTable(field, split.ranges.get(field, []), split.outside.get(field, []), self._all)
            for field in {**split.ranges, **split.outside}
        ]
        self._alternatives = Alternatives(split.anys, self.size)
        inside = split.inside()
        tables = {
            place: TextTable(*place, split.texts.get(place, []), inside.get(place, []), self._all)
            for place in {**split.texts, **inside}
        }
        self._texts = list(tables.values())

        def found(part: Comparison) -> Test:
            return tables[type(part), part.field].test(part) if _in_pass(part) else _alone(part)

        # Ranges only narrow, so they are tested again; words and patterns are exact and need no second test.
        self._by_pass = split.way([split.others, split.range_tests], found, by_pass=True)
        self._scanned = split.way([split.others, split.range_tests, split.text_tests], _alone, by_pass=False)
        self._dear = self._scanned.parts.above(_PART) | self._scanned.texts.above(_WORD)

    def candidates(self, facts: Facts) -> int:
        """Return the bitmap of conditions that equality, membership and ranges leave standing (never too few)."""
        bits = self._allowed
        get = facts.get
        try:
            for name, table, base in self._scalars:
                bits &= table.get(get(name), base)
        except TypeError:  # a fact that should be a scalar is a list: equal to nothing
            for name, table, base in self._scalars:
                value = get(name)
                bits &= table.get(value, base) if isinstance(value, str | int | float) else base
        for name, table, base in self._lists:
            accepted = base
            for value in get(name) or ():
                accepted |= table.get(value, 0)
            bits &= accepted
        for ranges in self._ranges:
            bits &= ranges.accepting(get(ranges.field))
        return bits & self._alternatives.accepting(facts) if self._alternatives else bits

    def matching(self, facts: Facts, within: int = -1, purse: Purse | None = None) -> Iterator[int]:
        """Yield, in order, the positions of the conditions that hold, of those in the bitmap `within`.

        Raises `TooCostly` where that would cost more than is left in `purse` (default: a full one).
        """
        bits, way = self._standing(facts, within, purse)
        tests, position = way.tests, -1
        try:
            for position in positions(bits):
                test = tests[position]
                if test is None or test(facts):
                    yield position
        except Burnt as error:
            raise self._burnt(position) from error

    def holding(self, facts: Facts, within: int = -1, purse: Purse | None = None) -> int:
        """Return the same as a bitmap."""
        bits, way = self._standing(facts, within, purse)
        found, tests, position = bits & way.sure, way.tests, -1
        try:
            for position in positions(bits & ~way.sure):
                test = tests[position]
                if test is None or test(facts):
                    found |= 1 << position
        except Burnt as error:
            raise self._burnt(position) from error
        return found

    def first(self, facts: Facts, within: int = -1, purse: Purse | None = None) -> int:
        """Return the position of the first condition that holds, or -1. Raises `TooCostly` as `matching` does."""
        bits, way = self._standing(facts, within, purse)
        tests, position = way.tests, -1
        try:
            for position in positions(bits) if bits else ():
                test = tests[position]
                if test is None or test(facts):
                    return position
        except Burnt as error:
            raise self._burnt(position) from error
        return -1

    def cleared(self, facts: Facts) -> dict[str, int]:
        """Return how many conditions each indexed field ruled out, in the order in which the fields are looked at.

        What texts and combined comparisons ruled out after that stands under `OTHER`.
        """
        bits = self._all
        counts: dict[str, int] = {}
        for name, accepted in self._steps(facts):
            left = bits & accepted
            if left != bits:
                counts[name] = counts.get(name, 0) + (bits ^ left).bit_count()
                bits = left
            if not bits:
                return counts
        refused = bits.bit_count() - self.holding(facts, bits).bit_count()
        if refused:
            counts[OTHER] = refused
        return counts

    def _steps(self, facts: Facts) -> Iterator[tuple[str, int]]:
        for name, table, base in self._scalars:
            value = facts.get(name)
            yield name, table.get(value, base) if isinstance(value, str | int | float) else base
        for name, table, base in self._lists:
            accepted = base
            for value in facts.get(name) or ():
                accepted |= table.get(value, 0)
            yield name, accepted
        for ranges in self._ranges:
            yield ranges.field, ranges.accepting(facts.get(ranges.field))
        yield ALTERNATIVES, self._alternatives.accepting(facts)

    def _standing(self, facts: Facts, within: int, purse: Purse | None) -> tuple[int, _Way]:
        """The conditions that are to be asked one by one, and how; paid for."""
        bits = self.candidates(facts) & within
        way = self._scanned
        if not bits:
            return 0, way
        if bits.bit_count() <= _FEW and not bits & self._dear and self._short(facts):
            if purse is None or purse.is_trifle():
                return bits, way
        elif self._texts:
            bits, way = self._narrowed(bits, facts)
        self._pay(bits, way, facts, purse or Purse())
        return bits, way

    def _short(self, facts: Facts) -> bool:
        for texts in self._texts:
            text = facts.get(texts.field)
            if isinstance(text, str) and len(text) > _SHORT:
                return False
        return True

    def _narrowed(self, bits: int, facts: Facts) -> tuple[int, _Way]:
        """Take out what does not find its words; where RE2 gave up, all are asked by themselves."""
        way = self._by_pass
        for texts in self._texts:
            if bits & texts.users:
                found = texts.look(facts.get(texts.field))
                if found is None:
                    way = self._scanned
                else:
                    bits &= found[0]
        return bits, way

    def _pay(self, bits: int, way: _Way, facts: Facts, purse: Purse) -> None:
        price, per_kib, kibs = LOOK + way.parts.of(bits), way.texts.of(bits), 0
        if per_kib:
            kibs = 1 + max((len(value) for value in facts.values() if isinstance(value, str)), default=0) // 1_024
            price += per_kib * kibs
        over = price - purse.left
        if over <= 0:
            purse.left -= price
            return
        blamed = way.texts.dearest(bits, -(-over // kibs)) if kibs else 0
        over -= way.texts.of(blamed) * kibs
        blamed |= way.parts.dearest(bits & ~blamed, over)
        self._blame(blamed, 1)
        first = blamed or bits
        raise TooCostly((first & -first).bit_length() - 1)

    def _burnt(self, position: int) -> TooCostly:
        self._blame(1 << position, STRIKES)
        return TooCostly(position)

    def _blame(self, bits: int, strikes: int) -> None:
        for position in positions(bits):
            count = self._strikes[position] = self._strikes.get(position, 0) + strikes
            if count >= STRIKES:
                self._allowed &= ~(1 << position)
        self.quarantined = tuple(positions(self._all & ~self._allowed))


class _Split:
    """The comparisons of all conditions, sorted by the table that will hold them."""

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self.size = len(conditions)
        self.values: dict[tuple[str, bool], Members] = defaultdict(list)
        self.refusals: dict[str, Members] = defaultdict(list)
        self.ranges: dict[str, Members] = defaultdict(list)
        self.outside: dict[str, Members] = defaultdict(list)
        self.texts: dict[tuple[type[Comparison], str], Members] = defaultdict(list)
        self.anys: list[tuple[int, AnyOf]] = []
        self.others: dict[int, list[Condition]] = defaultdict(list)
        self.range_tests: dict[int, list[Condition]] = defaultdict(list)
        self.text_tests: dict[int, list[Condition]] = defaultdict(list)
        for position, condition in enumerate(conditions):
            self._add(position, condition)

    def _add(self, position: int, condition: Condition) -> None:
        seen: set[object] = set()  # one comparison a table and condition: further ones would widen instead of narrow
        for part in condition.conjuncts():
            if isinstance(part, OneOf) and (part.field, part.many) not in seen:
                seen.add((part.field, part.many))
                self.values[part.field, part.many].append((position, part))
            elif isinstance(part, Contains | Matches) and _in_pass(part) and (type(part), part.field) not in seen:
                seen.add((type(part), part.field))
                self.texts[type(part), part.field].append((position, part))
                self.text_tests[position].append(part)
            elif isinstance(part, Not) and isinstance(part.member, OneOf) and not part.member.many:
                self.refusals[part.member.field].append((position, part.member))
            elif isinstance(part, Not) and _is_numeric(part.member):
                self.outside[part.member.field].append((position, part.member))
                self.range_tests[position].append(part)
            elif _is_numeric(part):
                if part.field not in seen:
                    seen.add(part.field)
                    self.ranges[part.field].append((position, part))
                self.range_tests[position].append(part)
            else:
                if isinstance(part, AnyOf):
                    self.anys.append((position, part))
                self.others[position].append(part)

    def leave_to_tests(self, members: Members) -> None:
        for position, part in members:
            self.others[position].append(part)

    def inside(self) -> dict[tuple[type[Comparison], str], Members]:
        """Words and patterns that stand inside combinations, by the table that finds them."""
        found: dict[tuple[type[Comparison], str], Members] = defaultdict(list)
        for position, parts in self.others.items():
            for one in leaves(parts):
                if _in_pass(one):
                    found[type(one), one.field].append((position, one))
        return found

    def way(self, sources: Sequence[dict[int, list[Condition]]], ask: Ask, *, by_pass: bool) -> _Way:
        """One closure a condition over what `sources` hold of it (`None` where nothing is left to ask), and the prices."""
        compiled: dict[Condition, Test] = {}
        tests: list[Test | None] = []
        prices, per_kib = list[int](), list[int]()
        for position in range(self.size):
            parts = [part for source in sources for part in source.get(position, ())]
            parts.sort(key=_cost)
            tests.append(conjunction([_shared(part, compiled, ask) for part in parts]) if parts else None)
            asked = leaves(parts)
            prices.append(len(asked) * PART)
            per_kib.append(sum([alone(one) for one in asked if not (by_pass and _in_pass(one))]))
        sure = sum(1 << position for position, test in enumerate(tests) if test is None)
        return _Way(tests, sure, Prices(prices), Prices(per_kib))


def _is_numeric(part: Condition) -> TypeGuard[Range]:
    return isinstance(part, Range) and part.is_numeric


def _in_pass(part: Comparison) -> bool:
    return isinstance(part, Contains) or (isinstance(part, Matches) and not is_dear(part.pattern))


def _alone(part: Comparison) -> Test:
    return timed(part.compile()) if isinstance(part, Matches) else part.compile()


def _shared(part: Condition, compiled: dict[Condition, Test], ask: Ask) -> Test:
    test = compiled.get(part)
    if test is None:
        test = compiled[part] = part.compile_with(ask)
    return test


def _cost(part: Condition) -> int:
    """Cheap comparisons first."""
    if isinstance(part, Not):
        return _cost(part.member)
    return 2 if isinstance(part, Matches) else 1 if isinstance(part, Contains) or part.parts() else 0
