"""Labels: a value and where it came from; priority from two labels."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from shared.playbook.routing import Matrix


class Source(StrEnum):
    """Who set a label."""

    GIVEN = "given"
    RULE = "rule"
    MODEL = "model"
    MATRIX = "matrix"
    DEFAULT = "default"


class Label(msgspec.Struct, frozen=True, gc=False):
    """A value with its source; `rule` names the rule (`set/rule`) or the model that wrote it."""

    value: str
    source: Source
    rule: str | None = None
    confidence: float | None = None

    def as_dict(self) -> dict[str, object]:
        """As printed by `eval classify` and stored with the decision."""
        found: dict[str, object] = {"value": self.value, "from": self.source}
        if self.rule is not None:
            found["rule"] = self.rule
        if self.confidence is not None:
            found["confidence"] = self.confidence
        return found


def priority_of(matrix: Matrix, first: str | None, second: str | None) -> str | None:
    """Return the priority of two labels, `None` while one is missing. Pairs that are not listed have `otherwise`."""
    if first is None or second is None:
        return None
    row = matrix.cells.get(first)
    found = row.get(second) if row is not None else None
    return str(matrix.otherwise if found is None else found)
