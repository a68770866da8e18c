"""One serializer for every way out: `present(value, principal, masks)`. Pure.

A mask belongs to a field (`fields.id_card`, `requester.phone`); the roles it names see it whole, others see nothing, or, where the
mask says so, its last characters. A field one may not read is absent, and cannot be filtered or sorted by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shared.access.principals import Principal


class Mask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may read a field: `readers` are roles; `show_last` characters are left for everybody else (0: absent)."""

    readers: tuple[str, ...]
    show_last: int = 0


Masks = Mapping[str, Mask]


def hidden(path: str, principal: Principal, masks: Masks) -> bool:
    """Whether the principal may not read the field whole (and so not filter or sort by it)."""
    mask = masks.get(path)
    return mask is not None and not principal.roles & set(mask.readers)


def present(value: Any, principal: Principal, masks: Masks, prefix: str = "") -> Any:
    """A copy of plain data with what the principal may not read left out or cut. Paths are dotted member names."""
    if not masks:
        return value
    if isinstance(value, Mapping):
        shown: dict[str, Any] = {}
        for name, member in value.items():
            path = f"{prefix}{name}"
            if hidden(path, principal, masks):
                left = _left(member, masks[path].show_last)
                if left is not None:
                    shown[name] = left
            else:
                shown[name] = present(member, principal, masks, f"{path}.")
        return shown
    if isinstance(value, list | tuple):
        return [present(one, principal, masks, prefix) for one in value]
    return value


def _left(value: Any, count: int) -> str | None:
    if count <= 0 or value is None:
        return None
    text = str(value)
    return "*" * max(0, len(text) - count) + text[-count:] if len(text) > count else "*" * len(text)
