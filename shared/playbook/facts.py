"""What a condition may ask about: the schema of facts.

A fact is one named value of a ticket, its requester or its surroundings, under a flat dotted key (`priority`,
`labels.business_type`, `requester.tier`, `fields.amount`, `time.hour`). The schema says for each key which kind of
value it holds and, where the values are known, which ones. With that, a misspelt name, a value that cannot occur and
a comparison that cannot be true are found when a playbook is checked, not when a ticket is lost.

Enumerated values and texts are always text: `impact: 1` in YAML means the value `"1"`, as does the number 1 from a
sender.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

Facts = Mapping[str, Any]
"""A flat mapping from fact name to value; an absent key and `None` mean the same."""

RESERVED = frozenset({"all", "any", "not"})
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z")


def meant(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a name that is not known: the nearest of those that are; nothing where none is near."""
    near = get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


class Kind(StrEnum):
    """What a fact holds."""

    TEXT = "text"  # a str
    CHOICE = "choice"  # a str out of a known set
    NUMBER = "number"  # an int or a float, never a bool
    BOOL = "bool"
    DATE = "date"  # a str YYYY-MM-DD; compared as text, which is the order of days
    LIST = "list"  # a tuple or list of str; equality means membership


class ConditionError(ValueError):
    """A condition that cannot be meant as it is written; `path` says where (`when.any[1].priority`)."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Field:
    """One fact of the schema. `always` promises that every ticket has it (needed to prove that rules cover all
    cases).
    """

    kind: Kind
    values: tuple[str, ...] = ()
    always: bool = False

    def literal(self, value: Any, path: str) -> str | int | float | bool:
        """Return `value` as a fact of this kind would be written, or raise `ConditionError` when it never could be
        equal.
        """
        if value is None or value == "":
            raise ConditionError(path, "blank value; to ask whether it is there, write {exists: true}")
        if self.kind is Kind.BOOL:
            if not isinstance(value, bool):
                raise ConditionError(path, f"is true or false, cannot be compared with {value!r}")
            return value
        if isinstance(value, bool):
            raise ConditionError(
                path, f"cannot be compared with {value!r}; write yes, no, on, off in quotes to mean text"
            )
        if self.kind is Kind.NUMBER:
            return self._number(value, path)
        text = str(value) if isinstance(value, int | float) else value
        if not isinstance(text, str):
            text = value.isoformat() if hasattr(value, "isoformat") else None
        if text is None:
            raise ConditionError(path, f"cannot be compared with {value!r}")
        return self._known(text, path)

    @staticmethod
    def _number(value: Any, path: str) -> int | float:
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ConditionError(path, f"is a number, cannot be compared with {value!r}")
        return value

    def _known(self, text: str, path: str) -> str:
        if self.values and text not in self.values:
            also = meant(text, self.values) or f" (known: {', '.join(self.values[:12])})"
            raise ConditionError(path, f"can never be {text!r}{also}")
        if self.kind is Kind.DATE and not _DATE.match(text):
            raise ConditionError(path, f"is a date written YYYY-MM-DD, cannot be compared with {text!r}")
        return text


TEXT = Field(Kind.TEXT)
NUMBER = Field(Kind.NUMBER)
BOOL = Field(Kind.BOOL)
LIST = Field(Kind.LIST)


def choice(values: Iterable[str], *, always: bool = False) -> Field:
    """A text fact with known values."""
    return Field(Kind.CHOICE, tuple(values), always)


@dataclass(frozen=True, slots=True)
class Schema:
    """All facts a condition may name.

    `open_prefixes` are families whose members are not known in advance (`enrich.`): any name below them is taken as
    text or number, whatever the comparison asks for.
    """

    fields: Mapping[str, Field]
    open_prefixes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        clash = RESERVED & set(self.fields)
        if clash:
            raise ValueError(f"a fact cannot be called {sorted(clash)[0]!r}: the word combines conditions")

    def get(self, name: str, path: str) -> Field | None:
        """Return the field called `name`, `None` for one of an open family, or raise `ConditionError` with the
        nearest name.
        """
        found = self.fields.get(name)
        if found is not None:
            return found
        if name.startswith(self.open_prefixes):
            return None
        raise ConditionError(path, f"unknown field {name!r}{meant(name, self.fields)}")

    def extended(self, more: Mapping[str, Field]) -> Schema:
        """Return this schema with further facts; a fact of the same name is replaced."""
        return Schema({**self.fields, **more}, self.open_prefixes)
