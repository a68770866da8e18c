"""Conditions: what an operations person writes in YAML, proven against a schema and compiled to closures.

    when:
      labels.business_type: [network, email]     # any of
      requester.tier: vip                        # equal
      fields.amount: {gte: 100, lt: 5000}        # range
      subject: {contains: [停机, outage]}         # any of these words, case and width folded
      body: {matches: "(?i)error [0-9]{3}"}      # RE2: linear time, no back references
      fields.device: {exists: true}
      source: {not: [monitoring]}
      any: [{priority: "1"}, {all: [...]}]       # all, any, not combine

A mapping is the conjunction of its members. Absent facts equal nothing, so `{not: x}` holds for them. A blank
condition is an error, never a silent catch-all. Depth and size are bounded, so that a hostile set is refused when it
is checked.

Parsing raises `ConditionError` with the path of the offending member. Evaluation never raises: a fact of an
unexpected type compares as false.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import re2

from shared.playbook.facts import ConditionError, Facts, Field, Kind, Schema
from shared.playbook.predicates import (
    All,
    AnyOf,
    Condition,
    Contains,
    Exists,
    Matches,
    Not,
    OneOf,
    Range,
    Scalar,
    Test,
    compile_pattern,
    fold,
)

__all__ = ["Condition", "ConditionError", "Facts", "Field", "Kind", "Schema", "Test", "parse"]

MAX_DEPTH = 32
MAX_NODES = 1_000
MAX_VALUES = 10_000
MAX_PATTERN = 1_000
_ORDER = frozenset({"gt", "gte", "lt", "lte"})


def parse(obj: Any, schema: Schema, path: str = "when") -> Condition:
    """Prove that `obj` (decoded YAML or JSON) is a condition over `schema` and return it.

    Raises `ConditionError` for an unknown field, a value that can never occur, a comparison the kind does not have,
    an empty range, a blank condition, a pattern RE2 refuses, or a condition deeper than 32 or larger than 1,000
    nodes.
    """
    return _Parser(schema).mapping(obj, path, 1)


class _Parser:
    """One pass over one condition; counts what it has seen, so that size is bounded before anything is built."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._nodes = count(1)

    def mapping(self, obj: Any, path: str, depth: int) -> Condition:
        self._visit(path, depth)
        if not isinstance(obj, Mapping):
            raise ConditionError(path, f"a condition is a mapping of field to value, not {_shown(obj)}")
        if not obj:
            raise ConditionError(path, "blank condition; a rule for everything else is written `default: true`")
        found = tuple(self._member(key, value, f"{path}.{key}", depth) for key, value in obj.items())
        return found[0] if len(found) == 1 else All(found)

    def _member(self, key: Any, value: Any, path: str, depth: int) -> Condition:
        if not isinstance(key, str):
            raise ConditionError(path, f"a field name is text, not {_shown(key)}")
        if key == "not":
            return Not(self.mapping(value, path, depth + 1))
        if key in ("all", "any"):
            if not isinstance(value, list | tuple) or not value:
                raise ConditionError(path, f"`{key}` takes a list of at least one condition")
            members = tuple(self.mapping(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value))
            return members[0] if len(members) == 1 else (All(members) if key == "all" else AnyOf(members))
        return self._comparison(key, value, path, depth + 1)

    def _comparison(self, name: str, value: Any, path: str, depth: int) -> Condition:
        self._visit(path, depth)
        known = self._schema.get(name, path)
        if not isinstance(value, Mapping):
            return self._one_of(name, known, value, path)
        if not value:
            raise ConditionError(path, "blank comparison")
        found = [
            self._operator(name, known, str(op), operand, f"{path}.{op}", depth)
            for op, operand in value.items()
            if op not in _ORDER
        ]
        bounds = {op: operand for op, operand in value.items() if op in _ORDER}
        if bounds:
            found.append(_range(name, known, bounds, path))
        return found[0] if len(found) == 1 else All(tuple(found))

    def _operator(self, name: str, known: Field | None, op: str, operand: Any, path: str, depth: int) -> Condition:
        if op == "exists":
            if not isinstance(operand, bool):
                raise ConditionError(path, "is true or false")
            return Exists(name) if operand else Not(Exists(name))
        if op == "not":
            return Not(self._comparison(name, operand, path, depth + 1))
        if op == "contains":
            return _contains(name, known, operand, path)
        if op == "matches":
            return _matches(name, known, operand, path)
        raise ConditionError(
            path, f"unknown comparison {op!r} (known: gt, gte, lt, lte, contains, matches, exists, not)"
        )

    def _one_of(self, name: str, known: Field | None, value: Any, path: str) -> Condition:
        values = value if isinstance(value, list | tuple) else [value]
        if not values:
            raise ConditionError(path, "blank list: nothing is in it")
        if len(values) > MAX_VALUES:
            raise ConditionError(path, f"more than {MAX_VALUES:,} values")
        literals = frozenset(
            _literal(known, item, f"{path}[{i}]" if values is value else path) for i, item in enumerate(values)
        )
        return OneOf(name, literals, many=known is not None and known.kind is Kind.LIST)

    def _visit(self, path: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ConditionError(path, f"nested deeper than {MAX_DEPTH} levels")
        if next(self._nodes) > MAX_NODES:
            raise ConditionError(path, f"more than {MAX_NODES:,} parts in one condition")


def _literal(known: Field | None, value: Any, path: str) -> Scalar:
    if known is not None:
        return known.literal(value, path)
    if isinstance(value, str | int | float | bool) and value != "":
        return value
    raise ConditionError(path, f"cannot be compared with {_shown(value)}")


def _range(name: str, known: Field | None, bounds: Mapping[str, Any], path: str) -> Condition:
    if known is not None and known.kind not in (Kind.NUMBER, Kind.DATE):
        raise ConditionError(path, f"is {known.kind}; only numbers and dates have an order")
    for side in (("gt", "gte"), ("lt", "lte")):
        if side[0] in bounds and side[1] in bounds:
            raise ConditionError(path, f"both {side[0]} and {side[1]} are given")
    at = {op: _literal(known, operand, f"{path}.{op}") for op, operand in bounds.items()}
    if len({isinstance(value, str) for value in at.values()}) > 1 or any(isinstance(v, bool) for v in at.values()):
        raise ConditionError(path, "bounds are two numbers or two dates")
    low, high = at.get("gt", at.get("gte")), at.get("lt", at.get("lte"))
    low_open, high_open = "gt" in at, "lt" in at
    if low is not None and high is not None and not _ordered(low, high, touching=not (low_open or high_open)):
        raise ConditionError(path, "the range is empty: nothing can lie in it")
    return Range(name, low, high, low_open, high_open)


def _ordered(low: Any, high: Any, *, touching: bool) -> bool:
    return bool(low < high or (touching and low == high))


def _contains(name: str, known: Field | None, operand: Any, path: str) -> Condition:
    if known is not None and known.kind not in (Kind.TEXT, Kind.CHOICE, Kind.LIST):
        raise ConditionError(path, f"is {known.kind}; only text contains words")
    words = operand if isinstance(operand, list | tuple) else [operand]
    if not words or len(words) > MAX_VALUES:
        raise ConditionError(path, f"takes a word or a list of 1 to {MAX_VALUES:,} words")
    if not all(isinstance(word, str) and word.strip() for word in words):
        raise ConditionError(path, "a word is text and not blank: a blank is in every text")
    if known is not None and known.kind is Kind.LIST:
        return OneOf(name, frozenset(words), many=True)
    return Contains(name, tuple(dict.fromkeys(fold(word) for word in words)))


def _matches(name: str, known: Field | None, operand: Any, path: str) -> Condition:
    if known is not None and known.kind not in (Kind.TEXT, Kind.CHOICE):
        raise ConditionError(path, f"is {known.kind}; only text matches a pattern")
    if not isinstance(operand, str) or not operand or len(operand) > MAX_PATTERN:
        raise ConditionError(path, f"takes a pattern of 1 to {MAX_PATTERN:,} characters")
    try:
        search = compile_pattern(operand).search
    except re2.error as error:
        raise ConditionError(path, f"RE2 refuses the pattern: {_reason(error)}") from error
    if search("") is not None and search("\x00￿") is not None:
        raise ConditionError(path, "the pattern fits every text: that is a blank condition")
    return Matches(name, operand)


def _reason(error: Exception) -> str:
    first = error.args[0] if error.args else "not a pattern"
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"
