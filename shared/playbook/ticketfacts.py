"""The facts of a ticket: the schema that a playbook's conditions are proven against, and the flattening of a ticket
to facts.

| fact | from |
|---|---|
| `subject`, `body`, `text` (both), `source`, `external_id`, `dedup_key`, `kind` | the ticket |
| `labels.NAME`, `priority` | given, or as classified so far |
| `fields.NAME` | custom fields |
| `requester.id`, `.name`, `.email`, `.domain`, `.phone`, `.tier`, `.automated` | who asks |
| `group`, `agent`, `status`, `node` | where it is |
| `time.hour` (0-23), `time.weekday` (`mon` … `sun`), `time.date` | when it was opened, in the playbook's zone |
| `enrich.NAME.…` | what outside systems said |
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any

from shared.playbook.facts import BOOL, NUMBER, TEXT, Field, Kind, Schema, choice
from shared.playbook.routing import CustomField, Routing

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
STATUSES = ("new", "assigned", "in_progress", "pending", "resolved", "closed", "merged")
_TEXTS = ("subject", "body", "text", "source", "external_id", "dedup_key", "kind", "agent", "node")
_REQUESTER = ("id", "name", "email", "domain", "phone", "tier")


def schema_of(routing: Routing) -> Schema:
    """Return every fact a condition of this playbook may name."""
    taxonomy = routing.taxonomy
    fields: dict[str, Field] = dict.fromkeys(_TEXTS, TEXT)
    fields |= {f"requester.{name}": TEXT for name in _REQUESTER}
    fields["requester.automated"] = BOOL
    fields["group"] = choice(routing.groups)
    fields["status"] = choice(STATUSES)
    fields["priority"] = choice(map(str, taxonomy.priority.values), always=True)
    fields |= {
        f"labels.{name}": choice(map(str, one.values), always=one.default is not None)
        for name, one in taxonomy.dimensions.items()
    }
    fields |= {f"fields.{name}": field_of(one) for name, one in routing.fields.items()}
    fields |= {"time.hour": NUMBER, "time.weekday": choice(WEEKDAYS, always=True), "time.date": Field(Kind.DATE)}
    return Schema(fields, ("enrich.",))


def field_of(custom: CustomField) -> Field:
    """Return the fact of a custom field."""
    return Field(Kind(custom.type), tuple(map(str, custom.values)), always=custom.required)


def facts_of(ticket: Mapping[str, Any], *, with_text: bool = True) -> dict[str, Any]:
    """Flatten `ticket`, in the shape it is posted in, to facts. `with_text` joins subject and body, which costs a
    copy.
    """
    facts: dict[str, Any] = {}
    for name, value in ticket.items():
        if name == "labels":
            for label, given in value.items():
                facts["labels." + label] = given if isinstance(given, str) or given is None else str(given)
        elif name == "fields":
            for field, given in value.items():
                facts["fields." + field] = given
        elif name == "requester":
            _requester(value, facts)
        else:
            facts[name] = value
    if with_text:
        body = facts.get("body")
        facts["text"] = f"{facts.get('subject') or ''}\n{body}" if body else facts.get("subject")
    return facts


def _requester(value: Mapping[str, Any] | None, facts: dict[str, Any]) -> None:
    for name, given in (value or {}).items():
        facts["requester." + name] = given
        if name == "email" and isinstance(given, str):
            facts["requester.domain"] = given.rpartition("@")[2].lower()


def time_facts(at: datetime, zone: tzinfo) -> dict[str, Any]:
    """Return the facts of the wall clock in `zone` at the instant `at` (aware)."""
    local = at.astimezone(zone)
    return {
        "time.hour": local.hour,
        "time.weekday": WEEKDAYS[local.weekday()],
        "time.date": local.date().isoformat(),
    }
