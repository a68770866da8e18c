"""Whom an event is for, and at which address. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from shared.contracts import events as e
from shared.contracts.envelope import Recorded
from shared.directory.people import Directory, Person
from shared.playbook.messages import Target
from shared.ticket.state import Ticket

REQUESTER = "requester"
"""Recipient id of a ticket's requester, who is no person of the directory."""

ROBOT = "robot:"
"""Begins the recipient id of a group's robot or of an endpoint."""
_OF_AN_AGENT = (e.TicketAssigned, e.TicketOffered)
_CONTACT = {"mail": "email", "sms": "phone"}


class Recipient(msgspec.Struct, frozen=True):
    """Somebody to be told. `id` is a person's, `requester`, or `robot:NAME`. Made for each promise, so a struct."""

    id: str
    contacts: Mapping[str, str]
    name: str = ""
    locale: str | None = None
    zone: str | None = None

    def address(self, channel: str) -> str | None:
        """Where this channel reaches them; the inbox reaches every person."""
        if channel == "inbox":
            return self.id if self.id != REQUESTER and not self.id.startswith(ROBOT) else None
        return self.contacts.get(_CONTACT.get(channel, channel)) or self.contacts.get(channel)


def of_person(person: Person) -> Recipient:
    """A person of the directory."""
    return Recipient(person.id, person.contacts, person.name, person.locale, person.zone)


def resolve(targets: Iterable[Target], event: Recorded, ticket: Ticket, directory: Directory) -> Iterator[Recipient]:
    """Everybody these targets mean for this event, in order; the same person may come twice."""
    for target in targets:
        yield from _RESOLVERS[target.kind](target, event, ticket, directory)


def _people(ids: Iterable[str | None], directory: Directory) -> list[Recipient]:
    people = [directory.person(one) for one in ids]
    return [of_person(person) for person in people if person is not None and person.active]


def _assignee(_t: Target, event: Recorded, ticket: Ticket, directory: Directory) -> list[Recipient]:
    data = event.data
    if isinstance(data, _OF_AN_AGENT):
        return _people([data.agent], directory)
    return _people([data.owner if isinstance(data, e.NodeStalled) else ticket.assignee], directory)


def _previous(_t: Target, event: Recorded, ticket: Ticket, directory: Directory) -> list[Recipient]:
    data = event.data
    return _people([data.from_agent if isinstance(data, e.TicketTransferred) else ticket.last_assignee], directory)


def _group(target: Target, _e: Recorded, ticket: Ticket, directory: Directory) -> list[Recipient]:
    return [of_person(one) for one in directory.members(target.value or ticket.group)]


def _lead(target: Target, _e: Recorded, ticket: Ticket, directory: Directory) -> list[Recipient]:
    return _people([directory.lead(target.value or ticket.group)], directory)


def _manager(target: Target, event: Recorded, ticket: Ticket, directory: Directory) -> list[Recipient]:
    owner = ticket.assignee or getattr(event.data, "owner", None)
    return _people([directory.manager(owner, int(target.value or 1))], directory)


def _requester(_t: Target, _e: Recorded, ticket: Ticket, _d: Directory) -> list[Recipient]:
    asked = ticket.requester
    if asked.automated:
        return []
    contacts = {name: value for name, value in (("email", asked.email), ("phone", asked.phone)) if value}
    return [Recipient(REQUESTER, contacts, asked.name or "")]


def _mentioned(_t: Target, event: Recorded, _ticket: Ticket, directory: Directory) -> list[Recipient]:
    data = event.data
    return _people(data.people if isinstance(data, e.TicketMentioned) else (), directory)


def _targets(_t: Target, event: Recorded, _ticket: Ticket, directory: Directory) -> list[Recipient]:
    data = event.data
    if isinstance(data, e.EscalationStepped):
        return _people(dict.fromkeys((*data.targets, *data.reminded)), directory)
    return _people([data.fallback], directory) if isinstance(data, e.EscalationExhausted) else []


def _copies(_t: Target, event: Recorded, _ticket: Ticket, directory: Directory) -> list[Recipient]:
    data = event.data
    return _people(data.copies if isinstance(data, e.EscalationStepped) else (), directory)


def _urged(_t: Target, event: Recorded, _ticket: Ticket, directory: Directory) -> list[Recipient]:
    data = event.data
    return _people([data.urged] if isinstance(data, e.EscalationStepped) else (), directory)


def _webhooks(_t: Target, event: Recorded, _ticket: Ticket, _d: Directory) -> list[Recipient]:
    data = event.data
    names = data.webhooks if isinstance(data, e.EscalationStepped) else ()
    return [Recipient(f"{ROBOT}{name}", {"robot": name, "webhook": name}) for name in names]


def _task(_t: Target, event: Recorded, ticket: Ticket, directory: Directory) -> list[Recipient]:
    data = event.data
    if not isinstance(data, e.TaskOpened | e.TaskClosed):
        return []
    task = next((one for one in ticket.tasks if one.id == data.task), None)
    return _people((one.person for one in task.members) if task is not None else (), directory)


def _actor(_t: Target, event: Recorded, _ticket: Ticket, directory: Directory) -> list[Recipient]:
    return _people([event.actor.id if event.actor.kind == "person" else None], directory)


def _person(target: Target, _e: Recorded, _ticket: Ticket, directory: Directory) -> list[Recipient]:
    return _people([target.value], directory)


def _role(target: Target, _e: Recorded, _ticket: Ticket, directory: Directory) -> list[Recipient]:
    return _people(directory.role(target.value), directory)


def _robot(target: Target, *_: Any) -> list[Recipient]:
    name = f"{ROBOT}{target.value}"
    return [Recipient(name, {"robot": target.value, "webhook": target.value})]


def _watchers(_t: Target, _e: Recorded, ticket: Ticket, directory: Directory) -> list[Recipient]:
    return _people(ticket.watchers, directory)


_RESOLVERS: dict[str, Callable[[Target, Recorded, Ticket, Directory], list[Recipient]]] = {
    "assignee": _assignee,
    "previous_assignee": _previous,
    "group": _group,
    "lead": _lead,
    "manager": _manager,
    "requester": _requester,
    "watchers": _watchers,
    "mentioned": _mentioned,
    "targets": _targets,
    "copies": _copies,
    "urged": _urged,
    "webhooks": _webhooks,
    "task": _task,
    "actor": _actor,
    "person": _person,
    "role": _role,
    "robot": _robot,
}
