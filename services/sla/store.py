"""The only SQL of the SLA service; set-based, never commits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

import msgspec
from sqlalchemy import Connection

from services.sla.domain.clock import Clock
from services.sla.domain.kept import from_json, short
from services.sla.domain.ticket import SlaState
from shared.ledger.unit import decode_ticket
from shared.runtime import arrays, copying
from shared.ticket.state import OPEN, Ticket

_encoder = msgspec.json.Encoder()

_LOAD = "select ticket_id, coalesce(kept::text, state::text) as kept from sla.ticket where ticket_id = any(%(ids)s)"

_LIFT = """
delete from sla.ended e using json_to_recordset(%(lifted)s) as x (ticket_id bigint, at timestamptz)
where e.ticket_id = any(%(ids)s) and e.ticket_id = x.ticket_id and e.stopped_at = x.at and e.clock ->> 'stop_cause' = 'policy'
"""
"""Cycles that nothing but a move to another version ended: the move was taken back, so they never ended."""

_FRESH = "sla.ticket (ticket_id, version, next_due_at, state, kept)"
_MOVED = b"{}"
"""What `state` says where there is a `kept`."""
_UPDATE = """
update sla.ticket t set version = x.version, next_due_at = x.next_due_at, kept = x.kept::json, state = '{}'
from unnest(%(ids)s, %(versions)s, %(dues)s, %(kept)s) as x (ticket_id, version, next_due_at, kept)
where t.ticket_id = x.ticket_id
"""
_ENDED = """
insert into sla.ended (ticket_id, metric, cycle, clock, stopped_at)
select ticket_id, metric, cycle, clock::jsonb, stopped_at
from unnest(%(ids)s, %(metrics)s, %(cycles)s, %(clocks)s, %(stops)s) as x (ticket_id, metric, cycle, clock, stopped_at)
on conflict (ticket_id, metric, cycle) do nothing
"""

SAMPLE = 5_000
"""Tickets whose clocks are read at most to count them."""
_TICKETS = "select greatest(reltuples, 1) from pg_class where oid = 'sla.ticket'::regclass"
_COUNT_LIVE = """
with sampled as (select kept, state from sla.ticket tablesample system (%(percent)s::real)),
clocks as (
    select clock ->> 0 as metric, clock -> 5 as rest from sampled cross join lateral json_array_elements(kept -> 5) as c (clock)
    union all
    select clock ->> 'metric', clock::json from sampled cross join lateral jsonb_array_elements(state -> 'clocks') as c (clock)
)
select split_part(metric, ':', 1) as family, coalesce(rest ->> 'state', 'running') as state, count(*) as clocks
from clocks where rest ->> 'stopped_at' is null group by 1, 2
"""


class Saved(msgspec.Struct, frozen=True):
    """What is kept of one ticket: state, the log version it was computed at, the next instant, cycles that ended now."""

    ticket_id: int
    version: int
    next_due_at: datetime | None
    state: SlaState
    ended: tuple[Clock, ...]
    lifted: datetime | None = None
    """The instant of a move that was taken back."""
    fresh: bool = False
    """Nothing was kept of it before."""


class Tables(Protocol):
    """What the handler asks of the tables: this module, or whoever keeps the same in memory."""

    def load(self, connection: Connection, ids: Sequence[int]) -> dict[int, SlaState]: ...
    def save(self, connection: Connection, tickets: Iterable[Saved]) -> None: ...


def load(connection: Connection, ids: Sequence[int]) -> dict[int, SlaState]:
    """States of the tickets that have one (the caller holds their locks)."""
    if not ids:
        return {}
    rows = connection.exec_driver_sql(_LOAD, {"ids": arrays.Longs(list(ids))})
    return {row.ticket_id: from_json(row.kept) for row in rows}


_RUNNING = """
select t.id, t.state::text as ticket, coalesce(s.kept::text, s.state::text) as kept
from ledger.ticket t left join sla.ticket s on s.ticket_id = t.id
where t.id > %(after)s and t.status = any(%(open)s) order by t.id limit %(limit)s
"""


def running(connection: Connection, after: int, limit: int) -> list[tuple[Ticket, SlaState | None]]:
    """Open tickets in id order with their clocks' state, without a lock: for looking ahead."""
    rows = connection.exec_driver_sql(_RUNNING, {"after": after, "open": sorted(OPEN), "limit": limit})
    return [(decode_ticket(row.ticket), None if row.kept is None else from_json(row.kept)) for row in rows]


def save(connection: Connection, tickets: Iterable[Saved]) -> None:
    """Keep states and ended cycles of a batch; the caller holds the tickets' locks."""
    everything = list(tickets)
    fresh = [one for one in everything if one.fresh]
    known = [one for one in everything if not one.fresh]
    copying.copy(
        connection,
        _FRESH,
        [
            copying.line(
                copying.number(one.ticket_id),
                copying.number(one.version),
                copying.instant(one.next_due_at),
                _MOVED,
                copying.json(short(one.state)),
            )
            for one in fresh
        ],
    )
    if known:
        connection.exec_driver_sql(
            _UPDATE,
            {
                "ids": arrays.Longs([one.ticket_id for one in known]),
                "versions": arrays.Ints([one.version for one in known]),
                "dues": arrays.Instants([one.next_due_at for one in known]),
                "kept": arrays.Jsons([short(one.state) for one in known]),
            },
        )
    lifted = [{"ticket_id": one.ticket_id, "at": one.lifted} for one in everything if one.lifted is not None]
    if lifted:
        ids = [one["ticket_id"] for one in lifted]
        connection.exec_driver_sql(_LIFT, {"ids": ids, "lifted": _encoder.encode(lifted).decode()})
    ended = [(one.ticket_id, clock) for one in everything for clock in one.ended]
    if ended:
        connection.exec_driver_sql(
            _ENDED,
            {
                "ids": arrays.Longs([ticket for ticket, _ in ended]),
                "metrics": arrays.Texts([clock.metric for _, clock in ended]),
                "cycles": arrays.Ints([clock.cycle for _, clock in ended]),
                "clocks": arrays.Jsons([clock for _, clock in ended]),
                "stops": arrays.Instants([clock.stopped_at for _, clock in ended]),
            },
        )


def count_live(connection: Connection) -> dict[tuple[str, str], int]:
    """Clocks that have not ended, by (family of the metric, state); of more than `SAMPLE` tickets an estimate from so many."""
    connection.exec_driver_sql("set local enable_seqscan = on")
    tickets = float(connection.exec_driver_sql(_TICKETS).scalar_one())
    percent = min(100.0, 100.0 * SAMPLE / tickets)
    found = connection.exec_driver_sql(_COUNT_LIVE, {"percent": percent})
    return {(row.family, row.state): round(row.clocks * 100.0 / percent) for row in found}
