"""A ledger in memory: tickets, their events and the agenda of one process that has business time in hand.

The services' own handlers decide here as they do in a worker process: what falls due is claimed lane by lane, the earliest first,
the services of a ticket decide together (`shared/ledger/crew.py`), messages are sent and recorded. There is nobody else, so that
there is nothing to lock, to wait for or to read again. Ids, order and instants depend on the input alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import msgspec
from sqlalchemy import Connection

from services.control.publish import group_of, person_of
from services.control.replay.tables import (
    EscalationTables,
    Mirror,
    NotifierTables,
    Nowhere,
    RouterTables,
    SlaTables,
)
from services.escalation.handlers import WatchTickets
from services.escalation.watching import REVIEW
from services.notifier.channels.base import Kind, Outcome
from services.notifier.handlers import PlanMessages
from services.notifier.limits import NoLimits
from services.notifier.recording import record_on
from services.notifier.sending import Job, SendMessages
from services.router.handlers import RouteTickets
from services.sla.handlers import KeepClocks
from shared.contracts import events as e
from shared.contracts.envelope import Actor, New, Recorded
from shared.directory.people import Directory, snapshot
from shared.directory.store import DirectoryCache
from shared.ledger import sql
from shared.ledger.business import TimeMovesForward
from shared.ledger.crew import ROUNDS
from shared.ledger.handler import Handler
from shared.ledger.kinds import LANES, WAKES
from shared.ledger.process import Deps
from shared.ledger.unit import Result, Unit, Work, origin
from shared.playbook.model import Document, Playbook
from shared.playbook.store import Playbooks
from shared.runtime.broker import Bells
from shared.runtime.ids import ItemIds
from shared.runtime.settings import Settings
from shared.ticket import projection
from shared.ticket.state import Ticket

BATCH = 500
NOTIFIER = Actor(kind="service", id="notifier")


class FixedPlaybooks(Playbooks):
    """One version, and no database to ask."""

    def __init__(self, playbook: Playbook) -> None:
        super().__init__()
        self._one = playbook

    def number(self, connection: Connection) -> int:
        return self._one.number

    def get(self, connection: Connection, number: int) -> Playbook:
        return self._one


class FixedDirectory(DirectoryCache):
    """People who do not change while a history is played."""

    def __init__(self, directory: Directory) -> None:
        super().__init__()
        self._one = directory

    def get(self, connection: Connection) -> Directory:
        return self._one


class CountedIds(ItemIds):
    """Ids one after the other; nobody is asked for them."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.next = first

    def take(self, connection: Connection, count: int) -> list[int]:
        return self.some(count)

    def some(self, count: int) -> list[int]:
        """The next `count` ids."""
        taken = list(range(self.next, self.next + count))
        self.next += count
        return taken


def directory_of(document: Document) -> Directory:
    """The people of a playbook as `apply` writes them into the directory."""
    groups_of: dict[str, list[str]] = {}
    for group_id, group in document.groups.items():
        for member in group.members:
            groups_of.setdefault(member, []).append(group_id)
    people = [person_of(one, agent, groups_of.get(one, [])) for one, agent in sorted(document.agents.items())]
    groups = [group_of(one, group) for one, group in sorted(document.groups.items())]
    return snapshot(people, groups)


@dataclass(slots=True)
class _Row:
    """A service's agenda row of an item."""

    lane: str
    due_at: datetime | None = None
    seen: int = 0


Heard = Callable[[Recorded], None]


