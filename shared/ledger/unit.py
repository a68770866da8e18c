"""A unit of work: one transaction, its business now, and all that it appends, written by one statement at the end."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, TextClause, text

from shared.contracts import events as e
from shared.contracts.envelope import Actor, New, Recorded
from shared.ledger import sql
from shared.ledger.kinds import KINDS, WAKES
from shared.runtime import arrays, copying, logging
from shared.ticket import projection
from shared.ticket.state import Ticket

_encoder = msgspec.json.Encoder()
_actor_decoder = msgspec.json.Decoder(Actor)
_reason_decoder = msgspec.json.Decoder(dict[str, Any])
_data_decoders = {name: msgspec.json.Decoder(struct) for name, struct in e.CATALOGUE.items()}
_ticket_decoder = msgspec.json.Decoder(Ticket)


def dumps(rows: Any) -> str:
    """JSON text for a `json_to_recordset` parameter. A NUL never gets here: the edge refuses it."""
    return _encoder.encode(rows).decode()


def decode_ticket(state: str | bytes) -> Ticket:
    """A ticket row's `state`."""
    return _ticket_decoder.decode(state)


def recorded(kind: str, row: Any) -> Recorded:
    """A row of `EVENTS_SINCE` as an event."""
    return Recorded(
        kind=kind,
        id=row.id,
        version=row.version,
        type=row.type,
        data=_data_decoders[row.type].decode(row.data),
        happened_at=row.happened_at,
        recorded_at=row.recorded_at,
        actor=_actor_decoder.decode(row.actor),
        given=row.given,
        playbook=row.playbook,
        correlation=row.correlation,
        position=row.position,
        reason=_reason_decoder.decode(row.reason) if row.reason is not None else None,
    )


class Work(msgspec.Struct, frozen=True):
    """One claimed item: its row, what it has not seen yet, and how often it failed."""

    kind: str
    id: int
    lane: str
    version: int
    seen: int
    failures: int
    crashes: int
    due_at: datetime
    item: Any
    events: tuple[Recorded, ...] = ()

    @property
    def ticket(self) -> Ticket:
        """The item as a ticket; only for kind `ticket` (not looked at here: it is asked twenty times for each)."""
        ticket: Ticket = self.item
        return ticket


class Result(msgspec.Struct, frozen=True):
    """What a handler made of one claimed item: events to append, and when this service wants to see it again."""

    work: Work
    events: tuple[New, ...] = ()
    due_at: datetime | None = None
    state: Any = None
    """New state of a generic item (None: unchanged); tickets are projected from their events."""
    ticket: Ticket | None = None
    """The ticket after these events, where the handler has seen it so: it is not projected a second time."""


class Due(msgspec.Struct):
    """An agenda row as it is written: when `service` looks at the item again, and which version it has seen."""

    service: str
    kind: str
    id: int
    lane: str
    due_at: datetime | None
    seen: int = 0
    fresh: bool = False
    """The service has no agenda row of this item yet: it is copied in, not looked for."""


