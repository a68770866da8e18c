"""The only SQL of the router; set-based, never commits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import msgspec
from sqlalchemy import Connection

from services.router.domain.pool import Turns

_encoder = msgspec.json.Encoder()


def _json(rows: Any) -> str:
    return _encoder.encode(rows).decode()


@dataclass(frozen=True, slots=True)
class Held:
    """An open assignment (or offer) of a ticket. `base` is the weight before the factor of the ticket's state."""

    ticket_id: int
    assignment: int
    node: str
    visit: int
    group: str
    agent: str
    base: int
    weight: int
    offer: bool
    assigned_at: datetime


@dataclass(frozen=True, slots=True)
class Wait:
    """A ticket on the waiting list; `demand` is what it asks of whoever takes it."""

    ticket_id: int
    group: str
    rank: int
    queued_at: datetime
    cause: str
    demand: dict[str, Any]
    failed: bool


@dataclass(frozen=True, slots=True)
class Load:
    """What an agent carries (hundredths), and when they last got something (Unix time)."""

    load: int
    open_count: int
    last_assigned: float


@dataclass(slots=True)
class Changes:
    """All that a batch changes in the router's tables."""

    ended: list[dict[str, Any]] = field(default_factory=list)
    opened: list[dict[str, Any]] = field(default_factory=list)
    reweighed: list[dict[str, Any]] = field(default_factory=list)
    waits: list[dict[str, Any]] = field(default_factory=list)
    served: list[int] = field(default_factory=list)
    loads: dict[str, dict[str, Any]] = field(default_factory=dict)


class Tables(Protocol):
    """What the handlers ask of the tables: this module, or whoever keeps the same in memory (a history that is only tried out)."""

    def held(self, connection: Connection, ids: Sequence[int]) -> dict[int, list[Held]]: ...
    def waits(self, connection: Connection, ids: Sequence[int]) -> dict[int, Wait]: ...
    def lock_loads(self, connection: Connection, agents: Iterable[str]) -> dict[str, Load]: ...
    def turns(self, connection: Connection, groups: Iterable[str]) -> dict[str, Turns]: ...
    def recent(self, connection: Connection, group: str, after: datetime) -> dict[str, int]: ...
    def save(self, connection: Connection, changes: Changes, moved_turns: Mapping[str, Turns]) -> None: ...
    def next_waiting(
        self, connection: Connection, groups: Iterable[str], limit: int, but: Sequence[int]
    ) -> list[int]: ...


_HELD = """
select ticket_id, assignment, node, visit, group_name, agent, base, weight, offer, assigned_at
from router.assignment where ticket_id = any(%(ids)s) and ended_at is null
"""
_WAITS = """
select ticket_id, group_name, rank, queued_at, cause, demand, failed from router.waiting where ticket_id = any(%(ids)s)
"""
_MISSING = "insert into router.load (agent) select unnest(%(agents)s::text[]) order by 1 on conflict do nothing"
_LOADS = """
select agent, load, open_count, last_assigned from router.load where agent = any(%(agents)s) order by agent for update
"""
_TURNS = "select group_name, turns from router.turn where group_name = any(%(groups)s)"
_RECENT = """
select group_name, agent, count(*) as n from router.assignment
where group_name = %(group)s and assigned_at > %(after)s group by 1, 2
"""
_SAVE = """
with ended as (
    update router.assignment a set ended_at = x.ended_at
    from json_to_recordset(%(ended)s) as x (ticket_id bigint, assignment integer, ended_at timestamptz)
    where a.ticket_id = x.ticket_id and a.assignment = x.assignment
), reweighed as (
    update router.assignment a set weight = x.weight, offer = x.offer
    from json_to_recordset(%(reweighed)s) as x (ticket_id bigint, assignment integer, weight integer, offer boolean)
    where a.ticket_id = x.ticket_id and a.assignment = x.assignment
), waits as (
    insert into router.waiting as w (ticket_id, group_name, rank, queued_at, cause, demand, failed)
    select ticket_id, group_name, rank, queued_at, cause, demand, failed
    from json_to_recordset(%(waits)s) as x (ticket_id bigint, group_name text, rank integer, queued_at timestamptz, cause text,
        demand jsonb, failed boolean)
    on conflict (ticket_id) do update set group_name = excluded.group_name, rank = excluded.rank, cause = excluded.cause,
        demand = excluded.demand, failed = excluded.failed
), served as (
    delete from router.waiting where ticket_id = any(%(served)s)
), loads as (
    update router.load l set load = x.load, open_count = x.open_count, last_assigned = x.last_assigned
    from json_to_recordset(%(loads)s) as x (agent text, load integer, open_count integer, last_assigned double precision)
    where l.agent = x.agent
)
insert into router.turn (group_name, turns)
select group_name, turns from json_to_recordset(%(turns)s) as x (group_name text, turns jsonb)
on conflict (group_name) do update set turns = excluded.turns
"""
_OPEN = """
insert into router.assignment (ticket_id, assignment, node, visit, group_name, agent, base, weight, offer, over_capacity,
    assigned_at)
select ticket_id, assignment, node, visit, group_name, agent, base, weight, offer, over_capacity, assigned_at
from json_to_recordset(%(opened)s) as x (ticket_id bigint, assignment integer, node text, visit integer, group_name text,
    agent text, base integer, weight integer, offer boolean, over_capacity boolean, assigned_at timestamptz)
"""
"""A statement of its own: within one statement the unique index would still see the assignment that is being ended."""

