"""What others say about a ticket while it is classified: models about its text, outside systems about its facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from shared.playbook.routing import ModelUse


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's answer: `label` is `None` when it abstains; `guesses` are the best labels with their confidence.

    `model` names it with its version (`name@3`).
    """

    label: str | None
    confidence: float
    guesses: tuple[tuple[str, float], ...] = ()
    model: str = ""


Predict = Callable[[ModelUse, str], Prediction | None]
"""Asks the published model for a text; `None` when there is no such model now."""


class Enriched(msgspec.Struct, frozen=True):
    """What an outside system said: facts without their prefix, and whether they are its answer or the default, and why."""

    name: str
    facts: Mapping[str, Any]
    origin: str = "answer"
    why: str = ""
    url: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As stored with the decision."""
        found: dict[str, Any] = {"from": self.origin, "facts": dict(self.facts)}
        return found | {name: value for name in ("why", "url") if (value := getattr(self, name))}


Enrich = Callable[[str, Mapping[str, Any]], Enriched | None]
"""Asks for an enrichment by its name, with the ticket's facts so far; `None` when the answer is still awaited."""


class Awaiting(msgspec.Struct, frozen=True):
    """The ticket cannot be classified yet: this enrichment has not answered."""

    name: str
