"""Repeat requests: the same requester with the same thing again, recognised as the ticket is opened."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from shared.contracts.intake import TicketIn
from shared.ledger.unit import dumps
from shared.playbook.model import Playbook

_EARLIER = """
select x.place, t.id from json_to_recordset(%(wanted)s) as x (place integer, requester text, facts jsonb)
cross join lateral (
    select t.id from ledger.ticket t
    where t.requester = x.requester and t.status <> 'merged' and t.state -> 'fields' @> x.facts
    and coalesce((t.state ->> 'resolved_at')::timestamptz, t.opened_at) >= %(since)s
    order by t.opened_at desc limit 1) t
"""
"""By the index of requesters: costs what this requester has had, not what is open."""


def earlier(
    connection: Connection, playbook: Playbook, tickets: Sequence[TicketIn], now: datetime
) -> list[dict[str, Any]]:
    """The fields that name the earlier ticket of each; empty where there is none, or where the playbook asks for nothing."""
    rule = playbook.document.repeats
    found: list[dict[str, Any]] = [{} for _ in tickets]
    if rule is None:
        return found
    wanted = []
    for place, ticket in enumerate(tickets):
        requester = ticket.requester.id or ticket.requester.email if ticket.requester is not None else None
        facts = {name: ticket.fields.get(name) for name in rule.same}
        if requester is not None and None not in facts.values() and rule.field not in ticket.fields:
            wanted.append({"place": place, "requester": requester, "facts": facts})
    if wanted:
        values = {"wanted": dumps(wanted), "since": now - rule.within}
        for row in connection.exec_driver_sql(_EARLIER, values):
            found[row.place] = {rule.field: f"T-{row.id}"}
    return found