_NEXT_WAITING = """
select ticket_id from router.waiting where group_name = any(%(groups)s) and not ticket_id = any(%(but)s)
order by rank, queued_at limit %(limit)s
"""


def held(connection: Connection, ids: Sequence[int]) -> dict[int, list[Held]]:
    """Open assignments of tickets."""
    found: dict[int, list[Held]] = {}
    for row in connection.exec_driver_sql(_HELD, {"ids": list(ids)}):
        found.setdefault(row.ticket_id, []).append(Held(*row))
    return found


def waits(connection: Connection, ids: Sequence[int]) -> dict[int, Wait]:
    """Waiting tickets among these."""
    return {row.ticket_id: Wait(*row) for row in connection.exec_driver_sql(_WAITS, {"ids": list(ids)})}


def lock_loads(connection: Connection, agents: Iterable[str]) -> dict[str, Load]:
    """The capacity lock: loads of these agents, in id order, waiting for whoever has them."""
    wanted = sorted(set(agents))
    rows = connection.exec_driver_sql(_LOADS, {"agents": wanted}).all()
    if len(rows) < len(wanted):  # somebody's first ticket
        connection.exec_driver_sql(_MISSING, {"agents": wanted})
        rows = connection.exec_driver_sql(_LOADS, {"agents": wanted}).all()
    return {row.agent: Load(row.load, row.open_count, row.last_assigned) for row in rows}


def turns(connection: Connection, groups: Iterable[str]) -> dict[str, Turns]:
    """Whose turn it is; read under the capacity lock of the groups' members."""
    rows = connection.exec_driver_sql(_TURNS, {"groups": sorted(set(groups))})
    return {row.group_name: Turns(row.turns["clock"], dict(row.turns["of"])) for row in rows}


def recent(connection: Connection, group: str, after: datetime) -> dict[str, int]:
    """Assignments of a group's agents since an instant."""
    rows = connection.exec_driver_sql(_RECENT, {"group": group, "after": after})
    return {row.agent: int(row.n) for row in rows}


def save(connection: Connection, changes: Changes, moved_turns: Mapping[str, Turns]) -> None:
    """Write what a batch changed."""
    if not (changes.ended or changes.opened or changes.reweighed or changes.waits or changes.served or changes.loads):
        return
    connection.exec_driver_sql(
        _SAVE,
        {
            "ended": _json(changes.ended),
            "reweighed": _json(changes.reweighed),
            "waits": _json(changes.waits),
            "served": changes.served,
            "loads": _json(list(changes.loads.values())),
            "turns": _json(
                [{"group_name": g, "turns": {"clock": t.clock, "of": t.of}} for g, t in sorted(moved_turns.items())]
            ),
        },
    )
    if changes.opened:
        connection.exec_driver_sql(_OPEN, {"opened": _json(changes.opened)})


def next_waiting(connection: Connection, groups: Iterable[str], limit: int, but: Sequence[int]) -> list[int]:
    """Waiting tickets of groups, by priority, then by waiting time; `but` are in hand already."""
    rows = connection.exec_driver_sql(_NEXT_WAITING, {"groups": sorted(set(groups)), "limit": limit, "but": list(but)})
    return [row.ticket_id for row in rows]