@dataclass(slots=True)
class Unit:
    """One transaction's gathered writes. `now` is business time at its beginning; `playbook` the version decided under."""

    connection: Connection
    now: datetime
    actor: Actor
    playbook: int
    given: bool = False
    correlation: str = ""
    woken: set[tuple[str, str]] = field(default_factory=set)
    """(service, lane) pairs to ring after the commit; complete after `flush`."""
    after_commit: list[Callable[[], None]] = field(default_factory=list)
    """Called in order once the transaction is committed (a sender takes over what was marked as being sent)."""
    opened: list[Recorded] = field(default_factory=list)
    """First events of tickets opened here: they were written already."""
    events: list[Recorded] = field(default_factory=list)
    """What was appended here, in order; written by `flush`, which also gives each its position."""
    _tickets: dict[int, Ticket] = field(default_factory=dict)
    _items: list[dict[str, Any]] = field(default_factory=list)
    _wakes: dict[tuple[str, str, int], Due] = field(default_factory=dict)
    _selves: dict[tuple[str, str, int], Due] = field(default_factory=dict)

    # ---- gathering ---------------------------------------------------------------------------------------------------

    def append(
        self,
        kind: str,
        item_id: int,
        version: int,
        events: Iterable[New],
        *,
        correlation: str = "",
        actor: Actor | None = None,
    ) -> int:
        """Gather events of a locked (or brand-new) item after its `version`; return the item's new version."""
        for new in events:
            version += 1
            self.events.append(self.event(kind, item_id, version, new, correlation, actor))
        return version

    def append_to_ticket(
        self,
        ticket: Ticket,
        events: tuple[New, ...],
        *,
        correlation: str = "",
        actor: Actor | None = None,
        by: str | None = None,
        after: Ticket | None = None,
    ) -> Ticket:
        """Append to a locked ticket: its projection moves, and the services woken by the events are told (all but `by`).

        `after`: the ticket as these events leave it, where the caller knows it.
        """
        if not events:
            return ticket
        version = self.append("ticket", ticket.id, ticket.version, events, correlation=correlation, actor=actor)
        if after is None:
            for new in events:
                ticket = projection.evolve(ticket, new.data, new.happened_at or self.now, ticket.version + 1)
        else:
            assert after.version == version
            ticket = after
        self._tickets[ticket.id] = ticket
        for service in {one for new in events for one in WAKES[new.data.type]}:
            if service != by:
                self.wake(service, "ticket", ticket.id, ticket.lane)
        return ticket

    def wake(
        self, service: str, kind: str, item_id: int, lane: str, due_at: datetime | None = None, *, fresh: bool = False
    ) -> None:
        """Put a locked (or brand-new) item on a service's agenda, now or at `due_at`; the earliest instant wins.

        `fresh`: this transaction makes the item, and asks once: its row is copied in, not looked for.
        """
        at = self.now if due_at is None else due_at
        if fresh:
            self._selves[service, kind, item_id] = Due(service, kind, item_id, lane, at, 0, True)
            return
        known = self._wakes.get((service, kind, item_id))
        if known is None or known.due_at is None or at < known.due_at:
            self._wakes[service, kind, item_id] = Due(service, kind, item_id, lane, at)

    def settle(self, service: str, result: Result, *, fresh: bool = False) -> Ticket | None:
        """Gather what a handler made of a claimed item, and its agenda row's own next instant; returns the ticket after it.

        `fresh`: the service has no agenda row of this item yet.
        """
        work, lane, version, ticket = result.work, result.work.lane, result.work.version, None
        if work.kind == "ticket":
            correlation = work.events[-1].correlation if work.events else ""
            ticket = self.append_to_ticket(
                work.ticket, result.events, correlation=correlation, by=service, after=result.ticket
            )
            lane, version = ticket.lane, ticket.version
        elif result.events or result.state is not None:
            version = self.append(work.kind, work.id, work.version, result.events)
            self.bump(work.kind, work.id, version, result.state)
        # its own events count as seen: `version` covers them
        self._selves[service, work.kind, work.id] = Due(
            service, work.kind, work.id, lane, result.due_at, version, fresh
        )
        return ticket

    def bump(self, kind: str, item_id: int, version: int, state: Any = None) -> None:
        """Record a locked item's new version after `append`. A service whose table holds the item's row writes it there itself."""
        if KINDS[kind].stateful:
            self._items.append({"id": item_id, "version": version, "state": state})

    def take_wakes(self, kind: str, services: Container[str], ids: Container[int]) -> list[tuple[str, int]]:
        """Take back wake-ups that are due now, as (service, id): the caller looks at the items in this transaction."""
        taken = [
            key
            for key, row in self._wakes.items()
            if key[0] in services
            and key[1] == kind
            and key[2] in ids
            and row.due_at is not None
            and row.due_at <= self.now
        ]
        for key in taken:
            del self._wakes[key]
        return [(service, item_id) for service, _, item_id in taken]

    def event(self, kind: str, item_id: int, version: int, new: New, correlation: str, actor: Actor | None) -> Recorded:
        """An event as it is written, but for its position."""
        data = new.data
        return Recorded(
            kind, item_id, version, data.type, data, new.happened_at or self.now, self.now, actor or self.actor,
            self.given, self.playbook, correlation or self.correlation or origin(kind, item_id, new), 0, new.reason,
        )  # fmt: skip

    def rouse(self, service: str, ids: list[int]) -> None:
        """Put tickets that this transaction does not hold on a service's agenda now, as far as they are free at the moment.

        Best effort: one that is busy is left out, so whoever relies on this looks again from time to time.
        """
        if ids:
            rows = self.connection.exec_driver_sql(sql.ROUSE, {"ids": ids, "service": service})
            self.woken.update((service, row.lane) for row in rows)

    def committed(self) -> None:
        """Whoever commits this unit says so: what waited for it (senders, counters) goes ahead, the trail is written."""
        for call in self.after_commit:
            call()
        if logging.trailing():
            logging.trail([_line(one) for one in (*self.opened, *self.events)])

    # ---- writing -----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write all that was gathered. Called once, before the commit."""
        connection = self.connection
        if self._items:
            copying.write(connection, sql.SAVE_ITEMS, {"rows": dumps(self._items)})
        for key in self._wakes.keys() & self._selves.keys():
            # one row is written once in a statement: what somebody else asked for comes on top of its own answer
            row, wanted = self._selves[key], self._wakes.pop(key).due_at
            row.due_at = wanted if row.due_at is None or wanted is None else min(row.due_at, wanted)
        for rows in (self._wakes, self._selves):
            for row in rows.values():
                if row.due_at is not None and row.due_at <= self.now:
                    self.woken.add((row.service, row.lane))
        copying.copy(connection, sql.EVENTS, _event_lines(self.events))
        if self._tickets:
            copying.write(connection, sql.SAVE_TICKETS, _ticket_columns(list(self._tickets.values())))
        if self._wakes:
            # sorted, so that two transactions never take agenda rows of new items in opposite order
            wakes = sorted(self._wakes.values(), key=lambda row: (row.kind, row.id, row.service))
            copying.write(connection, sql.WAKE, _agenda_columns(wakes))
        fresh: list[Due] = []
        known: list[Due] = []
        gone: list[Due] = []
        for row in self._selves.values():
            if row.due_at is None and KINDS[row.kind].leaves:
                gone.append(row)
            else:
                (fresh if row.fresh else known).append(row)
        copying.copy(connection, sql.FRESH, _agenda_lines(fresh))
        if known:
            columns = _agenda_columns(known) | {"seen": arrays.Ints([row.seen for row in known])}
            copying.write(connection, sql.SETTLE, columns)
        if gone:
            copying.write(connection, sql.LEAVE, _keys(gone))
        copying.send(connection)


