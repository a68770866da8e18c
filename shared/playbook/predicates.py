"""What a proven condition is made of: comparisons of one fact, combined by `all`, `any`, `not`; compiled to closures.

Values only, immutable and hashable: two conditions that are written alike are equal, which is how covered rules are
found. Evaluation never raises: a fact of an unexpected type compares as false. `str(condition)` is what people read
in explanations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from unicodedata import normalize

import re2

from shared.playbook.facts import Facts

Test = Callable[[Facts], bool]
Scalar = str | int | float | bool
Ask = Callable[["Comparison"], Test]
_ORDER = {"gt": "> ", "gte": "≥ ", "lt": "< ", "lte": "≤ "}


@lru_cache(maxsize=64)  # one ticket's texts are folded once, not once a rule
def fold(text: str) -> str:
    """Return `text` for comparing words: full-width forms made half-width, upper case made lower (Unicode's
    folding).
    """
    return text.casefold() if text.isascii() else normalize("NFKC", text).casefold()


@dataclass(frozen=True, slots=True)
class Condition:
    """A proven condition. Immutable and hashable; two that are written alike are equal."""

    def compile(self) -> Test:
        """Return a closure over a flat fact mapping."""
        raise NotImplementedError

    def compile_with(self, ask: Ask) -> Test:
        """The same, the test of each comparison made by `ask`."""
        raise NotImplementedError

    def parts(self) -> tuple[Condition, ...]:
        """The members of a combination; nothing for a comparison."""
        return ()

    def walk(self) -> Iterator[Condition]:
        """This condition and all below it."""
        yield self
        for part in self.parts():
            yield from part.walk()

    def fields(self) -> frozenset[str]:
        """The facts that are read."""
        return frozenset(node.field for node in self.walk() if isinstance(node, Comparison))

    def conjuncts(self) -> tuple[Condition, ...]:
        """The conditions that must all hold, with nested `all` flattened."""
        return (self,)


@dataclass(frozen=True, slots=True)
class Comparison(Condition):
    """A condition on one fact."""

    field: str

    def compile_with(self, ask: Ask) -> Test:
        return ask(self)


@dataclass(frozen=True, slots=True)
class OneOf(Comparison):
    """The fact equals one of `values`; with `many`, one of the fact's members does."""

    values: frozenset[Scalar]
    many: bool = False

    def compile(self) -> Test:
        name, values = self.field, self.values
        if self.many:
            return lambda facts: not values.isdisjoint(facts.get(name) or ())
        if len(values) == 1:
            (only,) = values
            return lambda facts: facts.get(name) == only
        return lambda facts: _hashable_in(facts.get(name), values)

    def __str__(self) -> str:
        values = sorted(map(str, self.values))
        shown = ", ".join(values[:5]) + (f", … {len(values)} values" if len(values) > 5 else "")
        return f"{self.field} = {shown}" if len(values) == 1 else f"{self.field} in [{shown}]"


def _hashable_in(value: Any, values: frozenset[Scalar]) -> bool:
    try:
        return value in values
    except TypeError:
        return False


@dataclass(frozen=True, slots=True)
class Range(Comparison):
    """The fact lies between bounds; `low`/`high` are `None` when open, `*_open` when the bound itself is outside."""

    low: Scalar | None = None
    high: Scalar | None = None
    low_open: bool = False
    high_open: bool = False

    @property
    def is_numeric(self) -> bool:
        """Are its bounds numbers, not days?"""
        return not isinstance(self.low, str) and not isinstance(self.high, str)

    def compile(self) -> Test:
        name, low, high, low_open, high_open = self.field, self.low, self.high, self.low_open, self.high_open
        kinds = str if isinstance(low if low is not None else high, str) else (int, float)

        def test(facts: Facts) -> bool:
            value = facts.get(name)
            if not isinstance(value, kinds) or isinstance(value, bool):
                return False
            # Asked positively, so that a NaN is outside every range.
            if low is not None and not (value > low if low_open else value >= low):  # type: ignore[operator]
                return False
            return high is None or bool(value < high if high_open else value <= high)  # type: ignore[operator]

        return test

    def __str__(self) -> str:
        low = "" if self.low is None else f"{'>' if self.low_open else '≥'} {self.low}"
        high = "" if self.high is None else f"{'<' if self.high_open else '≤'} {self.high}"
        return f"{self.field} {' and '.join(filter(None, (low, high)))}"


