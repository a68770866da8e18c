"""`signalbox eval classify`: what the playbook makes of a ticket, decided by the router's own classifier.

In: `{id, ticket}`, the ticket as it is posted. Out: the same with `expected {labels {name: {value, from, rule?}},
priority, queue}` filled, and beyond that `lane`, `kind`, the rules that acted and notes. Nothing is written. Models
are not asked here: a rule that names one leaves a note.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from services.router.domain.classify import Classifier
from shared.playbook.routing import Routing

_NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
"""The time of day of a ticket that does not say when it was opened: a Monday, 12:00 UTC, so that answers repeat."""

_classifiers: dict[int, tuple[Routing, Classifier]] = {}


def evaluate(obj: dict[str, Any], playbook: Routing) -> dict[str, Any]:
    """Return `obj` with `expected` computed under the routing section of a playbook.

    Raises `ValueError` when `ticket` is no mapping or `opened_at` no instant.
    """
    ticket = obj.get("ticket")
    if not isinstance(ticket, Mapping):
        raise ValueError("`ticket` is an object, as it is posted")
    classifier = _classifier(playbook)
    opened = ticket.get("opened_at") or obj.get("now")
    opened_at = datetime.fromisoformat(str(opened)) if opened else _NOON
    facts = classifier.facts(ticket, opened_at if opened_at.tzinfo else opened_at.replace(tzinfo=UTC))
    intake_lane = classifier.lane_at_intake(facts)
    decided = classifier.classify(facts)
    computed: dict[str, Any] = {
        "labels": {name: label.as_dict() for name, label in decided.labels.items()},
        "priority": decided.priority.value,
        "queue": decided.group.value,
        "priority_from": decided.priority.as_dict(),
        "queue_from": decided.group.as_dict(),
        "lane": decided.lane,
        "intake_lane": intake_lane,
        "kind": decided.kind,
        "rules": [f"{one.rule_set}/{one.rule}" for one in decided.acted],
        "notes": list(decided.notes),
    }
    asked = obj.get("expected")
    return {**obj, "expected": {**asked, **computed} if isinstance(asked, Mapping) else computed}


def _classifier(routing: Routing) -> Classifier:
    """Compile a section once; the section is kept beside it, so that its identity stays taken."""
    found = _classifiers.get(id(routing))
    if found is None or found[0] is not routing:
        if len(_classifiers) > 16:
            _classifiers.clear()
        found = _classifiers[id(routing)] = (routing, Classifier(routing))
    return found[1]
