"""Figures of a period for leads: how often the same thing had to be done again, and whose work stood still."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from shared.playbook.model import Repeats

Row = dict[str, Any]
REPEAT_WAYS = {
    "kind": "t.kind",
    "group": "t.state ->> 'home_group'",
    "month": "to_char(t.opened_at at time zone 'UTC', 'YYYY-MM')",
}
STALL_WAYS = {"owner": "s.owner", "group": "s.group_name", "node": "s.node"}

_REPEATS = """
select {way} as name, count(*) as tickets, count(*) filter (where jsonb_exists(t.state -> 'fields', :field)) as repeats
from ledger.ticket t
where t.opened_at >= :since and t.opened_at < :until and t.status <> 'merged'
and jsonb_exists_all(t.state -> 'fields', cast(:same as text[]))
group by 1 order by repeats desc, tickets desc, 1 nulls last
"""
_STALLS = """
select {way} as name, count(*) as stalls, count(distinct s.ticket_id) as tickets,
    percentile_cont(0.5) within group (order by s.dwell_seconds) as median_dwell_seconds,
    max(s.dwell_seconds) as longest_dwell_seconds, count(*) filter (where s.level > 0) as escalated, max(s.level) as highest_level
from escalation.v_stall s where s.stalled_at >= :since and s.stalled_at < :until
group by 1 order by stalls desc, 1 nulls last
"""
_SHARES = """
select o.key as name, sum(o.value::double precision) as seconds
from escalation.v_stall s cross join lateral jsonb_each_text(s.shares) as o
where s.stalled_at >= :since and s.stalled_at < :until group by 1 order by seconds desc, 1
"""


def repeats(connection: Connection, rule: Repeats | None, since: datetime, until: datetime, way: str) -> Row:
    """The repeat-dispatch rate of tickets opened within [since, until): those that name an earlier one, of all that could have.

    All that could: tickets with the fields by which the playbook knows a repeat (`repeats.same`); none without such a rule.
    """
    rows: list[Row] = []
    if rule is not None:
        connection.execute(text("set local enable_seqscan = on"))
        values = {"since": since, "until": until, "field": rule.field, "same": list(rule.same)}
        rows = [dict(row) for row in connection.execute(text(_REPEATS.format(way=REPEAT_WAYS[way])), values).mappings()]
    tickets, again = sum(row["tickets"] for row in rows), sum(row["repeats"] for row in rows)
    return {
        "since": since,
        "until": until,
        "by": way,
        "tickets": tickets,
        "repeats": again,
        "rate": _rate(again, tickets),
        "items": [row | {"rate": _rate(row["repeats"], row["tickets"])} for row in rows],
    }


def stalls(connection: Connection, since: datetime, until: datetime, way: str) -> Row:
    """What stood still within [since, until): by whoever had it when it did; `shares` is the time of all who had had it."""
    connection.execute(text("set local enable_seqscan = on"))
    values = {"since": since, "until": until}
    rows = [dict(row) for row in connection.execute(text(_STALLS.format(way=STALL_WAYS[way])), values).mappings()]
    shares = [dict(row) for row in connection.execute(text(_SHARES), values).mappings()]
    total = sum(row["stalls"] for row in rows)
    return {"since": since, "until": until, "by": way, "stalls": total, "items": rows, "shares": shares}


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None
