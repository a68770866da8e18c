"""What looking at rules may cost a ticket: counted before it is spent, so that rules that harm take no time from others.

Costs are in tenths of a microsecond of CPU, rounded up. A comparison costs two; a word or a pattern that is sought by itself costs
by the KiB of the text. What one pass finds for all rules at once is not counted: it grows with the text alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import compress
from time import thread_time

from shared.playbook.facts import Facts
from shared.playbook.onepass import pattern_price
from shared.playbook.predicates import Comparison, Condition, Contains, Matches, Test

BUDGET = 50_000
"""That one ticket may cost (5 ms): 10,000 rules of which each leaves two comparisons to be asked take 4 ms."""
BUDGET_SECONDS = BUDGET / 1e7
LOOK, PART = 10, 2
"""Of the tables, once a look; and of a comparison."""
WORD = 15
"""Of one word, a KiB."""
_FEW = 16
_TRIFLES = 20
_ONES = bytes(digit == ord("1") for digit in range(256))


class TooCostly(Exception):
    """A look would run out of its budget, or did; `position` is the first condition that is to blame."""

    def __init__(self, position: int) -> None:
        super().__init__(f"{self.__doc__} ({position})")
        self.position = position


class Burnt(Exception):
    """One pattern alone took more than the budget."""


class Purse:
    """What looking at rules may still cost one ticket."""

    __slots__ = ("_trifles", "left")

    def __init__(self) -> None:
        self.left = BUDGET
        self._trifles = _TRIFLES

    def is_trifle(self) -> bool:
        """Is another small look not worth being priced? So few are not that they cannot add up."""
        self._trifles -= 1
        return self._trifles >= 0


class Prices:
    """Bitmaps of the conditions by price, so that a look is priced in as many steps as there are prices.

    Prices are rounded up to powers of two, which keeps them few.
    """

    __slots__ = ("_classes",)

    def __init__(self, prices: Iterable[int]) -> None:
        classes: dict[int, int] = defaultdict(int)
        for position, price in enumerate(prices):
            if price:
                classes[1 << (price - 1).bit_length()] |= 1 << position
        self._classes = sorted(classes.items(), reverse=True)

    def of(self, bits: int) -> int:
        """What the conditions in this bitmap cost together."""
        return sum([(bits & some).bit_count() * price for price, some in self._classes])

    def above(self, price: int) -> int:
        """The bitmap of those that cost more, or may after rounding."""
        return sum(some for known, some in self._classes if known > price)

    def dearest(self, bits: int, sum_: int) -> int:
        """The bitmap of the fewest of these that cost `sum_` or more together, the dearest first."""
        found = 0
        for price, some in self._classes:
            for position in positions(bits & some):
                if sum_ <= 0:
                    return found
                found |= 1 << position
                sum_ -= price
        return found


def positions(bits: int) -> Iterable[int]:
    """Where a bitmap has its bits, lowest first. Taking off the lowest bit costs by the bitmap's size: only for a few."""
    count = bits.bit_count()
    if count <= _FEW:
        found = []
        while bits:
            low = bits & -bits
            found.append(low.bit_length() - 1)
            bits ^= low
        return found
    digits = f"{bits:b}"[::-1]
    if count * 8 > len(digits):
        return compress(range(len(digits)), digits.encode().translate(_ONES))
    return _ones(digits)


def _ones(digits: str) -> Iterable[int]:
    place = digits.find("1")
    while place >= 0:
        yield place
        place = digits.find("1", place + 1)


def text_units(condition: Condition) -> int:
    """How many words are looked for in texts; a pattern counts as ten."""
    return sum(
        len(part.words) if isinstance(part, Contains) else 10
        for part in condition.walk()
        if isinstance(part, Contains | Matches)
    )


def leaves(conditions: Iterable[Condition]) -> list[Comparison]:
    """The comparisons that these are made of."""
    return [one for condition in conditions for one in condition.walk() if isinstance(one, Comparison)]


def alone(part: Comparison) -> int:
    """What a comparison costs a KiB of text when it is asked by itself; 0 for one that does not look into texts."""
    if isinstance(part, Contains):
        return len(part.words) * WORD
    return int(pattern_price(part.pattern) * 10) if isinstance(part, Matches) else 0


def timed(test: Test) -> Test:
    """The test of a pattern; it raises `Burnt` when it took more than the budget, by the CPU and not by the clock."""

    def measured(facts: Facts) -> bool:
        began = thread_time()
        held = test(facts)
        if thread_time() - began > BUDGET_SECONDS:
            raise Burnt
        return held

    return measured
