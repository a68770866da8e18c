"""The ledger as its own tests see it: tickets opened, people acting, handlers that do what a test tells them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine

from shared.contracts.envelope import Actor, New
from shared.contracts.events import Data, TicketOpened, TicketReplied
from shared.ledger import business
from shared.ledger.invariants import INVARIANTS, violations
from shared.ledger.lane import Journal, Lane, Ring
from shared.ledger.tickets import Opened, Opening, lock, open_tickets
from shared.ledger.unit import Result, Unit, Work
from shared.runtime.database import connect_engine
from shared.runtime.ids import ItemIds

ANNA = Actor(kind="person", id="anna")
Decide = Callable[[Unit, Work], Result]


def engine_of(url: str, name: str = "test") -> Engine:
    """An engine with a worker's settings."""
    return connect_engine(url, name=name, pool_size=12)


def unit_on(connection: Connection, actor: Actor = ANNA) -> Unit:
    """A unit of work as a door begins it."""
    return Unit(connection, business.now(connection), actor, 1, given=True)


def opening(
    external_id: str | None = None, *, digest: int = 0, lane: str = "normal", subject: str = "no paper"
) -> Opening:
    """The opening of a ticket of source `test`."""
    data = TicketOpened(subject=subject, source="test", external_id=external_id, lane=lane)
    return Opening((New(data),), ANNA, digest)


def open_now(engine: Engine, openings: Sequence[Opening]) -> list[Opened]:
    """Open and commit."""
    with engine.begin() as connection:
        return open_tickets(unit_on(connection), openings, ItemIds())


def open_some(engine: Engine, count: int, *, lane: str = "normal") -> list[int]:
    """Ids of so many new tickets; the router is due for each."""
    return [one.ticket.id for one in open_now(engine, [opening(lane=lane) for _ in range(count)])]


def act(engine: Engine, ticket_id: int, data: Data | None = None) -> set[tuple[str, str]]:
    """A person's act: lock, append, commit. Returns what it woke."""
    with engine.begin() as connection:
        return act_on(connection, ticket_id, data)


def act_on(connection: Connection, ticket_id: int, data: Data | None = None) -> set[tuple[str, str]]:
    """The same without the commit."""
    unit = unit_on(connection)
    ticket = lock(connection, [ticket_id])[ticket_id]
    unit.append_to_ticket(ticket, (New(data or TicketReplied(author="agent", text="on it")),))
    unit.flush()
    return unit.woken


def arm(engine: Engine, service: str, ids: Sequence[int], seconds: Sequence[float], lane: str = "normal") -> None:
    """Put locked tickets on a service's agenda, so many seconds from now (negative: overdue)."""
    with engine.begin() as connection:
        lock(connection, ids)
        for ticket_id, after in zip(ids, seconds, strict=True):
            connection.exec_driver_sql(
                """insert into ledger.agenda (service, kind, id, lane, due_at, seen_version)
                values (%s, 'ticket', %s, %s, ledger.now() + make_interval(secs => %s), 1)
                on conflict (kind, id, service) do update set due_at = excluded.due_at""",
                (service, ticket_id, lane, after),
            )


def row(engine: Engine, service: str, ticket_id: int) -> Any:
    """The agenda row of a ticket, or None."""
    with engine.connect() as connection:
        return connection.exec_driver_sql(
            "select * from ledger.agenda where service = %s and kind = 'ticket' and id = %s", (service, ticket_id)
        ).one_or_none()


def scalar(engine: Engine, statement: str, values: Any = None) -> Any:
    """The first value of a query."""
    with engine.connect() as connection:
        return connection.exec_driver_sql(statement, values).scalar_one_or_none()


def broken(engine: Engine, *, routed: bool = True) -> dict[str, list[tuple[Any, ...]]]:
    """Invariants that do not hold, with the rows that break them. `routed` False: no real services look after the tickets."""
    kept = {"every_open_ticket_has_a_next_mover", "open_ticket_is_watched"}
    known = [one for one in INVARIANTS if routed or one.name not in kept]
    with engine.connect() as connection:
        found = {one.name: violations(connection, one) for one in known}
    return {name: rows for name, rows in found.items() if rows}


def nothing_more(unit: Unit, work: Work) -> Result:
    """Look and go."""
    return Result(work)


@dataclass(slots=True)
class Told:
    """A handler that does what `decide` says with each item, and remembers what it was given."""

    service: str = "router"
    decide: Decide = nothing_more
    kind: str = "ticket"
    batches: list[list[int]] = field(default_factory=list)
    seen: list[tuple[int, int]] = field(default_factory=list)
    """(ticket, version) of each event that was handed over, of batches that came to their end."""

    def handle(self, unit: Unit, batch: Sequence[Work]) -> list[Result]:
        self.batches.append([work.id for work in batch])
        results = [self.decide(unit, work) for work in batch]
        seen = [(work.id, event.version) for work in batch for event in work.events]
        unit.after_commit.append(lambda: self.seen.extend(seen))
        return results


def ring_nobody(_: set[tuple[str, str]]) -> None:
    """Bells that nobody hears."""


def lane_of(
    engine: Engine,
    handler: Told,
    lane: str = "normal",
    *,
    journal: Journal | None = None,
    ring: Ring = ring_nobody,
    cap: int = 200,
) -> Lane:
    """A lane as a worker process builds it, driven by the test."""
    return Lane(engine, handler, lane, journal, ring, lambda _: 1, cap=cap)
