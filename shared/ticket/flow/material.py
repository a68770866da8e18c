"""What must be there before a node is completed, and what of it is missing.

Material is given with the completion: a list of names, or a mapping from name to `true`, a count, or a list of attachment
ids. Fields may also be on the ticket already (`fields.NAME` among the facts). Blank values count as missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shared.ticket.flow.model import Need
from shared.ticket.flow.program import Facts, Test

Material = Mapping[str, Any] | Sequence[str]


def missing(
    needs: Iterable[tuple[Need, Test | None]], facts: Facts, material: Material | None, waived: Iterable[str] = ()
) -> tuple[str, ...]:
    """The names of the required material that is neither given nor waived, in the order they are written."""
    given = material if isinstance(material, Mapping) else Counter(material or ())
    excused = frozenset(waived)
    return tuple(
        need.name
        for need, test in needs
        if need.name not in excused and (test is None or test(facts)) and not _is_there(need, facts, given)
    )


def _is_there(need: Need, facts: Facts, given: Mapping[str, Any]) -> bool:
    if need.field is not None:
        return _present(facts.get(f"fields.{need.field}"))
    found = given.get(need.name)
    if need.check is not None:
        return (isinstance(found, int) and found >= 1) or (isinstance(found, Mapping) and found.get("done") is True)
    return _count(found, need.types) >= need.count


def _present(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and value not in ([], (), {})


def _count(found: Any, types: list[str]) -> int:
    """How many attachments were given: a number, `true` for one, a list of ids, or of `{id, type}` whose types are checked."""
    if isinstance(found, bool) or found is None:
        return int(bool(found))
    if isinstance(found, int):
        return found
    if isinstance(found, str):
        return int(bool(found.strip()))
    if isinstance(found, Sequence):
        return sum(1 for one in found if _fits(one, types))
    return int(_fits(found, types)) if isinstance(found, Mapping) else 0


def _fits(one: Any, types: list[str]) -> bool:
    if not isinstance(one, Mapping):
        return bool(one)
    media = str(one.get("type", ""))
    return not types or not media or any(_matches(media, pattern) for pattern in types)


def _matches(media: str, pattern: str) -> bool:
    return media.startswith(pattern[:-1]) if pattern.endswith("/*") else media == pattern
