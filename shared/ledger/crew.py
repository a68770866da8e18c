"""Services that share a process decide an item together: one claim, one look at its events, one transaction, one save.

The claim's lock covers all agenda rows of an item, so whoever holds it may answer for every service that is here. A batch that one
service claimed goes round: its handler first, then each service that was due anyway or was woken by what the others appended, until
nobody is left. What is written is what the services would have written one after the other; what is saved is the claims, the
readings and the rewritten rows between them.

Alone again: an item whose agenda row for a service has failed, crashed or is in quarantine is not handled here for that service,
and a batch that fails is done over service by service (`Lane`), so that a poisonous item is found and set aside for the service
that cannot stand it and for nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from shared.contracts.envelope import Actor, Recorded
from shared.ledger import sql
from shared.ledger.claim import events_after
from shared.ledger.handler import Handler
from shared.ledger.unit import Unit, Work
from shared.runtime import arrays, copying
from shared.ticket.state import Ticket

ROUNDS = 4
"""How often one batch may go round; what is woken after that stays due for the next claim."""


@dataclass(frozen=True, slots=True)
class Took:
    """What a service did in one batch: how many items, the next instant it armed, and how late those were that a timer brought."""

    service: str
    count: int
    armed: datetime | None
    late: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Crew:
    """The services of one kind of item in one process, in the order in which they decide."""

    handlers: tuple[Handler, ...]
    early: bool = False
    """A new ticket that comes alone is somebody's a few milliseconds sooner: what the first service decides is committed before the
    others look. That is dearer, and only done while there is nothing else to do."""

    def waits(self, first: str, claimed: Sequence[Work]) -> bool:
        """Whether the others let `first` commit what it claimed before they decide."""
        return self.early and len(claimed) == 1 and claimed[0].seen == 0 and first == self.handlers[0].service

    def handle(
        self, unit: Unit, first: str, claimed: Sequence[Work], between: Callable[[], None] | None = None
    ) -> list[Took]:
        """Let every service decide that has something to decide about the batch that `first` claimed.

        `between` is called after each service's decision while others are still to decide; it may raise to give the batch up.
        """
        return _Turn(self, unit, first, claimed).run(between)


@dataclass(slots=True)
class _Row:
    """A service's agenda row of one item: what it has seen, when it is due; `known` False: there is none yet."""

    seen: int = 0
    due_at: datetime | None = None
    sound: bool = True
    known: bool = False


@dataclass(slots=True)
class _Item:
    """One item of the batch as it is at this moment of the turn."""

    work: Work
    ticket: Ticket
    log: list[Recorded] = field(default_factory=list)
    """Events that somebody here has not seen, and all that were appended since; ascending versions."""
    rows: dict[str, _Row] = field(default_factory=dict)


class _Turn:
    def __init__(self, crew: Crew, unit: Unit, first: str, claimed: Sequence[Work]) -> None:
        self._crew, self._unit, self._first = crew, unit, first
        self._services = tuple(handler.service for handler in crew.handlers)
        self._items = {work.id: _Item(work, work.ticket) for work in claimed}
        self._todo: dict[str, dict[int, None]] = {service: {} for service in self._services}
        self._todo[first] = dict.fromkeys(self._items)
        self._took: list[Took] = []

    def run(self, between: Callable[[], None] | None = None) -> list[Took]:
        self._read_rows(self._unit.connection)
        self._read_events(self._unit.connection)
        for _ in range(ROUNDS):
            copying.send(self._unit.connection)  # who comes again reads what it wrote the last time
            for handler in self._crew.handlers:
                ids = self._todo[handler.service]
                if ids:
                    if between is not None and self._took:
                        between()
                    self._todo[handler.service] = {}
                    self._took.append(self._decide(handler, list(ids)))
            if not any(self._todo.values()):
                break
        for service, ids in self._todo.items():
            for number in ids:
                self._unit.wake(service, "ticket", number, self._items[number].ticket.lane)
        return self._took

    def _read_rows(self, connection: Connection) -> None:
        now = self._unit.now
        for item in self._items.values():
            item.rows = {service: _Row() for service in self._services}
            item.rows[self._first] = _Row(item.work.seen, item.work.due_at, known=True)
        others = [service for service in self._services if service != self._first]
        found = connection.exec_driver_sql(
            sql.SIBLINGS, {"kind": "ticket", "ids": arrays.Longs(list(self._items)), "services": others}
        )
        for service, number, seen, due_at, sound in found:
            self._items[number].rows[service] = _Row(seen, due_at, sound, known=True)
            if sound and due_at is not None and due_at <= now:
                self._todo[service][number] = None

    def _read_events(self, connection: Connection) -> None:
        """Once for all: from the earliest version that anybody here has not seen."""
        low = {number: min(row.seen for row in item.rows.values()) for number, item in self._items.items()}
        behind = {number: seen for number, seen in low.items() if seen < self._items[number].work.version}
        if behind:
            for number, events in events_after(connection, "ticket", behind).items():
                self._items[number].log = events

    def _decide(self, handler: Handler, ids: Sequence[int]) -> Took:
        unit, service = self._unit, handler.service
        unit.actor = Actor(kind="service", id=service)
        batch = [self._work(service, self._items[number]) for number in ids]
        armed: datetime | None = None
        for result in handler.handle(unit, batch):
            item = self._items[result.work.id]
            row = item.rows[service]
            appended = len(unit.events)
            ticket = unit.settle(service, result, fresh=not row.known)
            assert ticket is not None
            item.ticket = ticket
            item.log += unit.events[appended:]
            # a row stays fresh until it is written, however often this batch comes back to it
            row.seen, row.due_at = ticket.version, result.due_at
            if result.due_at is not None and (armed is None or result.due_at < armed):
                armed = result.due_at
        self._wake()
        late = tuple((unit.now - work.due_at).total_seconds() for work in batch if not work.events)
        return Took(service, len(batch), armed, late)

    def _work(self, service: str, item: _Item) -> Work:
        row, claimed = item.rows[service], item.work
        events = tuple(event for event in item.log if event.version > row.seen)
        due_at = row.due_at if row.due_at is not None and row.due_at <= self._unit.now else self._unit.now
        return Work(
            "ticket", claimed.id, item.ticket.lane, item.ticket.version, row.seen, 0, 0, due_at, item.ticket, events
        )

    def _wake(self) -> None:
        """Whom the last decisions woke, as far as they are of this crew and stand well with the item."""
        for service, number in self._unit.take_wakes("ticket", self._services, self._items):
            item = self._items[number]
            if item.rows[service].sound:
                self._todo[service][number] = None
            else:
                self._unit.wake(service, "ticket", number, item.ticket.lane)
