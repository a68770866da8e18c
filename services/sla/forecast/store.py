"""SQL of the forecast: published models, the probabilities that are kept, the load of each group. Never commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection

from shared.ticket.state import OPEN

_encoder = msgspec.json.Encoder()
_SPACE = 20838
"""Key of the advisory lock that keeps two publishers apart."""


@dataclass(slots=True)
class Row:
    """A clock's probability as of `at`. `told`: the generation of which people were told that it is at risk."""

    ticket_id: int
    metric: str
    cycle: int
    generation: int
    probability: float
    at: datetime
    told: int | None = None


_SAVE = """
with new as (
    select * from json_to_recordset(%(rows)s) as x (ticket_id bigint, metric text, cycle integer, probability real,
        at timestamptz, told integer)
), gone as (
    delete from sla.forecast f where f.ticket_id = any(%(ids)s)
    and not exists (select from new where (new.ticket_id, new.metric, new.cycle) = (f.ticket_id, f.metric, f.cycle))
)
insert into sla.forecast as f (ticket_id, metric, cycle, probability, at, told)
select ticket_id, metric, cycle, probability, at, told from new
on conflict (ticket_id, metric, cycle) do update
set probability = excluded.probability, at = excluded.at, told = coalesce(excluded.told, f.told)
"""


def save(connection: Connection, ids: Sequence[int], rows: Sequence[Row]) -> None:
    """Keep the probabilities of these tickets' running clocks; those of clocks that run no more are forgotten."""
    connection.exec_driver_sql(_SAVE, {"ids": list(ids), "rows": _encoder.encode(rows).decode()})


def told(connection: Connection, ids: Sequence[int]) -> dict[tuple[int, str, int], int]:
    """Of clocks that people were told of as at risk: the generation they were told of."""
    rows = connection.exec_driver_sql(
        "select ticket_id, metric, cycle, told from sla.forecast where ticket_id = any(%s) and told is not null",
        (list(ids),),
    )
    return {(row.ticket_id, row.metric, row.cycle): row.told for row in rows}


def loads(connection: Connection) -> dict[str, float]:
    """Open tickets of each group for each person who has any of them. Reads every open ticket."""
    connection.exec_driver_sql("set local enable_seqscan = on")
    rows = connection.exec_driver_sql(
        """select group_name, count(*) / greatest(1, count(distinct assignee))::float as load
        from ledger.ticket where status = any(%s) and group_name is not null group by 1""",
        (sorted(OPEN),),
    )
    return {row.group_name: row.load for row in rows}


def expected(connection: Connection) -> dict[str, float]:
    """By family of the metric: how many of the running clocks are expected to be breached."""
    rows = connection.exec_driver_sql(
        "select split_part(metric, ':', 1) as family, sum(probability) as expected from sla.forecast group by 1"
    )
    return {row.family: row.expected for row in rows}


# ---- models ----------------------------------------------------------------------------------------------------------------


def publish(connection: Connection, data: str, figures: Mapping[str, Any], by: str) -> int:
    """Store a model; it is the current one from now on. Returns its number."""
    connection.exec_driver_sql("select pg_advisory_xact_lock(%s)", (_SPACE,))
    row = connection.exec_driver_sql(
        """insert into sla.model (number, data, figures, published_at, published_by)
        select coalesce(max(number), 0) + 1, %s::jsonb, %s::jsonb, clock_timestamp(), %s from sla.model returning number""",
        (data, _encoder.encode(figures).decode(), by),
    ).one()
    return int(row.number)


def withdraw(connection: Connection) -> None:
    """No model is current any more; the kept probabilities are forgotten."""
    connection.exec_driver_sql("select pg_advisory_xact_lock(%s)", (_SPACE,))
    connection.exec_driver_sql(
        """insert into sla.model (number, data, figures, published_at, published_by)
        select coalesce(max(number), 0) + 1, null, '{}', clock_timestamp(), '' from sla.model"""
    )
    connection.exec_driver_sql("delete from sla.forecast")


def current(connection: Connection) -> int:
    """The number of the current model, 0 when there is none."""
    row = connection.exec_driver_sql(
        "select number, data is null as none from sla.model order by number desc limit 1"
    ).one_or_none()
    return 0 if row is None or row.none else int(row.number)


def read(connection: Connection, number: int) -> str:
    """A model's data."""
    found = connection.exec_driver_sql("select data::text as data from sla.model where number = %s", (number,))
    return str(found.scalar_one())
