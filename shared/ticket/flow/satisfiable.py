"""Whether conditions can hold together: read from their written form, without running them.

Used by the proof only, and on the safe side of it: what this cannot decide (patterns, words, facts that hold lists) counts
as possible, so that no sound flow is refused. The written form is that of docs about conditions: a mapping of facts to a
value, a list of values or comparisons, with `all`, `any` and `not`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

Written = Mapping[str, Any]
MAX_CASES = 256
"""How many alternatives are looked at before conditions count as possible."""

_RANGES = ("gt", "gte", "lt", "lte")


@dataclass(frozen=True, slots=True)
class Atom:
    """One comparison of one fact, or (`holds` false) its contrary, which also holds when the fact is absent."""

    field: str
    op: str
    operand: Any
    holds: bool


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the facts: exact values (None: absent), facts that are there, facts that hold lists."""

    values: Mapping[str, Any]
    present: Collection[str] = ()
    lists: Collection[str] = ()


def possible(wanted: Iterable[tuple[Written, bool]], known: Known) -> bool:
    """Whether facts exist for which each condition is as wanted (true or false). True when in doubt."""
    cases: list[tuple[Atom, ...]] = [()]
    for condition, holds in wanted:
        alternatives = _cases(condition, holds)
        if len(cases) * len(alternatives) > MAX_CASES:
            return True
        cases = [(*one, *other) for one, other in product(cases, alternatives)]
    return any(_case_possible(case, known) for case in cases)


def _cases(condition: Written, holds: bool) -> list[tuple[Atom, ...]]:
    """The alternatives (each a conjunction) under which a condition is true, or false."""
    return _combine([_member(str(key), value, holds) for key, value in condition.items()], conjunction=holds)


def _combine(parts: list[list[tuple[Atom, ...]]], *, conjunction: bool) -> list[tuple[Atom, ...]]:
    if not conjunction:
        return [case for part in parts for case in part]
    cases: list[tuple[Atom, ...]] = [()]
    for part in parts:
        cases = [(*one, *other) for one, other in product(cases, part)][: MAX_CASES + 1]
    return cases


def _member(key: str, value: Any, holds: bool) -> list[tuple[Atom, ...]]:
    if key == "not":
        return _cases(value, not holds)
    if key in ("all", "any"):
        return _combine([_cases(one, holds) for one in value], conjunction=(key == "all") == holds)
    if not isinstance(value, Mapping):
        values = tuple(value) if isinstance(value, list | tuple) else (value,)
        return [(Atom(key, "in", values, holds),)]
    parts = [_comparison(key, str(op), operand, holds) for op, operand in value.items()]
    return _combine(parts, conjunction=holds)


def _comparison(field: str, op: str, operand: Any, holds: bool) -> list[tuple[Atom, ...]]:
    if op == "not":
        return _member(field, operand, not holds)
    if op == "exists":
        return [(Atom(field, "exists", True, bool(operand) == holds),)]
    return [(Atom(field, op, operand, holds),)]


def _case_possible(case: tuple[Atom, ...], known: Known) -> bool:
    by_field: dict[str, list[Atom]] = {}
    for atom in case:
        by_field.setdefault(atom.field, []).append(atom)
    return all(_field_possible(field, atoms, known) for field, atoms in by_field.items())


def _field_possible(field: str, atoms: list[Atom], known: Known) -> bool:
    if field in known.values:
        return _fits(known.values[field], atoms)
    if field not in known.present and not any(atom.holds for atom in atoms):
        return True  # absent
    if any(atom.op == "exists" and not atom.holds for atom in atoms):
        return False
    if field in known.lists:
        return True
    return any(_fits(value, atoms) for value in _candidates(atoms))


def _candidates(atoms: list[Atom]) -> Iterator[Any]:
    """Values of which one satisfies the comparisons, if any does."""
    named = [value for atom in atoms if atom.op == "in" for value in atom.operand]
    bounds = [atom.operand for atom in atoms if atom.op in _RANGES]
    yield from named
    yield from bounds
    numbers = sorted(value for value in (*named, *bounds) if isinstance(value, int | float))
    texts = [value for value in (*named, *bounds) if isinstance(value, str)]
    only_bool = bool(named) and all(isinstance(value, bool) for value in named)
    if only_bool:
        yield from (True, False)
        return
    if numbers:
        yield from (numbers[0] - 1, numbers[-1] + 1)
        yield from ((low + high) / 2 for low, high in pairwise(numbers))
    if bounds and texts:
        yield from ("", *(f"{text}\x00" for text in texts))
    if not bounds:
        yield "\x00 some other text"


def _fits(value: Any, atoms: list[Atom]) -> bool:
    return all(_holds(value, atom) in (atom.holds, None) for atom in atoms)


def _holds(value: Any, atom: Atom) -> bool | None:
    """Whether the comparison holds of the value; None when this cannot be told here."""
    if value is None:
        return False
    if atom.op == "exists":
        return True
    if atom.op == "in":
        return any(_equal(value, one) for one in atom.operand)
    if atom.op in _RANGES:
        return _ordered(value, atom.op, atom.operand)
    return None


def _equal(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _ordered(value: Any, op: str, bound: Any) -> bool:
    if isinstance(value, str) != isinstance(bound, str) or isinstance(value, bool):
        return False
    return bool(
        {"gt": value > bound, "gte": value >= bound, "lt": value < bound, "lte": value <= bound}[op],
    )
