"""Whose time it was: one ticket's life, or all tickets' time within a period, split without remainder.

Read from the view `sla.v_attribution`. Each way of splitting is a partition: its parts add up to the whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

Row = dict[str, Any]
WAYS = ("kind", "team", "person", "node")

_OF_TICKET = text(
    """select kind, team, person, node, extract(epoch from sum(coalesce(ended_at, :now) - started_at)) as seconds
    from sla.v_attribution where ticket_id = :id and started_at < :now group by 1, 2, 3, 4"""
)
_OF_PERIOD = text(
    """select kind, team, person, node, count(distinct ticket_id) as tickets,
        extract(epoch from sum(least(coalesce(ended_at, :until), :until) - greatest(started_at, :since))) as seconds
    from sla.v_attribution
    where started_at < :until and coalesce(ended_at, 'infinity') > :since group by 1, 2, 3, 4"""
)


def of_ticket(connection: Connection, ticket_id: int, now: datetime) -> Row:
    """A ticket's life up to `now`, in seconds of wall time, split in every way."""
    rows = list(connection.execute(_OF_TICKET, {"id": ticket_id, "now": now}).mappings())
    return {
        "until": now,
        "seconds": float(sum(row["seconds"] for row in rows)),
        **{way: _parts(rows, way) for way in WAYS},
    }


def of_period(connection: Connection, since: datetime, until: datetime, way: str) -> Row:
    """All tickets' time within [since, until), split one way."""
    connection.execute(text("set local enable_seqscan = on"))
    rows = list(connection.execute(_OF_PERIOD, {"since": since, "until": until}).mappings())
    return {
        "since": since,
        "until": until,
        "by": way,
        "seconds": float(sum(row["seconds"] for row in rows)),
        "items": _parts(rows, way),
    }


def _parts(rows: Iterable[Any], way: str) -> list[Row]:
    """Largest first. Closed time and customer wait are nobody's; the rest belongs to `way`'s bearer, or waits in a queue."""
    total: dict[tuple[str, str | None], float] = {}
    for row in rows:
        part = _part(row, way)
        total[part] = total.get(part, 0.0) + float(row["seconds"])
    ordered = sorted(total.items(), key=lambda one: (-one[1], str(one[0])))
    return [{"part": part, "name": name, "seconds": seconds} for (part, name), seconds in ordered]


def _part(row: Any, way: str) -> tuple[str, str | None]:
    kind: str = row["kind"]
    if kind in ("closed", "customer"):
        return kind, None
    if way == "kind":
        return kind, None
    if way == "person" and kind == "queue":
        return "queue", row["team"]
    return way, row[way]
