"""A batch of tickets: whom new events are for, which waiting steps' turn has come. One transaction; nothing is sent here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

from services.notifier import metrics, store
from services.notifier.audience import REQUESTER, Recipient, of_person, resolve
from services.notifier.planning import CompiledRule, Planned, choose, over, plan
from services.notifier.templates import Catalogue
from shared.contracts import events as e
from shared.contracts.envelope import New
from shared.directory.people import Directory
from shared.ledger.process import Deps
from shared.ledger.unit import Result, Unit, Work
from shared.playbook.messages import Provider, Target, by_channel
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
            playbook.condition(rule.when),
            tuple(playbook.condition(audience.when) for audience in rule.audience),
        )
        for rule in playbook.document.messages.rules
    )
    listening = {event: tuple(one for one in rules if one.rule.listens(event)) for event in e.CATALOGUE}
    providers = {"inbox": (INBOX,)} | by_channel(playbook.document.channels)
    return Compiled(
        {event: found for event, found in listening.items() if found}, Catalogue(playbook.document.messages), providers
    )


class PlanMessages:
    """The handler of tickets."""

    service = "notifier"
    kind = "ticket"

    def __init__(self, deps: Deps, tables: store.Tables = store) -> None:
        self._deps, self._tables = deps, tables

    def handle(self, unit: Unit, batch: Sequence[Work]) -> list[Result]:
        """Plan a batch. Messages of the inbox are delivered by this commit itself; others go to the sender's agenda."""
        return _Batch(self._deps, unit, batch, self._tables).run()


