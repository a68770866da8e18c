"""Which lane a ticket goes in: by conditions at intake, by its priority after classification. Pure and cheap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.playbook.facts import Facts
from shared.playbook.model import Playbook
from shared.playbook.ticketfacts import facts_of


@dataclass(frozen=True, slots=True)
class LaneRules:
    """The `lanes` section, compiled."""

    urgent: Callable[[Facts], bool] | None
    bulk: Callable[[Facts], bool] | None
    urgent_priorities: frozenset[str]
    bulk_priorities: frozenset[str]

    def at_intake(self, ticket: Mapping[str, Any]) -> str:
        """The first lane, from what the sender gave (the posted shape)."""
        if self.urgent is None and self.bulk is None:
            return "normal"
        facts = facts_of(ticket)
        if self.urgent is not None and self.urgent(facts):
            return "urgent"
        return "bulk" if self.bulk is not None and self.bulk(facts) else "normal"

    def by_priority(self, priority: str, lane: str) -> str:
        """The later lane: the priority's own, else bulk stays bulk and all else is normal."""
        if priority in self.urgent_priorities:
            return "urgent"
        return "bulk" if lane == "bulk" or priority in self.bulk_priorities else "normal"


def lane_rules(playbook: Playbook) -> LaneRules:
    """The compiled lanes of a version, made once in each process."""
    return playbook.derived("lanes", _compile)


def _compile(playbook: Playbook) -> LaneRules:
    lanes = playbook.document.lanes
    return LaneRules(
        playbook.condition(lanes.urgent.when, "lanes.urgent.when") if lanes.urgent.when else None,
        playbook.condition(lanes.bulk.when, "lanes.bulk.when") if lanes.bulk.when else None,
        frozenset(map(str, lanes.urgent.priorities)),
        frozenset(map(str, lanes.bulk.priorities)),
    )
