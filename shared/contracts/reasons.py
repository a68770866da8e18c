"""Reasons of decisions: as their events keep them, and as people read them.

Who was considered for a ticket is kept as one text: as a list, fifty names cost the server 4 µs more an assignment and a fifth
of the row's bytes. Older events have the list, and so have names in which the sign between them occurs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_BETWEEN = "|"


def kept(names: Sequence[str]) -> str | list[str]:
    """Names as a reason keeps them."""
    return list(names) if any(_BETWEEN in one for one in names) else _BETWEEN.join(names)


def told(reason: dict[str, Any] | None) -> dict[str, Any] | None:
    """A kept reason as people read it."""
    considered = None if reason is None else reason.get("considered")
    if reason is None or not isinstance(considered, str):
        return reason
    return reason | {"considered": considered.split(_BETWEEN) if considered else []}
