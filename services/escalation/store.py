"""The only SQL of escalation; set-based, never commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec
from sqlalchemy import Connection

from services.escalation import keeping
from services.escalation.watched import Card, Watched
from shared.oncall.changes import schedules as schedules
from shared.oncall.schedule import Schedule
from shared.playbook.model import Playbook
from shared.runtime import arrays, copying

_encoder = msgspec.json.Encoder()
_LOAD = "select ticket_id, state::text as state from escalation.ticket where ticket_id = any(%(ids)s)"
_SAVE = """
with gone as (
    delete from escalation.ticket where ticket_id = any(%(gone)s)
), rows as (
    insert into escalation.escalation as e (ticket_id, escalation, chain, cause, state, step, round, started_at, next_at, ended_at,
        targets)
    select ticket_id, escalation, chain, cause, state, step, round, started_at, next_at, ended_at, targets
    from json_to_recordset(%(rows)s) as x (ticket_id bigint, escalation integer, chain text, cause text, state text, step integer,
        round integer, started_at timestamptz, next_at timestamptz, ended_at timestamptz, targets text[])
    on conflict (ticket_id, escalation) do update set state = excluded.state, step = excluded.step, round = excluded.round,
        next_at = excluded.next_at, ended_at = excluded.ended_at, targets = excluded.targets
), stalls as (
    insert into escalation.stall (ticket_id, node, visit, assignment, due_at, stalled_at, owner, group_name, dwell_seconds, shares)
    select ticket_id, node, visit, assignment, due_at, stalled_at, owner, group_name, dwell_seconds, shares
    from json_to_recordset(%(stalls)s) as x (ticket_id bigint, node text, visit integer, assignment integer, due_at timestamptz,
        stalled_at timestamptz, owner text, group_name text, dwell_seconds double precision, shares jsonb)
    on conflict do nothing
)
select 1
"""
_FRESH = "escalation.ticket (ticket_id, state, mover, next_at)"
_UPDATE = """
update escalation.ticket t set state = x.state::jsonb, mover = x.mover, next_at = x.next_at
from unnest(%(ids)s, %(states)s, %(movers)s, %(nexts)s) as x (ticket_id, state, mover, next_at) where t.ticket_id = x.ticket_id
"""
_BOARD = """
with gone as (
    delete from escalation.board b using json_to_recordset(%(gone)s) as x (ticket_id bigint, node text, visit integer)
    where b.ticket_id = x.ticket_id and b.node = x.node and b.visit = x.visit
)
insert into escalation.board as b (ticket_id, node, visit, stage, group_name, owner, entered_at, due_at, stalled, unaccepted,
    escalation, paused)
select ticket_id, node, visit, stage, group_name, owner, entered_at, coalesce(due_at, '9999-12-31T00:00:00Z'), stalled, unaccepted,
    escalation, paused
from json_to_recordset(%(cards)s) as x (ticket_id bigint, node text, visit integer, stage text, group_name text, owner text,
    entered_at timestamptz, due_at timestamptz, stalled boolean, unaccepted boolean, escalation integer, paused boolean)
on conflict (ticket_id, node, visit) do update set stage = excluded.stage, group_name = excluded.group_name,
    owner = excluded.owner, entered_at = excluded.entered_at, due_at = excluded.due_at, stalled = excluded.stalled,
    unaccepted = excluded.unaccepted, escalation = excluded.escalation, paused = excluded.paused
"""
_LEVELS = """
update escalation.stall s set level = greatest(s.level, x.level)
from json_to_recordset(%(levels)s) as x (ticket_id bigint, node text, visit integer, due_at timestamptz, level integer)
where s.ticket_id = x.ticket_id and s.node = x.node and s.visit = x.visit and s.due_at = x.due_at
"""
"""A statement of its own: the stall may have been written by the one before it."""

_OVERDUE = """
select ticket_id, mover, next_at from escalation.ticket
where next_at < ledger.now() - %(grace)s * interval '1 second'
and not exists (select from ledger.agenda a where a.kind = 'ticket' and a.id = ticket_id and a.service = 'escalation'
    and a.due_at <= ledger.now() and a.quarantined_at is null)
order by next_at limit %(limit)s
"""
"""By index: costs what is overdue, however many tickets are open. One that is due waits for its turn and is not lost."""
_UNSEEN = """
select t.id from ledger.ticket t where t.status = 'new' and t.group_name is null
and t.updated_at < ledger.now() - %(grace)s * interval '1 second'
and not exists (select from ledger.agenda a where a.kind = 'ticket' and a.id = t.id and a.due_at is not null
    and a.quarantined_at is null)
