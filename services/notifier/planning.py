"""Which steps of a rule become messages now, which wait, which are cancelled, and why. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

import msgspec

from services.notifier.audience import Recipient, resolve
from shared.contracts.envelope import Recorded
from shared.directory.people import Directory
from shared.playbook.livefacts import live_facts
from shared.playbook.messages import Provider, Rule
from shared.ticket.state import Ticket

Condition = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A message rule with its conditions compiled; `audiences[i]` goes with `rule.audience[i]`."""

    rule: Rule
    when: Condition
    audiences: tuple[Condition, ...]


class Planned(msgspec.Struct, frozen=True):
    """One notification: `due_at` when its channel's turn comes; `reason` when it is suppressed."""

    event: Recorded
    rule: Rule
    recipient: Recipient
    channel: str
    due_at: datetime
    until: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A planned step as it is stored; what is asked of it when its turn comes."""

    id: int
    event_type: str
    rule: str
    recipient: str
    channel: str
    until: str | None
    due_at: datetime


def plan(
    events: Iterable[Recorded], ticket: Ticket, rules: Mapping[str, Sequence[CompiledRule]], directory: Directory
) -> Iterator[Planned]:
    """Notifications for new events: the first rule that fits each (event, recipient, channel) speaks."""
    facts: dict[str, Any] | None = None
    for event in events:
        listening = rules.get(event.type)
        if not listening:
            continue
        if facts is None:
            facts = live_facts(ticket)
        seen: set[tuple[str, str]] = set()
        for one in listening:
            if not one.when(facts):
                continue
            for planned in _steps(one, event, ticket, directory, facts):
                key = (planned.recipient.id, planned.channel)
                if key not in seen:
                    seen.add(key)
                    yield planned


def _steps(
    one: CompiledRule, event: Recorded, ticket: Ticket, directory: Directory, facts: Mapping[str, Any]
) -> Iterator[Planned]:
    for audience, when in zip(one.rule.audience, one.audiences, strict=True):
        if not when(facts):
            continue
        for recipient in resolve(audience.targets, event, ticket, directory):
            for step in one.rule.plan:
                due_at = event.recorded_at + step.wait if step.wait else event.recorded_at
                no_address = recipient.address(step.channel) is None
                reason = f"no address for {step.channel}" if no_address else None
                yield Planned(event, one.rule, recipient, step.channel, due_at, step.until, reason)


def over(waiting: Waiting, ticket: Ticket, reached: Mapping[tuple[str, str], str]) -> str | None:
    """Why a waiting step is no longer wanted, or None. `reached` is the furthest state by (rule, recipient) of earlier messages."""
    state = reached.get((waiting.rule, waiting.recipient), "")
    match waiting.until:
        case "accepted" if ticket.accepted or not ticket.is_open:
            return "accepted meanwhile"
        case "acknowledged" if ticket.escalation is None:
            return "acknowledged meanwhile"
        case "assigned" if ticket.assignee is not None:
            return "assigned meanwhile"
        case "closed" if not ticket.is_open:
            return "closed meanwhile"
        case "delivered" if state in ("delivered", "read"):
            return "delivered meanwhile"
        case "read" if state == "read":
            return "read meanwhile"
    return "the ticket is over" if ticket.status in ("closed", "merged") and waiting.until else None


def serving(providers: Sequence[Provider], recipient: str) -> Sequence[Provider]:
    """Who may carry a channel's messages to somebody: a robot or endpoint that a provider is named for, that one alone."""
    if not recipient.startswith("robot:"):
        return providers
    return [one for one in providers if one.name == recipient.removeprefix("robot:")] or providers


def address_of(recipient: Recipient, channel: str, providers: Sequence[Provider]) -> str | None:
    """Where a channel reaches somebody; an endpoint that a chain calls is the `base_url` of the provider of its name."""
    address = recipient.address(channel)
    if recipient.id != f"robot:{address}":
        return address
    return next((one.base_url for one in providers if (one.name, one.driver) == (address, "webhook")), address)


def choose(
    providers: Sequence[Provider], message_id: int, shares: Mapping[str, float] = MappingProxyType({})
) -> Provider | None:
    """A provider for a message by weight times its share (1 when not named), the same for the same id and shares."""
    if not providers:
        return None
    if len(providers) == 1:
        return providers[0]
    parts = [round(one.weight * 100 * shares.get(one.name, 1.0)) for one in providers]
    total = sum(parts)
    if total == 0:
        return providers[0]
    place = message_id * 2_654_435_761 % 2**32 % total
    for one, part in zip(providers, parts, strict=True):
        place -= part
        if place < 0:
            return one
    return providers[-1]
