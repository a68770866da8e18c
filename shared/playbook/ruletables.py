"""The tables of a rule index: for each value of a field, or each word that a text has, the bitmap of conditions that accept it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from time import thread_time
from typing import Any

from shared.playbook.facts import Facts
from shared.playbook.onepass import PATTERN_US, one_pass
from shared.playbook.predicates import Comparison, Contains, Matches, Test, fold
from shared.playbook.rulecost import BUDGET_SECONDS

_TABLE_BYTES = 64 << 20  # a field whose table would be larger is left to closures
_SEGMENTS = 64
GIVEN_UP = 3
"""So often may one pass over all words of a text outgrow its memory; then it is tried no more."""

Members = list[tuple[int, Any]]
Table = tuple[str, dict[Any, int], int]
Found = tuple[int, frozenset[int]]
"""The conditions that find what they must, and those that look for nothing; and all that was found, by number."""


def distinct(members: Members) -> int:
    return len({value for _, part in members for value in part.values})


def fits(members: Members, size: int) -> bool:
    return distinct(members) * (size // 8 + 28) <= _TABLE_BYTES


def value_table(members: Members, everything: int) -> tuple[dict[Any, int], int]:
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


def refusal_table(members: Members, everything: int) -> tuple[dict[Any, int], int]:
    """The same for conditions that hold unless the field has one of the values."""
    refused: dict[Any, int] = defaultdict(int)
    for position, part in members:
        for value in part.values:
            refused[value] |= 1 << position
    return {value: everything & ~bits for value, bits in refused.items()}, everything


class RangeTable:
    """Segments of a number line; a range is in every segment it touches, and outside every segment that it does not fill."""

    __slots__ = ("_base", "_cuts", "_segments", "field")

    def __init__(self, field: str, within: Members, outside: Members, everything: int) -> None:
        self.field = field
        both = [part for _, part in (*within, *outside)]
        bounds = sorted({bound for part in both for bound in (part.low, part.high) if bound is not None})
        step = max(1, -(-len(bounds) // (_SEGMENTS - 1)))
        self._cuts = cuts = bounds[::step]
        asked = 0
        accepted, refused = [0] * (len(cuts) + 1), [0] * (len(cuts) + 1)
        for position, part in within:
            asked |= 1 << position
            first = 0 if part.low is None else bisect_left(cuts, part.low)
            last = len(cuts) if part.high is None else bisect_right(cuts, part.high)
            for segment in range(first, last + 1):
                accepted[segment] |= 1 << position
        for position, part in outside:
            cut = bisect_right if part.low_open else bisect_left
            first = 0 if part.low is None else cut(cuts, part.low) + 1
            end = len(cuts) + 1 if part.high is None else bisect_right(cuts, part.high)
            for segment in range(first, end):
                refused[segment] |= 1 << position
        self._base = everything & ~asked
        self._segments = [(bits | self._base) & ~out for bits, out in zip(accepted, refused, strict=True)]

    def accepting(self, value: Any) -> int:
        """Return the conditions whose range may hold `value`, those that may want it outside, and those without a range."""
        if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
            return self._base
        return self._segments[bisect_right(self._cuts, value)]


class TextTable:
    """All words, or all patterns, that are looked for in one text: found in one pass, which is kept until another text comes."""

    __slots__ = ("_base", "_bits", "_last", "_left", "_match", "_nothing", "_numbers", "_words", "field", "users")

    def __init__(self, kind: type[Comparison], field: str, must: Members, may: Members, everything: int) -> None:
        """`must`: what conditions must find to hold; `may`: what stands inside their `any` and `not`."""
        self.field = field
        self._words = kind is Contains
        self._numbers: dict[str, int] = {}
        bits: dict[int, int] = defaultdict(int)
        asked = self.users = 0
        for position, part in must:
            asked |= 1 << position
            for needle in _needles(part):
                bits[self._numbers.setdefault(needle, len(self._numbers))] |= 1 << position
        self.users = asked
        for position, part in may:
            self.users |= 1 << position
            for needle in _needles(part):
                self._numbers.setdefault(needle, len(self._numbers))
        self._base = everything & ~asked
        self._bits = dict(bits)
        self._nothing: Found = (self._base, frozenset())
        self._left = GIVEN_UP
        self._last: tuple[str, Found | None] | None = None
        self._match = one_pass(list(self._numbers), literal=self._words)

    def look(self, text: Any) -> Found | None:
        """What the text has; `None` when RE2 gave up."""
        if not isinstance(text, str):
            return self._nothing
        last = self._last
        if last is not None and last[0] is text:
            return last[1]
        found = self._pass(text) if self._left > 0 else None
        self._last = (text, found)
        return found

    def test(self, part: Comparison) -> Test:
        """The test of one of those that are looked for: by what was found, or by itself where RE2 gave up."""
        name, look, alone = self.field, self.look, part.compile()
        sought = frozenset(self._numbers[needle] for needle in _needles(part))

        def test(facts: Facts) -> bool:
            found = look(facts.get(name))
            return alone(facts) if found is None else not sought.isdisjoint(found[1])

        return test

    def _pass(self, text: str) -> Found | None:
        began = thread_time()
        found = self._match(fold(text) if self._words else text)
        end = len(self._numbers)
        if end not in found:
            self._left -= 1
            return None
        spent = thread_time() - began
        if spent > BUDGET_SECONDS and not self._words and spent > end * (1 + len(text) / 1_024) * PATTERN_US / 1e6:
            self._left = 0  # one of them makes it slower than all are by themselves, and asked so that one is found
        accepted, bits = self._base, self._bits
        for needle in found:
            accepted |= bits.get(needle, 0)
        return accepted, frozenset(found)


def _needles(part: Comparison) -> Sequence[str]:
    if isinstance(part, Contains):
        return part.words
    assert isinstance(part, Matches)
    return (part.pattern,)