def origin(kind: str, item_id: int, new: New) -> str:
    """What ties an event to others that no request set off: the ticket it is about, else its own item."""
    ticket = getattr(new.data, "ticket", None)
    return f"{kind}-{item_id}" if ticket is None else f"ticket-{ticket}"


def _line(event: Recorded) -> dict[str, Any]:
    """An event as a line of the trail."""
    ticket = event.id if event.kind == "ticket" else getattr(event.data, "ticket", None)
    return {
        "type": event.type,
        "ticket": None if ticket is None else str(ticket),
        "event_id": f"{event.kind}-{event.id}-{event.version}",
        "correlation": event.correlation,
        "actor": f"{event.actor.kind}:{event.actor.id}",
    }


def _event_lines(events: Sequence[Recorded]) -> list[bytes]:
    """Events as COPY takes them."""
    instants: dict[datetime, bytes] = {}
    actors: dict[Actor, bytes] = {}
    lines = []
    for one in events:
        happened, recorded_at, actor = one.happened_at, one.recorded_at, one.actor
        if happened not in instants:
            instants[happened] = copying.instant(happened)
        if recorded_at not in instants:
            instants[recorded_at] = copying.instant(recorded_at)
        if actor not in actors:
            actors[actor] = copying.json(actor)
        lines.append(
            copying.line(
                one.kind.encode(),
                b"%d" % one.id,
                b"%d" % one.version,
                one.type.encode(),
                instants[happened],
                instants[recorded_at],
                actors[actor],
                copying.boolean(one.given),
                b"%d" % one.playbook,
                copying.text(one.correlation),
                copying.json(one.reason),
                copying.json(one.data),
            )
        )
    return lines


def _ticket_columns(tickets: Sequence[Ticket]) -> dict[str, arrays.Column]:
    return {
        "ids": arrays.Longs([one.id for one in tickets]),
        "versions": arrays.Ints([one.version for one in tickets]),
        "statuses": arrays.Texts([one.status for one in tickets]),
        "priorities": arrays.Texts([one.priority for one in tickets]),
        "groups": arrays.Texts([one.group for one in tickets]),
        "assignees": arrays.Texts([one.assignee for one in tickets]),
        "kinds": arrays.Texts([one.kind for one in tickets]),
        "lanes": arrays.Texts([one.lane for one in tickets]),
        "updated": arrays.Instants([one.updated_at for one in tickets]),
        "states": arrays.Jsons(tickets),
    }


def _keys(rows: Sequence[Due]) -> dict[str, arrays.Column]:
    return {
        "services": arrays.Texts([row.service for row in rows]),
        "kinds": arrays.Texts([row.kind for row in rows]),
        "ids": arrays.Longs([row.id for row in rows]),
    }


def _agenda_columns(rows: Sequence[Due]) -> dict[str, arrays.Column]:
    return _keys(rows) | {
        "lanes": arrays.Texts([row.lane for row in rows]),
        "dues": arrays.Instants([row.due_at for row in rows]),
    }


def _agenda_lines(rows: Sequence[Due]) -> list[bytes]:
    """Agenda rows as COPY takes them."""
    instants: dict[datetime | None, bytes] = {}
    lines = []
    for row in rows:
        due_at = row.due_at
        at = instants.get(due_at)
        if at is None:
            at = instants[due_at] = copying.instant(due_at)
        line = (row.service.encode(), row.kind.encode(), b"%d" % row.id, row.lane.encode(), at, b"%d" % row.seen)
        lines.append(copying.line(*line))
    return lines


def query(statement: str) -> TextClause:
    """A people's query as SQLAlchemy text (named parameters as `:name`)."""
    return text(statement)
