"""Which of many conditions hold: one bitmap of conditions per value of a field.

Every condition is a conjunction. Its comparisons are spread over tables:

- equality and membership: value → bitmap of the conditions that accept it (exact);
- words and patterns of one text: one RE2 set finds all of them in one pass over the text (exact);
- numeric ranges: at most 64 segments → bitmap of the conditions that may accept it (never too few, so tests follow);
- whatever else a condition says stays a closure, asked only where the bitmaps leave the condition standing.

The conjunction of the bitmaps is the answer, so time grows with the conditions that could hold and not with all of
them: at 10,000 conditions one AND of two bitmaps takes about 0.2 µs. Bitmaps are Python ints; bit i is condition i.
Measured against a linear scan by `bench/rules.py`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import re2

from shared.playbook.facts import Facts
from shared.playbook.predicates import (
    Comparison,
    Condition,
    Contains,
    Matches,
    Not,
    OneOf,
    Range,
    Test,
    conjunction,
    fold,
)

_TABLE_BYTES = 64 << 20  # a field whose table would be larger is left to closures
_SEGMENTS = 64
_FEW = 12  # so few candidates are cheaper to test one by one than to look up in the texts
_SET_BYTES = 32 << 20
OTHER = "text and combined conditions"
BUDGET = 50_000
"""Work that one look may spend on texts one by one: words (a pattern counts as 10) times KiB of text, about 1 µs each."""
LONGEST_KIB = 100
"""Of a text that is taken in."""
HEAVY = 2_000
"""An index whose conditions have fewer words and patterns than this cannot come near the budget, and is not counted."""
STRIKES = 3
"""So often may a condition be the costliest of a look that ran out of its budget; then it is asked no more."""
GIVEN_UP = 3
"""So often may one pass over all words of a text outgrow its memory; then it is tried no more."""

Members = list[tuple[int, Any]]
_Table = tuple[str, dict[Any, int], int]


class TooCostly(Exception):
    """A look ran out of its budget; `position` is the costliest condition in it."""

    def __init__(self, position: int) -> None:
        super().__init__(f"{self.__doc__} ({position})")
        self.position = position


class RuleIndex:
    """An index over `conditions`, in order. Safe to share between threads; nothing changes but what is quarantined.

    What bitmaps and one pass over the text leave standing is tested one by one. That is bounded: a look that would spend more
    than `BUDGET` on it raises `TooCostly`, and a condition that is to blame three times is left out from then on.
    """

    __slots__ = (
        "_all", "_allowed", "_costs", "_costs_without_texts", "_heavy", "_lists", "_ranges", "_scalars", "_strikes", "_tests",
        "_tests_without_texts", "_texts", "size",
    )  # fmt: skip

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self.size = len(conditions)
        self._all = self._allowed = (1 << self.size) - 1
        self._strikes: dict[int, int] = {}
        split = _Split(conditions)
        self._costs = [text_units(condition) for condition in conditions]
        self._costs_without_texts = [sum(map(text_units, split.others.get(n, ()))) for n in range(self.size)]
        self._heavy = sum(self._costs) > HEAVY
        self._scalars: list[_Table] = []
        self._lists: list[_Table] = []
        for (field, many), members in sorted(split.values.items(), key=lambda item: -_distinct(item[1])):
            if not _fits(members, self.size):
                split.leave_to_tests(members)
                continue
            table, base = _value_table(members, self._all)
            (self._lists if many else self._scalars).append((field, table, base))
        self._ranges = [_RangeTable(field, members, self._all) for field, members in split.ranges.items()]
        self._texts = [_TextTable(kind, field, members, self._all) for (kind, field), members in split.texts.items()]
        # Ranges only narrow, so they are tested again; words and patterns are exact and need no second test.
        self._tests_without_texts = split.tests([split.others, split.range_tests])
        self._tests = split.tests([split.others, split.range_tests, split.text_tests])

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
        return bits

    def matching(self, facts: Facts, within: int = -1) -> Iterator[int]:
        """Yield, in order, the positions of the conditions that hold, of those in the bitmap `within`."""
        bits = self.candidates(facts) & within
        if not bits:
            return
        tests = self._tests
        if self._texts and bits.bit_count() > _FEW:
            bits, tests = self._narrowed(bits, facts)
        if self._heavy:
            self._afford(bits, tests, facts)
        while bits:
            low = bits & -bits
            position = low.bit_length() - 1
            test = tests[position]
            if test is None or test(facts):
                yield position
            bits ^= low

    def first(self, facts: Facts, within: int = -1) -> int:
        """Return the position of the first condition that holds, or -1."""
        bits = self.candidates(facts) & within
        tests = self._tests
        if self._texts and bits.bit_count() > _FEW:
            bits, tests = self._narrowed(bits, facts)
        if self._heavy:
            self._afford(bits, tests, facts)
        while bits:
            low = bits & -bits
            position = low.bit_length() - 1
            test = tests[position]
            if test is None or test(facts):
                return position
            bits ^= low
        return -1

    @property
    def quarantined(self) -> list[int]:
        """Positions that are asked no more."""
        left = self._all & ~self._allowed
        return [position for position in range(self.size) if left >> position & 1] if left else []

    def _afford(self, bits: int, tests: Sequence[Test | None], facts: Facts) -> None:
        """Count what testing these conditions one by one would cost at worst, before it is spent. Raises `TooCostly`."""
        costs = self._costs if tests is self._tests else self._costs_without_texts
        left, units, worst = bits, 0, -1
        while left:
            low = left & -left
            position = low.bit_length() - 1
            left ^= low
            cost = costs[position]
            if cost and tests[position] is not None:
                units += cost
                worst = position if worst < 0 or cost > costs[worst] else worst
        if units <= BUDGET // LONGEST_KIB:
            return
        kibs = 1 + max((len(value) for value in facts.values() if isinstance(value, str)), default=0) // 1_024
        if units * kibs > BUDGET:
            strikes = self._strikes[worst] = self._strikes.get(worst, 0) + 1
            if strikes >= STRIKES:
                self._allowed &= ~(1 << worst)
            raise TooCostly(worst)

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
        refused = bits.bit_count() - sum(1 for _ in self.matching(facts, bits))
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

    def _narrowed(self, bits: int, facts: Facts) -> tuple[int, list[Test | None]]:
        exact = True
        for texts in self._texts:
            accepted = texts.accepting(facts.get(texts.field))
            if accepted is None:
                exact = False
            else:
                bits &= accepted
        return bits, self._tests_without_texts if exact else self._tests


class _Split:
    """The comparisons of all conditions, sorted by the table that will hold them."""

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self.size = len(conditions)
        self.values: dict[tuple[str, bool], Members] = defaultdict(list)
        self.ranges: dict[str, Members] = defaultdict(list)
        self.texts: dict[tuple[type[Comparison], str], Members] = defaultdict(list)
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
            elif isinstance(part, Contains | Matches) and (type(part), part.field) not in seen:
                seen.add((type(part), part.field))
                self.texts[type(part), part.field].append((position, part))
                self.text_tests[position].append(part)
            elif isinstance(part, Range) and not isinstance(part.low, str) and not isinstance(part.high, str):
                if part.field not in seen:
                    seen.add(part.field)
                    self.ranges[part.field].append((position, part))
                self.range_tests[position].append(part)
            else:
                self.others[position].append(part)

    def leave_to_tests(self, members: Members) -> None:
        for position, part in members:
            self.others[position].append(part)

    def tests(self, sources: Sequence[dict[int, list[Condition]]]) -> list[Test | None]:
        """Return one closure a condition over what `sources` hold of it; `None` where nothing is left to ask."""
        compiled: dict[Condition, Test] = {}
        found: list[Test | None] = []
        for position in range(self.size):
            parts = [part for source in sources for part in source.get(position, ())]
            parts.sort(key=_cost)
            found.append(conjunction([_shared(part, compiled) for part in parts]) if parts else None)
        return found


def text_units(condition: Condition) -> int:
    """How many words are looked for in texts; a pattern counts as ten."""
    return sum(
        len(part.words) if isinstance(part, Contains) else 10
        for part in condition.walk()
        if isinstance(part, Contains | Matches)
    )


def _shared(part: Condition, compiled: dict[Condition, Test]) -> Test:
    test = compiled.get(part)
    if test is None:
        test = compiled[part] = part.compile()
    return test


def _cost(part: Condition) -> int:
    """Cheap comparisons first."""
    if isinstance(part, Not):
        return _cost(part.member)
    return 2 if isinstance(part, Matches) else 1 if isinstance(part, Contains) or part.parts() else 0


def _distinct(members: Members) -> int:
    return len({value for _, part in members for value in part.values})


def _fits(members: Members, size: int) -> bool:
    return _distinct(members) * (size // 8 + 28) <= _TABLE_BYTES


def _value_table(members: Members, everything: int) -> tuple[dict[Any, int], int]:
    """Return (value → conditions that accept it, conditions that do not ask); the former includes the latter."""
    asked = 0
    table: dict[Any, int] = defaultdict(int)
    for position, part in members:
        bit = 1 << position
        asked |= bit
        for value in part.values:
            table[value] |= bit
    base = everything & ~asked
    return {value: bits | base for value, bits in table.items()}, base


class _RangeTable:
    """Segments of a number line; a range is in every segment it touches."""

    __slots__ = ("_base", "_cuts", "_segments", "field")

    def __init__(self, field: str, members: Members, everything: int) -> None:
        self.field = field
        bounds = sorted({bound for _, part in members for bound in (part.low, part.high) if bound is not None})
        step = max(1, -(-len(bounds) // (_SEGMENTS - 1)))
        self._cuts = bounds[::step]
        asked = 0
        self._segments = [0] * (len(self._cuts) + 1)
        for position, part in members:
            asked |= 1 << position
            first = 0 if part.low is None else bisect_left(self._cuts, part.low)
            last = len(self._cuts) if part.high is None else bisect_right(self._cuts, part.high)
            for segment in range(first, last + 1):
                self._segments[segment] |= 1 << position
        self._base = everything & ~asked
        self._segments = [bits | self._base for bits in self._segments]

    def accepting(self, value: Any) -> int:
        """Return the conditions whose range may hold `value`, and those without a range."""
        if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
            return self._base
        return self._segments[bisect_right(self._cuts, value)]


class _TextTable:
    """All words, or all patterns, that are looked for in one text."""

    __slots__ = ("_base", "_bits", "_fold", "_given_up", "_match", "field")

    def __init__(self, kind: type[Comparison], field: str, members: Members, everything: int) -> None:
        self.field = field
        self._fold: Callable[[str], str] | None = fold if kind is Contains else None
        needles: dict[str, int] = defaultdict(int)
        asked = 0
        for position, part in members:
            asked |= 1 << position
            for needle in part.words if kind is Contains else (part.pattern,):
                needles[needle] |= 1 << position
        self._base = everything & ~asked
        self._given_up = 0
        self._bits = list(needles.values())
        self._match = _needle_set(list(needles), literal=kind is Contains)

    def accepting(self, text: Any) -> int | None:
        """Return the conditions that find what they look for, and those that look for nothing; `None` when RE2 gave
        up.
        """
        if not isinstance(text, str):
            return self._base
        if self._given_up >= GIVEN_UP:
            return None
        found = self._match(self._fold(text) if self._fold else text)
        accepted, bits, sentinel = self._base, self._bits, len(self._bits)
        complete = False
        for needle in found:
            if needle == sentinel:
                complete = True
            else:
                accepted |= bits[needle]
        if not complete:
            self._given_up += 1
            return None
        return accepted


def _needle_set(needles: Sequence[str], *, literal: bool) -> Callable[[str], list[int]]:
    """Compile one RE2 set; its last member fits every text.

    RE2 answers "nothing found" when its automaton outgrows its memory. The last member tells that apart: an answer
    without it is no answer.
    """
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _SET_BYTES
    found = re2.Set.SearchSet(options)
    for needle in needles:
        found.Add(re2.escape(needle) if literal else needle)
    found.Add("")
    try:
        found.Compile()
    except re2.error:  # larger than its memory
        return lambda text: []
    match: Callable[[str], list[int]] = found.Match
    return match
