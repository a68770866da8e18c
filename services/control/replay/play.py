"""Plays what a log gives: each instant one step, openings and acts in the log's order, then whoever decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import msgspec

from services.control.replay.history import REOPEN, RESUME, TRANSFER, Given, Step
from services.control.replay.people import FIELD, People, requester
from services.control.replay.world import World
from services.gateway.actions import surroundings
from services.gateway.intake import body_digest
from shared.contracts import intake as wire
from shared.contracts.envelope import Actor, New
from shared.contracts.strict import Unacceptable, convert
from shared.directory.people import Directory
from shared.playbook import flows
from shared.playbook.intakecheck import check_fields
from shared.playbook.lanes import lane_rules
from shared.playbook.model import Playbook
from shared.ticket import commands as c
from shared.ticket.state import Ticket

Refuse = Callable[[Given, str], None]
SOURCE = "log"
NOBODY = "somebody"


def message(given: Given) -> wire.TicketIn:
    """An opening as an intake message. Raises `Unacceptable` when intake would refuse it."""
    assert given.opening is not None
    ticket: dict[str, Any] = {"source": SOURCE, **given.opening.ticket, "external_id": given.case}
    if "requester" in ticket:
        ticket["requester"] = requester(ticket["requester"])
    if given.group is not None:
        ticket["fields"] = {**ticket.get("fields", {}), FIELD: given.group}
    return convert(ticket, wire.TicketIn)


def command(act: str, given: Given, groups: dict[str, str]) -> c.AnyCommand:
    """An act of the log as a person's command."""
    match act:
        case "accept":
            return c.Accept()
        case "reply":
            return c.Reply(text="")
        case "customer_reply":
            return c.CustomerReply(text="")
        case "note":
            return c.Note(text="")
        case "wait":
            return c.Pause(reason="")
        case "resolve":
            return c.Resolve(resolution="")
        case "close":
            return c.Close(reason="")
        case _ if act == TRANSFER and given.group is not None:
            return c.Transfer(group=groups[given.group], reason="")
        case _ if act == RESUME:
            return c.Resume()
        case _ if act == REOPEN:
            return c.Reopen(reason="")
    raise ValueError(f"a history has no act {act!r}")


def actor(act: str, given: Given, ticket: Ticket, persons: dict[str, str]) -> Actor:
    """Who does it: the customer, or whoever has the ticket; the log's own person where nobody has it."""
    if act == "customer_reply":
        return Actor(kind="customer", id=ticket.requester.id or NOBODY)
    who = ticket.assignee or persons.get(given.person or "") or NOBODY
    return Actor(kind="person", id=who)


@dataclass(slots=True)
class Played:
    """What became of what was given."""

    opened: int = 0
    acts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


class Player:
    """Plays a history in a world in memory. `refuse` is told openings that intake refuses."""

    def __init__(self, world: World, people: People, directory: Directory, refuse: Refuse) -> None:
        self._world, self._people, self._refuse = world, people, refuse
        self._directory = directory
        self._playbook: Playbook = world.playbook
        self._around = surroundings(directory, world.playbook, world.now)
        self._lanes = lane_rules(world.playbook)
        self._ids: dict[str, int] = {}
        self.played = Played()

    def play(self, steps: Iterable[Step], tell: Callable[[datetime, int], None] = lambda _at, _rows: None) -> None:
        """Everything, instant by instant; `tell` hears where it is. What still waits after the log's last row is left."""
        world = self._world
        for at, many in steps:
            while (due := world.next_due()) is not None and due < at:
                world.move_to(due)
            world.move_to(at)
            for given in many:
                self._give(given)
            world.settle()
            tell(at, len(many))

    def _give(self, given: Given) -> None:
        if given.opening is not None:
            self._open(given)
        number = self._ids.get(given.case)
        ticket = None if number is None else self._world.ticket(number)
        if number is None or ticket is None:
            return
        for act in given.acts:
            ticket = self._act(act, given, ticket)
        if given.last:
            del self._ids[given.case]
            self._world.last(number)

    def _open(self, given: Given) -> None:
        try:
            posted = message(given)
            wire.check(posted, self._world.now)
            check_fields(self._playbook, posted)
        except Unacceptable as error:
            self._refuse(given, f"{error.fault.pointer or '/'}: {error.fault.reason}")
            return
        who = Actor(kind="customer", id=posted.requester.id if posted.requester and posted.requester.id else NOBODY)
        lane = self._lanes.at_intake(msgspec.to_builtins(posted))
        unit = self._world.unit(GATEWAY, given=True)
        self._ids[given.case] = self._world.open(
            unit, wire.opened(posted, lane), who, given.case, body_digest(posted)
        ).id
        self.played.opened += 1

    def _act(self, act: str, given: Given, ticket: Ticket) -> Ticket:
        who = actor(act, given, ticket, self._people.persons)
        kind = ticket.flow.flow if ticket.in_flow and ticket.flow is not None else ticket.kind
        course = flows.course(self._playbook, kind, self._world.now, self._directory)
        around = replace(self._around, now=self._world.now, course=course)
        outcome = c.decide(ticket, command(act, given, self._people.groups), who, around)
        if isinstance(outcome, c.Refused):
            self.played.refused[act] += 1
            return ticket
        self.played.acts[act] += 1
        unit = self._world.unit(who, given=True, correlation=given.case)
        return unit.append_to_ticket(ticket, tuple(New(data) for data in outcome.events))


GATEWAY = Actor(kind="service", id="gateway")