limit %(limit)s
"""
"""Tickets the router has not classified and nobody will look at; by the index of waiting tickets, which holds the new ones."""


class Row(NamedTuple):
    """What is kept of a ticket: the watch, who is to move it, the instant at which it is looked at; `fresh`: nothing was before."""

    state: Watched
    mover: str
    next_at: datetime | None
    fresh: bool = False


@dataclass(slots=True)
class Changes:
    """What a batch writes."""

    states: dict[int, Row] = field(default_factory=dict)
    gone: list[int] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    stalls: list[dict[str, Any]] = field(default_factory=list)
    levels: list[dict[str, Any]] = field(default_factory=list)
    cards: list[tuple[int, Card]] = field(default_factory=list)
    uncarded: list[dict[str, Any]] = field(default_factory=list)


class Tables(Protocol):
    """What the handler asks of the tables: this module, or whoever keeps the same in memory."""

    def load(self, connection: Connection, ids: Sequence[int]) -> dict[int, Watched]: ...
    def save(self, connection: Connection, changes: Changes) -> None: ...
    def schedules(self, connection: Connection, playbook: Playbook) -> dict[str, Schedule]: ...


def load(connection: Connection, ids: Sequence[int]) -> dict[int, Watched]:
    """What is watched on these tickets (the caller holds their locks)."""
    if not ids:
        return {}
    rows = connection.exec_driver_sql(_LOAD, {"ids": arrays.Longs(list(ids))})
    return {row.ticket_id: keeping.loads(row.state) for row in rows}


def save(connection: Connection, changes: Changes) -> None:
    """Keep a batch; the caller holds the tickets' locks."""
    _save_cards(connection, changes)
    states = {number: (msgspec.Raw(keeping.dumps(row.state)), row) for number, row in changes.states.items()}
    fresh = [
        copying.line(copying.number(number), copying.json(state), copying.text(row.mover), copying.instant(row.next_at))
        for number, (state, row) in states.items()
        if row.fresh
    ]
    copying.copy(connection, _FRESH, fresh)
    known = [(number, state, row) for number, (state, row) in states.items() if not row.fresh]
    if known:
        connection.exec_driver_sql(
            _UPDATE,
            {
                "ids": arrays.Longs([number for number, _, _ in known]),
                "states": arrays.Jsons([state for _, state, _ in known]),
                "movers": arrays.Texts([row.mover for _, _, row in known]),
                "nexts": arrays.Instants([row.next_at for _, _, row in known]),
            },
        )
    if changes.gone or changes.rows or changes.stalls:
        connection.exec_driver_sql(
            _SAVE,
            {
                "gone": changes.gone,
                "rows": _encoder.encode(changes.rows).decode(),
                "stalls": _encoder.encode(changes.stalls).decode(),
            },
        )
    if changes.levels:
        connection.exec_driver_sql(_LEVELS, {"levels": _encoder.encode(changes.levels).decode()})


def _save_cards(connection: Connection, changes: Changes) -> None:
    """A ticket that nothing was kept of before has no card either."""
    rows = [{"ticket_id": ticket} | dict(zip(_CARD, _plain(card), strict=True)) for ticket, card in changes.cards]
    begun = {number for number, row in changes.states.items() if row.fresh}
    fresh = [row for row in rows if row["ticket_id"] in begun]
    copying.rows(connection, "escalation.board", _CARDS, fresh, {})
    cards = [row for row in rows if row["ticket_id"] not in begun]
    if cards or changes.uncarded:
        values = {"gone": _encoder.encode(changes.uncarded).decode(), "cards": _encoder.encode(cards).decode()}
        connection.exec_driver_sql(_BOARD, values)


def _due(value: datetime | None) -> bytes:
    """A card without an instant comes last."""
    return b"9999-12-31T00:00:00Z" if value is None else copying.instant(value)


_CARDS: copying.Columns = {
    "ticket_id": copying.number, "node": copying.text, "visit": copying.number, "stage": copying.text,
    "group_name": copying.text, "owner": copying.text, "entered_at": copying.instant, "due_at": _due,
    "stalled": copying.boolean, "unaccepted": copying.boolean, "escalation": copying.number, "paused": copying.boolean,
}  # fmt: skip
_CARD = tuple("group_name" if name == "group" else name for name in Card.__struct_fields__)


def _plain(card: Card) -> tuple[Any, ...]:
    return tuple(getattr(card, name) for name in card.__struct_fields__)


def orphans(connection: Connection, grace_seconds: float, limit: int) -> list[int]:
    """Open tickets whose instant passed without anybody looking, and new ones that nobody will look at."""
    values = {"grace": grace_seconds, "limit": limit}
    overdue = [row.ticket_id for row in connection.exec_driver_sql(_OVERDUE, values)]
    unseen = [row.id for row in connection.exec_driver_sql(_UNSEEN, values)]
    return sorted({*overdue, *unseen})