@dataclass(slots=True)
class MemoryUnit(Unit):
    """A unit of work whose writes are the world's at once."""

    world: World | None = None

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
        world, now, given, playbook = self.world, self.now, self.given, self.playbook
        assert world is not None
        who, about = actor or self.actor, correlation or self.correlation
        for new in events:
            version += 1
            data = new.data
            world.keep(
                Recorded(
                    kind, item_id, version, data.type, data, new.happened_at or now, now, who, given, playbook,
                    about or origin(kind, item_id, new), reason=new.reason,
                )
            )  # fmt: skip
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
        ticket = Unit.append_to_ticket(self, ticket, events, correlation=correlation, actor=actor, by=by, after=after)
        if events:
            assert self.world is not None
            self.world.changed(ticket)
        return ticket

    def wake(
        self, service: str, kind: str, item_id: int, lane: str, due_at: datetime | None = None, *, fresh: bool = False
    ) -> None:
        assert self.world is not None
        self.world.wake(service, kind, item_id, lane, self.now if due_at is None else due_at)

    def settle(self, service: str, result: Result, *, fresh: bool = False) -> Ticket | None:
        world, work = self.world, result.work
        assert world is not None
        lane, version, ticket = work.lane, work.version, None
        # what somebody else asks for from now on comes on top of its own answer
        world.answered(service, work.kind, work.id, result.due_at)
        if work.kind == "ticket":
            ticket = work.ticket
            if result.events:
                correlation = work.events[-1].correlation if work.events else ""
                ticket = self.append_to_ticket(
                    ticket, result.events, correlation=correlation, by=service, after=result.ticket
                )
            lane, version = ticket.lane, ticket.version
        elif result.events:
            version = self.append(work.kind, work.id, work.version, result.events)
        world.saw(service, work.kind, work.id, lane, version)
        return ticket

    def rouse(self, service: str, ids: list[int]) -> None:
        assert self.world is not None
        for number in ids:
            self.world.rouse(service, number, self.now)

    def flush(self) -> None:
        """Nothing is left to write."""


_EMPTY = ("from router.model", "from router.deferred")
"""Tables without rows here: no classifier is published, and no outside system is asked."""


class _NoDatabase:
    """What stands where a unit has its connection: it knows the events of tickets and which tables are empty, and no more."""

    def __init__(self, world: World) -> None:
        self._world = world

    def exec_driver_sql(self, statement: str, parameters: Any = None) -> Any:
        if statement == sql.EVENTS_SINCE and parameters["kind"] == "ticket":
            return self._world.rows_since(msgspec.json.decode(parameters["seen"]))
        if any(table in statement for table in _EMPTY):
            return ()
        raise NotInMemory(f"a replay in memory has no answer to: {statement.strip()[:120]}")


class NotInMemory(RuntimeError):
    """A service asked the database for something that a world in memory does not keep."""


class _Sender:
    """Hands everything to nobody."""

    asks = False

    def __init__(self, world: World) -> None:
        self._world = world

    def poll(self, jobs: Sequence[Job]) -> None:
        raise NotImplementedError

    def take(self, jobs: Sequence[Job]) -> None:
        self._world.sent(jobs)

    def hold_back(self, jobs: Sequence[Job]) -> None:
        """Nothing waits here."""

    def room(self) -> Mapping[str, int]:
        return {}


