"""The waiting list: whose turn it is when somebody is free.

A ticket that waits is not in this batch's hands, yet it may stand before those that are. So the assigner is asked about
both: the tickets in hand and, as shadows, those of the waiting list that somebody could take now, all by priority and
waiting time. Shadows that get somebody are roused and take them when their own turn comes; what they would take is not
given to those behind them. Tickets with the same demand stand in one line, of which only the head is looked at first,
so that a line nobody can serve costs one look and never blocks another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection

from services.router.domain.assign import Assigner
from services.router.domain.desk import Request
from services.router.store import Standing, Tables
from shared.ledger.unit import dumps

MOST = 200
"""Shadows of one batch; the next batch goes on where it ends."""
LINES = 400


def line_of(demand: dict[str, Any]) -> str:
    """The line that tickets with this demand stand in."""
    return hashlib.blake2b(dumps(demand).encode(), digest_size=8).hexdigest()


def shadows(
    connection: Connection,
    tables: Tables,
    assigner: Assigner,
    groups: Iterable[str],
    but: Sequence[int],
    most: int = MOST,
) -> list[Request]:
    """Waiting tickets of groups that somebody of the assigner's pool could take now, at most as many as there are places."""
    heads = tables.lines(connection, groups, but, LINES)
    if not heads:
        return []
    wanted: list[dict[str, Any]] = []
    for head in heads:
        places = assigner.places(request_of(head), most)
        if places:
            wanted.append({"group_name": head.group, "line": head.line, "n": places})
    if not wanted:
        return []
    if all(one["n"] == 1 for one in wanted):
        served = {(one["group_name"], one["line"]) for one in wanted}
        return [request_of(head) for head in heads if (head.group, head.line) in served]
    found = tables.standing(connection, wanted, but)
    return [request_of(one) for one in sorted(found, key=lambda one: (one.rank, one.queued_at))[:most]]


def request_of(standing: Standing) -> Request:
    """What a waiting ticket asks for, from what the waiting list keeps."""
    demand = standing.demand
    return Request(
        standing.ticket_id,
        standing.group,
        standing.queued_at,
        standing.rank,
        int(demand["weight"]),
        tuple((name, level) for name, level in demand["skills"]),
        tuple((name, level) for name, level in demand["preferred"]),
        float(demand["effort_seconds"]),
        frozenset(demand.get("declined", ())),
        None,
        demand.get("named"),
        bool(demand.get("outside", False)),
    )
