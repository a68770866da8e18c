"""The only SQL of the router; set-based, never commits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import msgspec
from sqlalchemy import Connection

from services.router.domain.pool import Turns
from shared.runtime import arrays, copying

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
class Standing:
    """A ticket on the waiting list as others see it who may have to let it go first."""

    ticket_id: int
    group: str
    line: str
    rank: int
    queued_at: datetime
    demand: dict[str, Any]


class Load(msgspec.Struct, frozen=True, array_like=True):
    """What an agent carries (hundredths), and when they last got something (Unix time)."""

    load: int
    open_count: int
    last_assigned: float


_decoder = msgspec.json.Decoder(dict[str, Load])


@dataclass(slots=True)
class Changes:
    """All that a batch changes in the router's tables."""

    ended: list[dict[str, Any]] = field(default_factory=list)
    opened: list[dict[str, Any]] = field(default_factory=list)
    reweighed: list[dict[str, Any]] = field(default_factory=list)
    waits: list[dict[str, Any]] = field(default_factory=list)
    served: list[int] = field(default_factory=list)
    loads: dict[str, Load] = field(default_factory=dict)
    """What agents carry now, of those for whom it is not what it was."""
    owners: list[dict[str, Any]] = field(default_factory=list)


class Tables(Protocol):
    """What the handlers ask of the tables: this module, or whoever keeps the same in memory (a history that is only tried out)."""

    def held(self, connection: Connection, ids: Sequence[int]) -> dict[int, list[Held]]: ...
    def waits(self, connection: Connection, ids: Sequence[int]) -> dict[int, Wait]: ...
    def lock_loads(
        self, connection: Connection, agents: Iterable[str], *, in_line: bool = False
    ) -> dict[str, Load]: ...
    def turns(self, connection: Connection, groups: Iterable[str]) -> dict[str, Turns]: ...
    def recent(self, connection: Connection, group: str, after: datetime) -> dict[str, int]: ...
    def save(self, connection: Connection, changes: Changes, moved_turns: Mapping[str, Turns]) -> None: ...
    def lines(
        self, connection: Connection, groups: Iterable[str], but: Sequence[int], limit: int
    ) -> list[Standing]: ...
    def standing(
        self, connection: Connection, wanted: Sequence[Mapping[str, Any]], but: Sequence[int]
    ) -> list[Standing]: ...
    def last_owners(self, connection: Connection, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]: ...


_HELD = """
select ticket_id, assignment, node, visit, group_name, agent, base, weight, offer, assigned_at
from router.assignment where ticket_id = any(%(ids)s) and ended_at is null
"""
_WAITS = """
select ticket_id, group_name, rank, queued_at, cause, demand, failed from router.waiting where ticket_id = any(%(ids)s)
"""
_GATE = "lock table router.gate in exclusive mode"
"""The line in which large batches wait for each other. Who waits for a row's lock has read the row already: the statement keeps
every version alive that is written meanwhile, and walks them all when its turn comes (200 rows, 30 versions behind 30 others). Who
waits for a table's lock has read nothing. Measured with 32 workers near full capacity: 30 % less of PostgreSQL's time for each
assignment. An advisory lock would be taken by a query, and keep versions alive like any."""
_MISSING = "insert into router.load (agent) select unnest(%(agents)s::text[]) order by 1 on conflict do nothing"
_LOADS = """
with l as materialized (
    select agent, load, open_count, last_assigned from router.load where agent = any(%(agents)s) order by agent {lock}
)
select json_object_agg(agent, json_build_array(load, open_count, last_assigned))::text from l
"""
"""One row, whatever the number of agents: reading 200 rows one by one costs a batch more than locking them."""
_LOCK_LOADS, _READ_LOADS = _LOADS.format(lock="for update"), _LOADS.format(lock="")
_TURNS = "select group_name, turns from router.turn where group_name = any(%(groups)s)"
_RECENT = """
select group_name, agent, count(*) as n from router.assignment
where group_name = %(group)s and assigned_at > %(after)s group by 1, 2
"""
_SAVE = """
with ended as (
    update router.assignment a set ended_at = x.ended_at
    from unnest(%(ended)s, %(ended_numbers)s, %(ended_at)s) as x (ticket_id, assignment, ended_at)
    where a.ticket_id = x.ticket_id and a.assignment = x.assignment
), reweighed as (
    update router.assignment a set weight = x.weight, base = x.base, offer = x.offer
    from json_to_recordset(%(reweighed)s)
        as x (ticket_id bigint, assignment integer, weight integer, base integer, offer boolean)
    where a.ticket_id = x.ticket_id and a.assignment = x.assignment
), waits as (
    insert into router.waiting as w (ticket_id, group_name, rank, queued_at, cause, demand, line, failed)
    select ticket_id, group_name, rank, queued_at, cause, demand, line, failed
    from json_to_recordset(%(waits)s) as x (ticket_id bigint, group_name text, rank integer, queued_at timestamptz, cause text,
        demand jsonb, line text, failed boolean)
    on conflict (ticket_id) do update set group_name = excluded.group_name, rank = excluded.rank, cause = excluded.cause,
        demand = excluded.demand, line = excluded.line, failed = excluded.failed
), served as (
    delete from router.waiting where ticket_id = any(%(served)s)
)
insert into router.turn (group_name, turns)
select group_name, turns from json_to_recordset(%(turns)s) as x (group_name text, turns jsonb)
on conflict (group_name) do update set turns = excluded.turns
"""
_OPENED = """
insert into router.assignment
    (ticket_id, assignment, node, visit, group_name, agent, base, weight, offer, over_capacity, assigned_at)
select * from unnest(%(ids)s, %(numbers)s, %(nodes)s, %(visits)s, %(groups)s, %(agents)s, %(bases)s, %(weights)s, %(offers)s,
    %(overs)s, %(ats)s)
"""
"""Not by COPY, which would come before what ends the ticket's last assignment, and costs two more waits for an answer."""
_LOADED = """
update router.load l set load = x.load, open_count = x.open_count, last_assigned = x.last_assigned
from unnest(%(agents)s, %(loads)s, %(counts)s, %(lasts)s) as x (agent, load, open_count, last_assigned) where l.agent = x.agent
"""