class _Batch:
    def __init__(self, deps: Deps, unit: Unit, batch: Sequence[Work], tables: store.Tables) -> None:
        self.deps, self.unit, self.batch, self.tables = deps, unit, batch, tables
        self.directory: Directory = deps.directory.get(unit.connection)
        self.changes = store.Changes()
        self.ids: list[int] = []
        self.inbox: list[int] = []
        self.send: dict[int, tuple[str, dict[str, Any]]] = {}
        self.rules: dict[int, Compiled] = {}

    def run(self) -> list[Result]:
        unit, seen = self.unit, [work.id for work in self.batch if work.seen > 0]
        waiting = self.tables.waiting(unit.connection, seen) if seen else {}
        reached = self.tables.reached(unit.connection, list(waiting)) if waiting else {}
        planned = [(work, list(self._plan(work))) for work in self.batch]
        count = 2 * sum(len(found) for _, found in planned) + sum(len(found) for found in waiting.values())
        self.ids = self.deps.ids.take(unit.connection, count) if count else []
        results = []
        for work, found in planned:
            dues = [self._keep(work, one) for one in found]
            dues += self._turn(work.ticket, waiting.get(work.id, []), reached.get(work.id, {}))
            results.append(Result(work, (), min((due for due in dues if due is not None), default=None)))
        self._deliver(self.tables.plan(unit.connection, self.changes))
        return results

    def _compiled(self, number: int) -> Compiled:
        if number not in self.rules:
            self.rules[number] = compiled(self.deps.playbooks.get(self.unit.connection, number))
        return self.rules[number]

    def _plan(self, work: Work) -> Sequence[Planned]:
        return list(plan(work.events, work.ticket, self._compiled(work.ticket.playbook).rules, self.directory))

    def _keep(self, work: Work, one: Planned) -> datetime | None:
        """A notification row; a message where its turn is now. Returns when its turn comes otherwise."""
        ticket, now = work.ticket, self.unit.now
        number = self.ids.pop()
        message_id, state, reason, due_at = None, "planned", one.reason, None
        if reason is not None:
            state = "suppressed"
        elif one.due_at > now:
            due_at = one.due_at
        else:
            event = msgspec.to_builtins(one.event.data)
            message_id, reason = self._message(ticket, one.rule.name, one.event.type, event, one.recipient, one.channel)
            state = "suppressed" if message_id is None else "sent"
        self.changes.notifications.append(
            {
                "id": number,
                "ticket_id": ticket.id,
                "event_kind": "ticket",
                "event_item": one.event.id,
                "event_version": one.event.version,
                "event_type": one.event.type,
                "rule": one.rule.name,
                "playbook": ticket.playbook,
                "recipient": one.recipient.id,
                "channel": one.channel,
                "state": state,
                "reason": reason,
                "until": one.until,
                "due_at": due_at,
                "message_id": message_id,
                "created_at": now,
            }
        )
        if state == "suppressed":
            self.unit.after_commit.append(metrics.DELIVERIES.labels(one.channel, "none", "suppressed").inc)
        return due_at

    def _turn(
        self, ticket: Ticket, waiting: list[tuple[Any, Any]], reached: Mapping[tuple[str, str], str]
    ) -> list[datetime | None]:
        """Waiting steps: cancelled by what happened meanwhile, sent when due, else waited for."""
        dues: list[datetime | None] = []
        for step, row in waiting:
            why = over(step, ticket, reached)
            message_id, state = None, "cancelled"
            if why is None:
                if step.due_at > self.unit.now:
                    dues.append(step.due_at)
                    continue
                message_id, why = self._late(ticket, row)
                state = "suppressed" if message_id is None else "sent"
            self.changes.turned.append(
                {"id": step.id, "state": state, "reason": why, "message_id": message_id, "updated_at": self.unit.now}
            )
        return dues

    def _late(self, ticket: Ticket, row: Any) -> tuple[int | None, str | None]:
        recipient = self._recipient(ticket, row.recipient)
        if recipient is None:
            return None, "nobody of that name any more"
        data = self.tables.event(self.unit.connection, row.event_kind, row.event_item, row.event_version)
        return self._message(ticket, row.rule, row.event_type, data, recipient, row.channel)

    def _recipient(self, ticket: Ticket, name: str) -> Recipient | None:
        if name == REQUESTER:
            return next(iter(resolve([Target("requester", "")], None, ticket, self.directory)), None)  # type: ignore[arg-type]
        if name.startswith("robot:"):
            return next(iter(resolve([Target("robot", name[6:])], None, ticket, self.directory)), None)  # type: ignore[arg-type]
        person = self.directory.person(name)
        return None if person is None or not person.active else of_person(person)

    def _message(
        self, ticket: Ticket, rule_name: str, event_type: str, event: dict[str, Any], recipient: Recipient, channel: str
    ) -> tuple[int | None, str | None]:
        """A message now: (its id, None), or (None, why not)."""
        known, now = self._compiled(ticket.playbook), self.unit.now
        address, number = recipient.address(channel), self.ids.pop()
        provider = choose(known.providers.get(channel, ()), number)
        if address is None:
            return None, f"no address for {channel}"
        if provider is None:
            return None, f"no provider serves {channel}"
        rule = next(one.rule for one in known.rules[event_type] if one.rule.name == rule_name)
        inbox = provider.driver == "inbox"
        if inbox:
            self.inbox.append(number)
        row = {
            "id": number,
            "version": 1 if inbox else 0,
            "ticket_id": ticket.id,
            "rule": rule_name,
            "playbook": ticket.playbook,
            "event_type": event_type,
            "event": event,
            "recipient": recipient.id,
            "channel": channel,
            "provider": provider.name,
            "address": address,
            "locale": recipient.locale,
            "urgency": rule.urgency,
            "on_unknown": rule.on_unknown,
            "state": "sent" if inbox else "planned",
            "valid_until": None if rule.valid_for is None else now + rule.valid_for,
            "attempts": [{"at": now, "provider": provider.name, "outcome": "accepted"}] if inbox else [],
            "provider_id": str(number) if inbox else None,
            "created_at": now,
        }
        self.changes.messages.append(row)
        self.send[number] = (rule.urgency, row)
        return number, None

    def _deliver(self, fresh: set[int]) -> None:
        """Events of what this commit delivers; agenda rows of what the sender has to do."""
        inbox = set(self.inbox)
        for number in sorted(fresh):
            urgency, row = self.send[number]
            if number in inbox:
                sent = e.DeliverySent(
                    ticket=row["ticket_id"], recipient=row["recipient"], channel=row["channel"], provider=row["provider"],
                    attempt=1, provider_id=row["provider_id"],
                )  # fmt: skip
                self.unit.append("delivery", number, 0, [New(sent)], correlation=f"ticket-{row['ticket_id']}")
                self.unit.after_commit.append(
                    metrics.DELIVERIES.labels(row["channel"], row["provider"], "accepted").inc
                )
                self.unit.after_commit.append(partial(metrics.DELIVERY_SECONDS.labels(row["channel"]).observe, 0.0))
            else:
                self.unit.wake("notifier", "delivery", number, urgency)
