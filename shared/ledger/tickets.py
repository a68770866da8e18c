"""Opening tickets and locking them: what the doors (HTTP, the intake queues, replay) call inside their transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from shared.contracts import events as e
from shared.contracts.envelope import Actor, New
from shared.ledger import sql
from shared.ledger.kinds import WAKES
from shared.ledger.unit import Unit, decode_ticket, dumps
from shared.runtime.ids import ItemIds
from shared.ticket import projection
from shared.ticket.state import OPEN, Ticket


@dataclass(frozen=True, slots=True)
class Opening:
    """A ticket about to be opened: its first event, what follows it at once (nodes entered), who sent it, a digest of the body.

    `events[0].happened_at` may lie in the past (imports). The digest tells a repeat from a conflict.
    """

    events: tuple[New, ...]
    actor: Actor
    digest: int
    correlation: str = ""

    @property
    def data(self) -> e.TicketOpened:
        first = self.events[0].data
        assert isinstance(first, e.TicketOpened)
        return first


@dataclass(frozen=True, slots=True)
class Opened:
    """What became of an opening: `ticket` as it is after it; `new` False for a repeat; `conflict` when the body differs."""

    ticket: Ticket
    new: bool
    conflict: bool = False


def digest(body: bytes) -> int:
    """A signed 64-bit digest of a request body, for telling a repeat from a conflict."""
    return int.from_bytes(hashlib.blake2b(body, digest_size=8).digest(), signed=True)


def open_tickets(unit: Unit, openings: Sequence[Opening], ids: ItemIds, *, quiet: bool = False) -> list[Opened]:
    """Open many tickets in one statement; answers in the order given. Durable when the caller commits.

    `quiet`: no service is woken; for tickets that are over in the same breath (repeats, merged into an open one).

    The same (source, external_id) twice, also within one call, is one ticket: the later ones are repeats, or conflicts when their
    body is another.
    """
    if not openings:
        return []
    distinct: dict[Any, int] = {}
    for index, opening in enumerate(openings):
        distinct.setdefault(_key(opening, index), index)
    # in key order, so that two intakes of the same external ids never wait for each other in opposite order
    order = [distinct[key] for key in sorted(distinct, key=str)]
    fresh_ids = dict(zip(order, ids.take(unit.connection, len(order)), strict=True))
    tickets = {index: _open(unit, fresh_ids[index], openings[index]) for index in order}
    inserted = _insert(unit, [(tickets[index], openings[index]) for index in order], quiet)
    present = _present(unit.connection, [openings[i].data for i in order if tickets[i].id not in inserted])
    answers: list[Opened] = []
    for index, opening in enumerate(openings):
        first = distinct[_key(opening, index)]
        ticket = tickets[first]
        if ticket.id in inserted:
            same = first == index or openings[first].digest == opening.digest
            answers.append(Opened(ticket, new=first == index, conflict=not same))
        else:
            known, known_digest = present[opening.data.source, str(opening.data.external_id)]
            answers.append(Opened(known, new=False, conflict=known_digest != opening.digest))
    return answers


def lock(connection: Connection, ids: Iterable[int]) -> dict[int, Ticket]:
    """Lock tickets in id order, waiting for whoever has them, and read them as they are then."""
    rows = connection.exec_driver_sql(sql.LOCK_TICKETS, {"ids": sorted(set(ids))})
    return {row.id: decode_ticket(row.state) for row in rows}


@dataclass(frozen=True, slots=True)
class Under:
    """Open tickets by the playbook version they run under: `exactly` this one, or any `other_than` that one."""

    exactly: int | None = None
    other_than: int | None = None


def lock_under(
    connection: Connection, under: Under, after: int, limit: int, *, ids: Sequence[int] | None = None
) -> list[Ticket]:
    """Lock up to `limit` open tickets beyond id `after`, in id order; those that others hold are passed over.

    With `ids`, of these alone, and waiting for whoever holds them.
    """
    waiting = "" if ids is not None else "skip locked"
    rows = connection.exec_driver_sql(
        sql.LOCK_UNDER.format(waiting=waiting, named="and id = any(%(ids)s)" if ids is not None else ""),
        {**_under(under), "after": after, "limit": limit, "ids": list(ids or ())},
    )
    return [decode_ticket(row.state) for row in rows]


def ids_under(connection: Connection, under: Under) -> list[int]:
    """Ids of such tickets, in order, without a lock."""
    return list(connection.exec_driver_sql(sql.IDS_UNDER, _under(under)).scalars())


def _under(under: Under) -> dict[str, Any]:
    return {"open": sorted(OPEN), "exactly": under.exactly, "other": under.other_than}


def read(connection: Connection, ticket_id: int) -> Ticket | None:
    """A ticket as it is, without a lock."""
    row = connection.exec_driver_sql(
        "select state::text as state from ledger.ticket where id = %s", (ticket_id,)
    ).one_or_none()
    return None if row is None else decode_ticket(row.state)


def _key(opening: Opening, index: int) -> tuple[str, str]:
    data = opening.data
    return (data.source, data.external_id) if data.external_id is not None else ("", f"\0{index:012}")


def _open(unit: Unit, ticket_id: int, opening: Opening) -> Ticket:
    first = opening.events[0]
    ticket = projection.opened(ticket_id, opening.data, first.happened_at or unit.now, unit.playbook)
    for new in opening.events[1:]:
        ticket = projection.evolve(ticket, new.data, new.happened_at or unit.now, ticket.version + 1)
    return ticket


def _insert(unit: Unit, pairs: Sequence[tuple[Ticket, Opening]], quiet: bool) -> set[int]:
    services = (
        () if quiet else tuple(dict.fromkeys(s for _, o in pairs for new in o.events for s in WAKES[new.data.type]))
    )
    events = [
        unit.event("ticket", ticket.id, version, new, opening.correlation, opening.actor)
        for ticket, opening in pairs
        for version, new in enumerate(opening.events, start=1)
    ]
    rows = unit.connection.exec_driver_sql(
        sql.OPEN_TICKETS,
        {
            "tickets": dumps([_row(ticket, opening) for ticket, opening in pairs]),
            "events": dumps(events),
            "services": list(services),
        },
    )
    inserted = {row.id for row in rows}
    unit.opened += [event for event in events if event.id in inserted]
    unit.woken.update((service, ticket.lane) for ticket, _ in pairs if ticket.id in inserted for service in services)
    return inserted


def _row(ticket: Ticket, opening: Opening) -> dict[str, Any]:
    return {
        "id": ticket.id,
        "version": ticket.version,
        "status": ticket.status,
        "source": ticket.source,
        "external_id": ticket.external_id,
        "dedup_key": ticket.dedup_key,
        "requester": ticket.requester.id or ticket.requester.email,
        "lane": ticket.lane,
        "digest": opening.digest,
        "opened_at": ticket.opened_at,
        "updated_at": ticket.updated_at,
        "kind": ticket.kind,
        "state": ticket,
    }


def _present(connection: Connection, missing: Sequence[e.TicketOpened]) -> dict[tuple[str, str], tuple[Ticket, int]]:
    if not missing:
        return {}
    rows = connection.exec_driver_sql(
        """select t.source, t.external_id, t.digest, t.state::text as state
        from json_to_recordset(%(keys)s) as x (source text, external_id text)
        join ledger.ticket t on t.source = x.source and t.external_id = x.external_id""",
        {"keys": dumps([{"source": one.source, "external_id": one.external_id} for one in missing])},
    )
    return {(row.source, row.external_id): (decode_ticket(row.state), row.digest) for row in rows}