@dataclass(frozen=True, slots=True)
class Contains(Comparison):
    """The text contains one of `words` (already folded) anywhere: Chinese has no blanks to split at."""

    words: tuple[str, ...]

    def compile(self) -> Test:
        name, words = self.field, self.words
        if len(words) == 1:
            (only,) = words
            return lambda facts: isinstance(text := facts.get(name), str) and only in fold(text)

        def test(facts: Facts) -> bool:
            text = facts.get(name)
            if not isinstance(text, str):
                return False
            folded = fold(text)
            return any(word in folded for word in words)

        return test

    def __str__(self) -> str:
        return f"{self.field} contains {' or '.join(map(repr, self.words))}"


@dataclass(frozen=True, slots=True)
class Matches(Comparison):
    """The text has a part that fits the RE2 pattern."""

    pattern: str

    def compile(self) -> Test:
        name, search = self.field, compile_pattern(self.pattern).search
        return lambda facts: isinstance(text := facts.get(name), str) and search(text) is not None

    def __str__(self) -> str:
        return f"{self.field} matches /{self.pattern}/"


@dataclass(frozen=True, slots=True)
class Exists(Comparison):
    """The fact is there: not absent, not null, not empty."""

    def compile(self) -> Test:
        name = self.field

        def test(facts: Facts) -> bool:
            value = facts.get(name)
            return value is not None and value != "" and value != () and value != []

        return test

    def __str__(self) -> str:
        return f"{self.field} is given"


@dataclass(frozen=True, slots=True)
class All(Condition):
    """Every member holds."""

    members: tuple[Condition, ...]

    def parts(self) -> tuple[Condition, ...]:
        return self.members

    def conjuncts(self) -> tuple[Condition, ...]:
        return tuple(leaf for member in self.members for leaf in member.conjuncts())

    def compile(self) -> Test:
        return self.compile_with(_plainly)

    def compile_with(self, ask: Ask) -> Test:
        return conjunction([member.compile_with(ask) for member in self.conjuncts()])

    def __str__(self) -> str:
        return " and ".join(f"({m})" if isinstance(m, AnyOf) else str(m) for m in self.members)


@dataclass(frozen=True, slots=True)
class AnyOf(Condition):
    """At least one member holds."""

    members: tuple[Condition, ...]

    def parts(self) -> tuple[Condition, ...]:
        return self.members

    def compile(self) -> Test:
        return self.compile_with(_plainly)

    def compile_with(self, ask: Ask) -> Test:
        tests = tuple(member.compile_with(ask) for member in self.members)

        def test(facts: Facts) -> bool:
            for one in tests:  # noqa: SIM110  (a generator costs twice as much here)
                if one(facts):
                    return True
            return False

        return test

    def __str__(self) -> str:
        return " or ".join(f"({m})" if isinstance(m, All) else str(m) for m in self.members)


@dataclass(frozen=True, slots=True)
class Not(Condition):
    """The member does not hold."""

    member: Condition

    def parts(self) -> tuple[Condition, ...]:
        return (self.member,)

    def compile(self) -> Test:
        return self.compile_with(_plainly)

    def compile_with(self, ask: Ask) -> Test:
        inner = self.member.compile_with(ask)
        return lambda facts: not inner(facts)

    def __str__(self) -> str:
        return f"not ({self.member})"


def _plainly(part: Comparison) -> Test:
    return part.compile()


def conjunction(tests: Sequence[Test]) -> Test:
    """Return one closure that holds when all `tests` do; with none it always holds."""
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda facts: first(facts) and second(facts)
    fixed = tuple(tests)

    def test(facts: Facts) -> bool:
        for one in fixed:  # noqa: SIM110  (a generator costs twice as much here)
            if not one(facts):
                return False
        return True

    return test


@lru_cache(maxsize=4_096)
def compile_pattern(pattern: str) -> Any:
    """Return the RE2 program of `pattern`; raise `re2.error` when it is not one. Memory of a program is bounded by
    RE2.
    """
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    return re2.compile(pattern, options)