_LINES = """
with recursive l as (
    (select group_name, line from router.waiting where group_name = any(%(groups)s) order by group_name, line limit 1)
    union all
    select n.group_name, n.line from l cross join lateral (
        select w.group_name, w.line from router.waiting w
        where w.group_name = any(%(groups)s) and (w.group_name, w.line) > (l.group_name, l.line)
        order by w.group_name, w.line limit 1) n
)
select h.* from (select * from l limit %(limit)s) l cross join lateral (
    select w.ticket_id, w.group_name, w.line, w.rank, w.queued_at, w.demand from router.waiting w
    where w.group_name = l.group_name and w.line = l.line and not (w.ticket_id = any(%(but)s))
    order by w.rank, w.queued_at limit 1) h
order by h.rank, h.queued_at
"""
"""The head of each line of some groups: one index look-up a line, however long the lines are."""

_STANDING = """
select w.ticket_id, w.group_name, w.line, w.rank, w.queued_at, w.demand
from json_to_recordset(%(wanted)s) as x (group_name text, line text, n integer) cross join lateral (
    select * from router.waiting w
    where w.group_name = x.group_name and w.line = x.line and not (w.ticket_id = any(%(but)s))
    order by w.rank, w.queued_at limit x.n) w
"""


def held(connection: Connection, ids: Sequence[int]) -> dict[int, list[Held]]:
    """Open assignments of tickets."""
    found: dict[int, list[Held]] = {}
    for row in connection.exec_driver_sql(_HELD, {"ids": arrays.Longs(list(ids))}):
        found.setdefault(row.ticket_id, []).append(Held(*row))
    return found


def waits(connection: Connection, ids: Sequence[int]) -> dict[int, Wait]:
    """Waiting tickets among these."""
    return {row.ticket_id: Wait(*row) for row in connection.exec_driver_sql(_WAITS, {"ids": arrays.Longs(list(ids))})}


def lock_loads(connection: Connection, agents: Iterable[str], *, in_line: bool = False) -> dict[str, Load]:
    """The capacity lock: loads of these agents, in id order, waiting for whoever has them.

    `in_line`: behind all others who ask so. For batches that want the same people anyway, and only as the first thing that a
    transaction locks here. Who does not stand in line waits for the people it wants, and for nobody who waits himself.
    """
    wanted = sorted(set(agents))
    found = _loads(connection, _LOCK_LOADS, wanted, before=_GATE if in_line else None)
    if len(found) < len(wanted):  # somebody's first ticket
        connection.exec_driver_sql(_MISSING, {"agents": wanted})
        found = _loads(connection, _LOCK_LOADS, wanted)
    return found


def loads(connection: Connection, agents: Iterable[str]) -> dict[str, Load]:
    """Loads of agents as they are, without a lock: for looking, not for giving out."""
    wanted = sorted(set(agents))
    found = _loads(connection, _READ_LOADS, wanted)
    return {agent: found.get(agent, Load(0, 0, 0.0)) for agent in wanted}