class World:
    """See the module. `heard` is told every event as it is appended; `first_id` begins the ids.

    In a `trial` messages are planned and not sent, since what is told to whom is the plan's to say, and the mirror hears of these
    alone; and tickets for which nobody waits are not looked through each day, which changes nothing but when they are looked at
    next.
    """

    def __init__(
        self,
        playbook: Playbook,
        directory: Directory,
        settings: Settings,
        mirror: Mirror,
        heard: Heard,
        *,
        first_id: int = 1000,
        trial: bool = False,
    ) -> None:
        self.playbook, self.heard, self._tries = playbook, heard, trial
        self.mirror = Nowhere() if trial else mirror
        self.now = datetime.min.replace(tzinfo=UTC)
        self.ids = CountedIds(first_id)
        self.deps = Deps(
            settings=settings, engine=cast(Any, None), bells=Bells(None), ids=self.ids,
            playbook_number=lambda _: playbook.number, playbooks=FixedPlaybooks(playbook),
            directory=FixedDirectory(directory),
        )  # fmt: skip
        self._tickets: dict[int, Ticket] = {}
        self._logs: dict[int, list[Recorded]] = {}
        self._versions: dict[int, int] = {}
        """Of deliveries on their way."""
        self._agenda: dict[tuple[str, str, int], _Row] = {}
        self._future: list[tuple[datetime, str, str, int]] = []
        self._due: dict[tuple[str, str, str], dict[int, datetime]] = {}
        self.router, self.sla = RouterTables(self.mirror), SlaTables(self.mirror)
        self.escalation, self.notifier = EscalationTables(self.mirror), NotifierTables(mirror, self)
        self._sending = SendMessages(self.deps, _Sender(self), tables=self.notifier, limits=NoLimits())
        self._crew: tuple[Handler, ...] = (
            RouteTickets(self.deps, self.router),
            KeepClocks(self.deps, self.sla),
            WatchTickets(self.deps, self.escalation),
            PlanMessages(self.deps, None if trial else self._sending, self.notifier),
        )
        self._rated = tuple(name for name, group in playbook.document.groups.items() if group.rate is not None)
        self._services = tuple(handler.service for handler in self._crew)
        self._connection = cast(Connection, _NoDatabase(self))
        self._last: set[int] = set()
        self._actors = {handler.service: Actor(kind="service", id=handler.service) for handler in self._crew}
        self._mine: set[int] = set()
        """The tickets of the turn that is going on, and whom it still has to ask about them."""
        self._todo: dict[str, dict[int, None]] = {}

    # ---- what is asked -----------------------------------------------------------------------------------------------

    def ticket(self, ticket_id: int) -> Ticket | None:
        """The ticket as it is now; None once it is over and forgotten."""
        return self._tickets.get(ticket_id)

    def event(self, kind: str, item_id: int, version: int) -> dict[str, Any]:
        """The data of a ticket's event as JSON has it."""
        data: dict[str, Any] = msgspec.to_builtins(self._logs[item_id][version - 1].data)
        return data

    def rows_since(self, seen: Sequence[Mapping[str, int]]) -> list[Any]:
        """Events of tickets after the given versions, in the shape of the ledger's own statement."""
        return [_as_row(event) for one in seen for event in self._logs[one["id"]][one["seen"] :]]

    def unit(self, actor: Actor, *, given: bool = False, correlation: str = "") -> MemoryUnit:
        """One moment's writes."""
        return MemoryUnit(self._connection, self.now, actor, self.playbook.number, given, correlation, world=self)

    def next_due(self) -> datetime | None:
        """The next instant that anybody waits for."""
        while self._future:
            at, service, kind, number = self._future[0]
            row = self._agenda.get((service, kind, number))
            if row is not None and row.due_at == at:
                return at
            heapq.heappop(self._future)
        return None

    # ---- what moves it -----------------------------------------------------------------------------------------------

    def move_to(self, at: datetime) -> None:
        """Move business time, and let all that has fallen due happen."""
        if at < self.now:
            raise TimeMovesForward(f"business time is already past {at.isoformat()}")
        self.now = at
        while (due := self.next_due()) is not None and due <= at:
            _, service, kind, number = heapq.heappop(self._future)
            row = self._agenda[service, kind, number]
            self._due.setdefault((service, kind, row.lane), {})[number] = due
        self.settle()

    def settle(self) -> None:
        """Let the services decide until nothing is due any more."""
        while rung := {(service, lane) for (service, _, lane), found in self._due.items() if found}:
            for lane in LANES:
                for service in self._services:
                    if (service, lane) in rung:
                        self._drain(service, "ticket", lane)
                if ("notifier", lane) in rung:
                    self._drain("notifier", "delivery", lane)

    def _drain(self, service: str, kind: str, lane: str) -> None:
        while found := self._due.get((service, kind, lane)):
            ids = sorted(found, key=lambda one: (found[one], one))[:BATCH] if len(found) > 1 else list(found)
            if kind == "ticket":
                self._turn(service, ids)
            else:
                self._send(ids, lane)

    def _turn(self, first: str, ids: Sequence[int]) -> None:
        """The services decide about a batch, round after round, until nobody has anything to say."""
        unit, agenda, now = self.unit(NOTIFIER), self._agenda, self.now
        todo: dict[str, dict[int, None]] = {service: {} for service in self._services}
        todo[first] = dict.fromkeys(ids)
        for service, waiting in todo.items():
            if service == first:
                continue
            for number in ids:
                row = agenda.get((service, "ticket", number))
                if row is not None and row.due_at is not None and row.due_at <= now:
                    waiting[number] = None
        self._mine, self._todo = set(ids), todo
        for _ in range(ROUNDS):
            for handler in self._crew:
                service = handler.service
                batch = todo[service]
                if batch:
                    todo[service] = {}
                    unit.actor = self._actors[service]
                    for result in handler.handle(unit, [self._work(service, number) for number in batch]):
                        unit.settle(service, result)
            if not any(todo.values()):
                break
        self._mine, self._todo = set(), {}
        if not self._tries:
            unit.committed()  # in a trial nobody is asked, sends or is counted
        for number in ids:
            self._let_go(number)

    def _work(self, service: str, number: int) -> Work:
        ticket, row = self._tickets[number], self._agenda[service, "ticket", number]
        due_at = row.due_at if row.due_at is not None and row.due_at <= self.now else self.now
        events = tuple(self._logs[number][row.seen :])
        return Work("ticket", number, ticket.lane, ticket.version, row.seen, 0, 0, due_at, ticket, events)

    def _send(self, ids: Sequence[int], lane: str) -> None:
        unit = self.unit(NOTIFIER)
        works = [
            Work("delivery", one, lane, self._versions.get(one, 0), 0, 0, 0, self.now, None) for one in ids
        ]  # fmt: skip
        for result in self._sending.handle(unit, works):
            unit.settle("notifier", result)
        unit.committed()

    def sent(self, jobs: Sequence[Job]) -> None:
        """Everything is accepted at once; record that."""
        unit = self.unit(NOTIFIER)
        answers = [(job, Outcome(Kind.ACCEPTED, provider_id=job.message.message_id)) for job in jobs]
        record_on(unit, answers, lambda: 0.5, self.notifier)
        unit.committed()
        for job in jobs:
            if job.row.ticket_id is not None:
                self._let_go(job.row.ticket_id)

    # ---- what units write ----------------------------------------------------------------------------------------------

    def keep(self, event: Recorded) -> None:
        """An event is appended."""
        if event.kind == "ticket":
            self._logs.setdefault(event.id, []).append(event)
        else:
            self._versions[event.id] = event.version
        self.mirror.event(event)
        self.heard(event)

    def changed(self, ticket: Ticket) -> None:
        """A ticket moved on."""
        self._tickets[ticket.id] = ticket
        self.mirror.put("ledger.ticket", (ticket.id,), ticket)

    def open(self, unit: MemoryUnit, data: e.TicketOpened, actor: Actor, correlation: str, digest: int = 0) -> Ticket:
        """Open a ticket at this instant."""
        number = self.ids.some(1)[0]
        ticket = projection.opened(number, data, self.now, self.playbook.number)
        unit.append("ticket", number, 0, (New(data),), correlation=correlation, actor=actor)
        self.changed(ticket)
        self.mirror.digest(number, digest)
        for service in WAKES[data.type]:
            self.wake(service, "ticket", number, ticket.lane, self.now)
        return ticket

    def wake(self, service: str, kind: str, number: int, lane: str, at: datetime) -> None:
        """Put an item on an agenda; the earliest instant wins."""
        if kind == "delivery" and self._tries:
            self.notifier.unsent(number)
            return
        row = self._agenda.get((service, kind, number))
        if row is None:
            row = self._agenda[service, kind, number] = _Row(lane)
        elif row.lane != lane:
            self._leave(service, kind, number, row)
            row.lane = lane
            if row.due_at is not None and row.due_at <= self.now:
                self._due.setdefault((service, kind, lane), {})[number] = row.due_at
        if row.due_at is None or at < row.due_at:
            self._arm(service, kind, number, row, at)

    def answered(self, service: str, kind: str, number: int, due_at: datetime | None) -> None:
        """A service has decided about an item and wants to see it again at `due_at`."""
        row = self._agenda.get((service, kind, number))
        if row is None:
            row = self._agenda[service, kind, number] = _Row("normal")
        if row.due_at is not None:
            self._leave(service, kind, number, row)
            row.due_at = None
        if due_at is not None and not (self._tries and service == "escalation" and due_at - self.now == REVIEW):
            self._arm(service, kind, number, row, due_at)

    def saw(self, service: str, kind: str, number: int, lane: str, version: int) -> None:
        """It has seen everything up to `version`."""
        row = self._agenda[service, kind, number]
        row.seen = version
        self.mirror.put("ledger.agenda", (kind, number, service), row)
        if row.lane != lane:
            self._leave(service, kind, number, row)
            row.lane = lane
            if row.due_at is not None and row.due_at <= self.now:
                self._due.setdefault((service, kind, lane), {})[number] = row.due_at
        if kind == "delivery" and row.due_at is None:
            del self._agenda[service, kind, number]
            self.mirror.drop("ledger.agenda", (kind, number, service))
            self._versions.pop(number, None)

    def rouse(self, service: str, number: int, at: datetime) -> None:
        """A service wants to see a ticket again now although nothing happened to it."""
        row = self._agenda.get((service, "ticket", number))
        if row is not None and (row.due_at is None or row.due_at > at):
            self._arm(service, "ticket", number, row, at)

    def _arm(self, service: str, kind: str, number: int, row: _Row, at: datetime) -> None:
        row.due_at = at
        self.mirror.put("ledger.agenda", (kind, number, service), row)
        if at <= self.now:
            if number in self._mine and kind == "ticket":
                self._todo[service][number] = None
            self._due.setdefault((service, kind, row.lane), {})[number] = at
        else:
            heapq.heappush(self._future, (at, service, kind, number))

    def _leave(self, service: str, kind: str, number: int, row: _Row) -> None:
        found = self._due.get((service, kind, row.lane))
        if found is not None:
            found.pop(number, None)

    # ---- memory --------------------------------------------------------------------------------------------------------

    def last(self, number: int) -> None:
        """Nothing more will be given for this ticket."""
        self._last.add(number)

    def _let_go(self, number: int) -> None:
        """Forget a ticket that is over, once nobody waits for anything of it and nothing more will be given."""
        ticket = self._tickets.get(number)
        if ticket is None or ticket.is_open or number not in self._last or self.notifier.is_busy(number):
            return
        rows = [self._agenda.get((service, "ticket", number)) for service in self._services]
        if any(row is not None and row.due_at is not None for row in rows):
            return
        for service in self._services:
            self._agenda.pop((service, "ticket", number), None)
        self._last.discard(number)
        del self._tickets[number], self._logs[number]
        for tables in (self.router, self.sla, self.escalation, self.notifier):
            tables.forget(number)


def _as_row(event: Recorded) -> Any:
    text = {name: msgspec.json.encode(getattr(event, name)).decode() for name in ("actor", "data")}
    reason = None if event.reason is None else msgspec.json.encode(event.reason).decode()
    plain = {
        name: getattr(event, name) for name in Recorded.__struct_fields__ if name not in ("actor", "data", "reason")
    }
    return SimpleNamespace(**plain, **text, reason=reason)
