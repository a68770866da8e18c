"""Which steps of a rule become messages now, which wait, which are cancelled, and why. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

import msgspec

from services.notifier.audience import ROBOT, Recipient, resolve
from shared.contracts.envelope import Recorded
from shared.directory.people import Directory
from shared.playbook.livefacts import live_facts
from shared.playbook.messages import Provider, Rule, Target
from shared.ticket.state import Ticket

Condition = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A message rule with its conditions compiled (None: none is made), and whom it tells, each part under its own."""

    rule: Rule
    when: Condition | None
    audiences: tuple[tuple[tuple[Target, ...], Condition | None], ...]


class Planned(msgspec.Struct, frozen=True):
    """One notification: `due_at` when its channel's turn comes; `address` where the recipient has one for the channel."""

    event: Recorded
    rule: Rule
    recipient: Recipient
    channel: str
    due_at: datetime
    until: str | None
    address: str | None


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
) -> list[Planned]:
    """Notifications for new events: the first rule that fits each (event, recipient, channel) speaks."""
    facts: dict[str, Any] = {}  # gathered once a condition asks for them

    def holds(when: Condition | None) -> bool:
        if when is not None and not facts:
            facts.update(live_facts(ticket))
        return when is None or when(facts)

    found: list[Planned] = []
    for event in events:
        seen: set[tuple[str, str]] = set()
        for one in rules.get(event.type, ()):
            if holds(one.when):
                found += _steps(one, event, ticket, directory, holds, seen)
    return found


def _steps(
    one: CompiledRule,
    event: Recorded,
    ticket: Ticket,
    directory: Directory,
    holds: Callable[[Condition | None], bool],
    seen: set[tuple[str, str]],
) -> Iterator[Planned]:
    rule, at = one.rule, event.recorded_at
    for targets, when in one.audiences:
        if not holds(when):
            continue
        for recipient in resolve(targets, event, ticket, directory):
            for step in rule.plan:
                channel = step.channel
                if (recipient.id, channel) not in seen:
                    seen.add((recipient.id, channel))
                    due_at = at + step.wait if step.wait else at
                    yield Planned(event, rule, recipient, channel, due_at, step.until, recipient.address(channel))


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
    if not recipient.startswith(ROBOT):
        return providers
    return [one for one in providers if one.name == recipient.removeprefix(ROBOT)] or providers


def address_of(recipient: str, address: str | None, providers: Sequence[Provider]) -> str | None:
    """Where to reach a recipient whose own is `address`; of an endpoint that a chain calls, its provider's `base_url`."""
    if recipient != f"{ROBOT}{address}":
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
