"""What msgspec refuses of a playbook, in an operator's words: the member that is not known, the values that there are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import inspect as types

from shared.playbook.facts import meant

Path_ = tuple[str | int, ...]

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_VALUE = re.compile(r"Invalid enum value (.*)", re.DOTALL)
_ANY = "..."
"""A member of a map: msgspec does not say which."""


def misfit(error: msgspec.ValidationError, kind: Any) -> tuple[Path_, str]:
    """Where (below the value that was to be a `kind`) and why. The path ends before a map whose member is not named."""
    reason, _, where = str(error).partition(" - at `")
    steps: list[str] = [name or index for name, index in _STEP.findall(where.rstrip("`").removeprefix("key in "))]
    path = tuple(int(one) if one.isdigit() else one for one in steps)
    if _ANY in path:
        path = path[: path.index(_ANY)]
    there = list(_at([types.type_info(kind)], steps))
    if unknown := _UNKNOWN.fullmatch(reason):
        name = unknown.group(1)
        known = [one.encode_name for found in there if isinstance(found, types.StructType) for one in found.fields]
        return (path if _ANY in steps else (*path, name)), f"unknown member {name!r}{hint(name, known)}"
    if (value := _VALUE.fullmatch(reason)) and (values := list(_values(there))):
        return path, f"{value.group(1)} is none of {', '.join(values)}"
    return path, reason


def hint(name: str, known: Iterable[str]) -> str:
    """What may have been meant by a name that is not known: the nearest, else all there are, if they are few."""
    names = list(dict.fromkeys(known))
    if near := meant(name, names):
        return near
    return f" (known: {', '.join(sorted(names))})" if 0 < len(names) <= 30 else ""


def _at(kinds: Iterable[types.Type], steps: Iterable[str]) -> Iterable[types.Type]:
    """The types that a value at these steps may have."""
    found = [one for kind in kinds for one in _alternatives(kind)]
    for step in steps:
        found = [one for kind in found for below in _below(kind, step) for one in _alternatives(below)]
    return found


def _alternatives(kind: types.Type) -> Iterator[types.Type]:
    if isinstance(kind, types.UnionType):
        for one in kind.types:
            yield from _alternatives(one)
    elif isinstance(kind, types.Metadata):
        yield from _alternatives(kind.type)
    else:
        yield kind


def _below(kind: types.Type, step: str) -> Iterator[types.Type]:
    match kind:
        case types.StructType(fields=fields):
            yield from (one.type for one in fields if one.encode_name == step)
        case types.DictType(value_type=value):
            yield value
        case types.ListType(item_type=item) | types.VarTupleType(item_type=item) | types.FrozenSetType(item_type=item):
            yield item
        case types.TupleType(item_types=items):
            yield from items


def _values(kinds: Iterable[types.Type]) -> Iterator[str]:
    for kind in kinds:
        if isinstance(kind, types.EnumType):
            yield from (str(one.value) for one in kind.cls)
        elif isinstance(kind, types.LiteralType):
            yield from map(str, kind.values)
