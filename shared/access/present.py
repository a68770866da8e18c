"""One serializer for every way out: `present(value, principal, masks)`. Pure.

A mask belongs to a field (`fields.id_card`, `requester.phone`); the roles it names see it whole, others see nothing, or, where the
mask says so, its last characters. A field one may not read is absent, and cannot be filtered or sorted by.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any

import msgspec

from shared.access.principals import Principal


class Mask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may read a field: `readers` are roles; `show_last` characters are left for everybody else (0: absent)."""

    readers: tuple[str, ...]
    show_last: int = 0


Masks = Mapping[str, Mask]
_FLAT = frozenset({str, int, float, bool, type(None), datetime})
"""Types that hold nothing else: whether a value is a mapping takes as long as all the rest."""


def hidden(path: str, principal: Principal, masks: Masks) -> bool:
    """Whether the principal may not read the field whole (and so not filter or sort by it)."""
    mask = _mask(path, masks)
    return mask is not None and not principal.roles & set(mask.readers)


def _mask(path: str, masks: Masks) -> Mask | None:
    """The mask of a path. Where a ticket's members stand inside something else (`data.fields.id_card`) they stay masked."""
    while True:
        if (mask := masks.get(path)) is not None:
            return mask
        _, dot, path = path.partition(".")
        if not dot:
            return None


def _masked(prefix: str, name: str, principal: Principal, masks: Masks) -> str | None:
    """The path at which a member is masked for the principal, or None. A name may be a whole path (`requester.phone`)."""
    path = prefix
    for step in name.split("."):
        path += step
        if hidden(path, principal, masks):
            return path
        path += "."
    return None


def present(value: Any, principal: Principal, masks: Masks, prefix: str = "") -> Any:
    """A copy of plain data with what the principal may not read left out or cut. Paths are dotted member names."""
    if not masks:
        return value
    return _present(value, principal, masks, prefix, {path.rpartition(".")[2] for path in masks})


def _present(value: Any, principal: Principal, masks: Masks, prefix: str, ends: AbstractSet[str]) -> Any:
    """`ends`: the last names of masked paths; a member of another name is looked into, and not for a mask of its own."""
    if type(value) is dict or isinstance(value, Mapping):
        shown: dict[str, Any] = {}
        for name, member in value.items():
            text = str(name)
            masked = text in ends or ("." in text and any(step in ends for step in text.split(".")))
            path = _masked(prefix, text, principal, masks) if masked else None
            if path is None:
                kind = type(member)
                deep = kind is dict or (kind not in _FLAT and isinstance(member, (Mapping, list, tuple)))
                shown[name] = _present(member, principal, masks, f"{prefix}{text}.", ends) if deep else member
            elif (mask := _mask(path, masks)) and (left := _left(member, mask.show_last)) is not None:
                shown[name] = left
        return shown
    if isinstance(value, list | tuple):
        return [_present(one, principal, masks, prefix, ends) for one in value]
    return value


def _left(value: Any, count: int) -> str | None:
    if count <= 0 or not isinstance(value, str | int | float):
        return None
    text = str(value)
    return "*" * max(0, len(text) - count) + text[-count:] if len(text) > count else "*" * len(text)
