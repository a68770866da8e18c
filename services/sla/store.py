"""The only SQL of the SLA service; set-based, never commits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec
from sqlalchemy import Connection

from services.sla.domain.clock import Clock
from services.sla.domain.ticket import SlaState
from shared.ledger.unit import decode_ticket
from shared.ticket.state import OPEN, Ticket

_state = msgspec.json.Decoder(SlaState)
_encoder = msgspec.json.Encoder()

_LOAD = "select ticket_id, state::text as state from sla.ticket where ticket_id = any(%(ids)s)"

_LIFT = """
delete from sla.ended e using json_to_recordset(%(lifted)s) as x (ticket_id bigint, at timestamptz)
where e.ticket_id = x.ticket_id and e.stopped_at = x.at and e.clock ->> 'stop_cause' = 'policy'
"""
"""Cycles that nothing but a move to another version ended: the move was taken back, so they never ended."""

_SAVE = """
with ended as (
    insert into sla.ended (ticket_id, metric, cycle, clock, stopped_at)
    select ticket_id, metric, cycle, clock, stopped_at
    from json_to_recordset(%(ended)s) as x (ticket_id bigint, metric text, cycle integer, clock jsonb, stopped_at timestamptz)
    on conflict (ticket_id, metric, cycle) do nothing
)
insert into sla.ticket as t (ticket_id, version, next_due_at, state)
select ticket_id, version, next_due_at, state
from json_to_recordset(%(states)s) as x (ticket_id bigint, version integer, next_due_at timestamptz, state jsonb)
on conflict (ticket_id) do update set version = excluded.version, next_due_at = excluded.next_due_at, state = excluded.state
"""

_COUNT_LIVE = """
select split_part(clock ->> 'metric', ':', 1) as family, coalesce(clock ->> 'state', 'running') as state, count(*) as clocks
from sla.ticket t cross join lateral jsonb_array_elements(coalesce(t.state -> 'clocks', '[]')) as c (clock)
where clock ->> 'stopped_at' is null group by 1, 2
"""


@dataclass(frozen=True, slots=True)
class Saved:
    """What is kept of one ticket: state, the log version it was computed at, the next instant, cycles that ended now."""

    ticket_id: int
    version: int
    next_due_at: datetime | None
    state: SlaState
    ended: tuple[Clock, ...]
    lifted: datetime | None = None
    """The instant of a move that was taken back."""


class Tables(Protocol):
    """What the handler asks of the tables: this module, or whoever keeps the same in memory."""

    def load(self, connection: Connection, ids: Sequence[int]) -> dict[int, SlaState]: ...
    def save(self, connection: Connection, tickets: Iterable[Saved]) -> None: ...


def load(connection: Connection, ids: Sequence[int]) -> dict[int, SlaState]:
    """States of the tickets that have one (the caller holds their locks)."""
    rows = connection.exec_driver_sql(_LOAD, {"ids": list(ids)})
    return {row.ticket_id: _state.decode(row.state) for row in rows}


_RUNNING = """
select t.id, t.state::text as ticket, s.state::text as state
from ledger.ticket t left join sla.ticket s on s.ticket_id = t.id
where t.id > %(after)s and t.status = any(%(open)s) order by t.id limit %(limit)s
"""


def running(connection: Connection, after: int, limit: int) -> list[tuple[Ticket, SlaState | None]]:
    """Open tickets in id order with their clocks' state, without a lock: for looking ahead."""
    rows = connection.exec_driver_sql(_RUNNING, {"after": after, "open": sorted(OPEN), "limit": limit})
    return [(decode_ticket(row.ticket), None if row.state is None else _state.decode(row.state)) for row in rows]


def save(connection: Connection, tickets: Iterable[Saved]) -> None:
    """Keep states and ended cycles of a batch in one statement."""
    kept = list(tickets)
    if not kept:
        return
    states = [
        {"ticket_id": one.ticket_id, "version": one.version, "next_due_at": one.next_due_at, "state": one.state}
        for one in kept
    ]
    ended = [
        {
            "ticket_id": one.ticket_id,
            "metric": clock.metric,
            "cycle": clock.cycle,
            "clock": clock,
            "stopped_at": clock.stopped_at,
        }
        for one in kept
        for clock in one.ended
    ]
    lifted = [{"ticket_id": one.ticket_id, "at": one.lifted} for one in kept if one.lifted is not None]
    if lifted:
        connection.exec_driver_sql(_LIFT, {"lifted": _encoder.encode(lifted).decode()})
    connection.exec_driver_sql(
        _SAVE, {"states": _encoder.encode(states).decode(), "ended": _encoder.encode(ended).decode()}
    )


def count_live(connection: Connection) -> dict[tuple[str, str], int]:
    """Clocks that have not ended, by (family of the metric, state). Reads every ticket's clocks."""
    connection.exec_driver_sql("set local enable_seqscan = on")
    return {(row.family, row.state): row.clocks for row in connection.exec_driver_sql(_COUNT_LIVE)}
