"""A message's words and links, made when it is sent: the ticket as it is then, as the recipient may see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.notifier.bundling import digest, line_of
from services.notifier.channels.base import Content
from services.notifier.facts import NO_LINKS, facts
from services.notifier.handlers import compiled
from services.notifier.rows import Row
from services.notifier.templates import CompiledTemplate
from shared.access import links
from shared.contracts.providers.inbound import CALLBACK_SECRETS
from shared.directory.people import Directory, Person
from shared.playbook.messages import Provider
from shared.playbook.model import Playbook
from shared.runtime.settings import Settings
from shared.ticket.state import MAIN, Ticket

_NEEDS_A_FORM = ("transfer", "note")
"""A card's button says nothing but that it was pressed; these ask for more, and so lead to their page."""


@dataclass(slots=True)
class Composer:
    """Words for one batch; `linked` gathers the links to be stored in the same commit that marks the messages `sending`."""

    settings: Settings
    key: bytes
    directory: Directory
    tickets: Mapping[int, Ticket]
    now: datetime
    linked: list[dict[str, Any]] = field(default_factory=list)
    said: dict[tuple[Any, ...], Content] = field(default_factory=dict)
    """Words that are the same for every recipient of an event, and on several channels, made once for a batch."""

    def content(self, row: Row, playbook: Playbook, provider: Provider) -> Content:
        """The words of one message; raises `TemplateError`."""
        template = compiled(playbook).catalogue.find(row.rule, row.channel, row.locale)
        if template.personal or row.event_version is None:
            return self._made(row, playbook, provider, template)
        # the template is its playbook's and its rule's, so that these need no names here
        key = (template, row.ticket_id, row.event_version, provider.name if template.by_provider else "")
        found = self.said.get(key)
        if found is None:
            found = self.said[key] = self._made(row, playbook, provider, template)
        return found

    def _made(self, row: Row, playbook: Playbook, provider: Provider, template: CompiledTemplate) -> Content:
        ticket, person = self.tickets.get(row.ticket_id or 0), self.directory.person(row.recipient)
        given = facts(ticket, row.event_type, row.event, _shown(row, person), playbook.document.access.masks)
        if template.linked:
            given |= self._links(row, ticket, person, template, provider)
        return template.render(given, provider.name)

    def bundle(self, row: Row, others: Sequence[tuple[Row, Playbook]], provider: Provider, most: int) -> Content:
        """One message for many, the oldest first; links are left out, since each opens one ticket only."""
        lines = []
        for one, playbook in others[:most]:
            template = compiled(playbook).catalogue.find(one.rule, one.channel, one.locale)
            ticket, person = self.tickets.get(one.ticket_id or 0), self.directory.person(one.recipient)
            given = facts(ticket, one.event_type, one.event, _shown(one, person), playbook.document.access.masks)
            lines.append(line_of(template.render(given | NO_LINKS, provider.name)))
        return digest(lines, len(others), row.locale, row.channel)

    def _links(
        self, row: Row, ticket: Ticket | None, person: Person | None, template: CompiledTemplate, provider: Provider
    ) -> dict[str, Any]:
        if ticket is None or person is None:
            return NO_LINKS
        node = row.event.get("node")
        made = links.make(
            self.key, row.id, template.actions, ticket_id=ticket.id, person=person.id,
            assignment=row.event.get("assignment", ticket.assignment),
            escalation=row.event.get("escalation", ticket.escalation),
            node=None if node == MAIN else node, expires_at=self.now + links.LIFETIME,
        )  # fmt: skip
        self.linked.append(made.row)
        urls = {action: f"{self.settings.public}/a/{token}" for action, token in made.tokens.items()}
        wanted = CALLBACK_SECRETS.get(provider.driver)
        calls_back = wanted is not None and all(name in provider.secrets for name in wanted)
        lead = {action: url for action, url in urls.items() if not calls_back or action in _NEEDS_A_FORM}
        return {"links": urls, "code": made.code, "action_values": made.tokens, "action_urls": lead}


def _shown(row: Row, person: Person | None) -> dict[str, Any]:
    """The recipient as templates name them."""
    name, zone = ("", None) if person is None else (person.name, person.zone)
    return {"id": row.recipient, "name": name, "locale": row.locale, "zone": zone or "UTC"}