def _loads(connection: Connection, statement: str, wanted: list[str], before: str | None = None) -> dict[str, Load]:
    agents = {"agents": arrays.Texts(wanted)}
    if before is not None:
        text = copying.first(connection, before, statement, agents)
    else:
        text = connection.exec_driver_sql(statement, agents).scalar_one()
    return {} if text is None else _decoder.decode(text)


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
    if changes.ended or changes.reweighed or changes.waits or changes.served or moved_turns:
        turns = [{"group_name": g, "turns": {"clock": t.clock, "of": t.of}} for g, t in sorted(moved_turns.items())]
        copying.write(
            connection,
            _SAVE,
            {
                "ended": arrays.Longs([row["ticket_id"] for row in changes.ended]),
                "ended_numbers": arrays.Ints([row["assignment"] for row in changes.ended]),
                "ended_at": arrays.Instants([row["ended_at"] for row in changes.ended]),
                "reweighed": _json(changes.reweighed),
                "waits": _json(changes.waits),
                "served": changes.served,
                "turns": _json(turns),
            },
        )
    if changes.loads:
        loads = changes.loads.values()
        copying.write(
            connection,
            _LOADED,
            {
                "agents": arrays.Texts(list(changes.loads)),
                "loads": arrays.Ints([one.load for one in loads]),
                "counts": arrays.Ints([one.open_count for one in loads]),
                "lasts": arrays.Doubles([one.last_assigned for one in loads]),
            },
        )
    if changes.opened:
        copying.write(connection, _OPENED, _opened_columns(changes.opened))
    remember_owners(connection, changes.owners)


def _opened_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, arrays.Column]:
    return {
        "ids": arrays.Longs([row["ticket_id"] for row in rows]),
        "numbers": arrays.Ints([row["assignment"] for row in rows]),
        "nodes": arrays.Texts([row["node"] for row in rows]),
        "visits": arrays.Ints([row["visit"] for row in rows]),
        "groups": arrays.Texts([row["group_name"] for row in rows]),
        "agents": arrays.Texts([row["agent"] for row in rows]),
        "bases": arrays.Ints([row["base"] for row in rows]),
        "weights": arrays.Ints([row["weight"] for row in rows]),
        "offers": arrays.Bools([row["offer"] for row in rows]),
        "overs": arrays.Bools([row["over_capacity"] for row in rows]),
        "ats": arrays.Instants([row["assigned_at"] for row in rows]),
    }


def lines(connection: Connection, groups: Iterable[str], but: Sequence[int], limit: int) -> list[Standing]:
    """The first of each line of waiting tickets in groups, by priority, then by waiting time; `but` are in hand already."""
    values = {"groups": sorted(set(groups)), "but": arrays.Longs(list(but)), "limit": limit}
    return [Standing(*row) for row in connection.exec_driver_sql(_LINES, values)]


def standing(connection: Connection, wanted: Sequence[Mapping[str, Any]], but: Sequence[int]) -> list[Standing]:
    """The first `n` of each of these lines."""
    rows = connection.exec_driver_sql(_STANDING, {"wanted": _json(wanted), "but": arrays.Longs(list(but))})
    return [Standing(*row) for row in rows]


def waiting_groups(connection: Connection) -> list[str]:
    """Groups in which somebody waits."""
    rows = connection.exec_driver_sql(
        """with recursive g as (
            (select group_name from router.waiting order by group_name limit 1)
            union all
            select n.group_name from g cross join lateral (
                select w.group_name from router.waiting w where w.group_name > g.group_name order by w.group_name limit 1) n
        ) select group_name from g"""
    )
    return [str(row.group_name) for row in rows]


def last_owners(connection: Connection, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Who had the last ticket of each (requester, group)."""
    rows = connection.exec_driver_sql(
        """select o.requester, o.group_name, o.agent from json_to_recordset(%s) as x (requester text, group_name text)
        join router.last_owner o on o.requester = x.requester and o.group_name = x.group_name""",
        (_json([{"requester": one, "group_name": group} for one, group in sorted(set(wanted))]),),
    )
    return {(row.requester, row.group_name): row.agent for row in rows}


def remember_owners(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Note who has a requester's ticket now, in groups that keep to that."""
    if rows:
        connection.exec_driver_sql(
            """insert into router.last_owner (requester, group_name, agent)
            select distinct on (requester, group_name) requester, group_name, agent
            from json_to_recordset(%s) as x (requester text, group_name text, agent text) order by requester, group_name
            on conflict (requester, group_name) do update set agent = excluded.agent""",
            (_json(rows),),
        )
