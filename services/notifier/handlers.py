"""A batch of tickets: whom new events are for, which waiting steps' turn has come. One transaction; nothing is sent here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.notifier import store
from services.notifier.planning import CompiledRule
from services.notifier.rows import Row, Tables
from services.notifier.templates import Catalogue
from shared.contracts import events as e
from shared.ledger.process import Deps
from shared.ledger.unit import Result, Unit, Work
from shared.playbook.messages import Provider, by_channel
from shared.playbook.model import Playbook
from shared.ticket.state import Ticket

INBOX = Provider(name="inbox", driver="inbox", channel="inbox")
"""The app's own inbox needs no provider entry."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """Message rules by event type, words, and providers by channel, of one version."""

    rules: dict[str, tuple[CompiledRule, ...]]
    catalogue: Catalogue
    providers: dict[str, tuple[Provider, ...]]

    def provider(self, name: str) -> Provider:
        """A provider by name; raises `KeyError`."""
        return next((one for many in self.providers.values() for one in many if one.name == name), INBOX)


def compiled(playbook: Playbook) -> Compiled:
    """The version, compiled once in each process."""
    return playbook.derived("notifier", _compile)


def _compile(playbook: Playbook) -> Compiled:
    rules = tuple(
        CompiledRule(
            rule,
            playbook.condition(rule.when) if rule.when else None,
            tuple((one.targets, playbook.condition(one.when) if one.when else None) for one in rule.audience),
        )
        for rule in playbook.document.messages.rules
    )
    listening = {event: tuple(one for one in rules if one.rule.listens(event)) for event in e.CATALOGUE}
    providers = {"inbox": (INBOX,)} | by_channel(playbook.document.channels)
    return Compiled(
        {event: found for event, found in listening.items() if found}, Catalogue(playbook.document.messages), providers
    )


class Marked(Protocol):
    """A message that is being sent: the provider that is called, and when it counts as lost."""

    @property
    def provider(self) -> str: ...
    @property
    def lease(self) -> datetime: ...


class Sending(Protocol):
    """The sender of the same process, as planning needs it (`sending.SendMessages`)."""

    def at_once(self, unit: Unit, rows: Sequence[Row], tickets: Mapping[int, Ticket]) -> Mapping[int, Marked]: ...


class PlanMessages:
    """The handler of tickets."""

    service = "notifier"
    kind = "ticket"

    def __init__(self, deps: Deps, sending: Sending | None = None, tables: Tables = store) -> None:
        self._deps, self._sending, self._tables = deps, sending, tables

    def handle(self, unit: Unit, batch: Sequence[Work]) -> list[Result]:
        """Plan a batch. Messages of the inbox are delivered by this commit itself; what `sending` can send now is marked by it, and
        called after it; others go to the sender's agenda."""
        from services.notifier.batch import PlannedBatch  # it asks this module for what is compiled

        return PlannedBatch(self._deps, unit, batch, self._tables, self._sending).run()
