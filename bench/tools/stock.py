"""A stock of tickets in an instant: one real ticket goes through all services, the rest are its copies with other instants.

Opening a million tickets one by one would take longer than what is measured. A copy has everything its original has (row, events,
agenda, clocks); only the instants of its clocks are its own, moved together: the services find what they would have written.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from bench.tools import desk
from services.control import platform
from services.gateway.intake import Intake, Submission
from services.notifier.bootstrap import build_silent
from shared.ledger import business
from shared.ledger.process import Deps, WorkerProcess
from shared.runtime import copying

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)")
_PATIENCE = "set local statement_timeout = 0; set local transaction_timeout = 0; set local idle_in_transaction_session_timeout = 0"
WARN_BEFORE = timedelta(minutes=30)


def original(deps: Deps, *, text: str = "") -> int:
    """One ticket, opened and taken through every service; its id."""
    opened = Intake(deps).open_many([Submission(desk.ticket(random.Random(3), text=text), desk.SENDER)])[0]
    assert opened.ticket is not None
    parts = [platform.parts(name, deps) for name in ("router", "sla", "escalation")]
    process = WorkerProcess(deps, [*parts, build_silent(deps)])
    for _ in range(2):
        for lane in process.build():
            lane.drain()
    return opened.ticket.id


def copies(deps: Deps, source: int, warned_at: Sequence[datetime], *, lane: str | None = None) -> list[int]:
    """Copies of a ticket whose first clock warns at these instants; their ids, in the same order."""
    with deps.engine.begin() as connection:
        connection.exec_driver_sql(_PATIENCE)
        start = _reserve(connection, len(warned_at))
        lanes = {"id": source, "start": start, "last": start + len(warned_at) - 1, "lane": lane}
        for statement in (_TICKETS, _EVENTS, _AGENDA, _WATCHED, _BOARD, _ASSIGNED):
            connection.exec_driver_sql(statement, lanes)
        _clocks(connection, source, start, warned_at)
    return list(range(start, start + len(warned_at)))


def far(deps: Deps, source: int, count: int, *, hours: tuple[float, float] = (2.0, 24.0)) -> None:
    """So many armed clocks that nobody will look at during the benchmark: ticket and agenda row, spread over hours ahead."""
    with deps.engine.begin() as connection:
        connection.exec_driver_sql(_PATIENCE)
        start = _reserve(connection, count)
        values = {"id": source, "start": start, "last": start + count - 1, "lane": None}
        for statement in (_FAR_TICKETS, _FAR_EVENTS, _WATCHED):
            connection.exec_driver_sql(statement, values)
        connection.exec_driver_sql(
            """insert into ledger.agenda (service, kind, id, lane, due_at, seen_version)
            select 'sla', 'ticket', n, 'normal', ledger.now() + make_interval(secs => %(low)s + random() * %(wide)s), 1
            from generate_series(%(start)s::bigint, %(last)s) n""",
            values | {"low": hours[0] * 3600, "wide": (hours[1] - hours[0]) * 3600},
        )


def now(deps: Deps) -> datetime:
    """Business now."""
    with deps.engine.connect() as connection:
        return business.now(connection)


_TICKETS = """
insert into ledger.ticket (id, version, status, priority, group_name, assignee, kind, source, lane, digest, opened_at, updated_at,
    state)
select n, t.version, t.status, t.priority, t.group_name, t.assignee, t.kind, t.source, coalesce(%(lane)s, t.lane), t.digest,
    t.opened_at, t.updated_at, t.state || jsonb_build_object('id', n, 'lane', coalesce(%(lane)s, t.lane))
from ledger.ticket t, generate_series(%(start)s::bigint, %(last)s) n where t.id = %(id)s
"""
_FAR_TICKETS = """
insert into ledger.ticket (id, version, status, priority, group_name, assignee, kind, source, lane, digest, opened_at, updated_at,
    state)
select n, 1, t.status, t.priority, t.group_name, t.assignee, t.kind, t.source, t.lane, t.digest, t.opened_at, t.updated_at,
    t.state || jsonb_build_object('id', n, 'version', 1)
from ledger.ticket t, generate_series(%(start)s::bigint, %(last)s) n where t.id = %(id)s
"""
_FAR_EVENTS = """
insert into ledger.event (kind, id, version, type, happened_at, recorded_at, actor, given, playbook, correlation, data)
select 'ticket', n, 1, 'ticket.assigned', t.opened_at, t.opened_at, '{"kind": "service", "id": "bench"}', true, 1,
    'ticket-' || n, '{"group": "g0", "agent": "a0", "assignment": 1}'
from ledger.ticket t, generate_series(%(start)s::bigint, %(last)s) n where t.id = %(id)s
"""
"""One small event, so that versions are without gaps; what else a far ticket would have is never read here."""
_EVENTS = """
insert into ledger.event (kind, id, version, type, happened_at, recorded_at, actor, given, playbook, correlation, reason, data)
select e.kind, n, e.version, e.type, e.happened_at, e.recorded_at, e.actor, e.given, e.playbook, 'ticket-' || n, e.reason, e.data
from ledger.event e, generate_series(%(start)s::bigint, %(last)s) n where e.kind = 'ticket' and e.id = %(id)s
"""
_AGENDA = """
insert into ledger.agenda (service, kind, id, lane, due_at, seen_version)
select a.service, a.kind, n, coalesce(%(lane)s, a.lane), null, a.seen_version
from ledger.agenda a, generate_series(%(start)s::bigint, %(last)s) n where a.kind = 'ticket' and a.id = %(id)s
"""
_WATCHED = """
insert into escalation.ticket (ticket_id, state, mover, next_at)
select n, t.state, t.mover, t.next_at from escalation.ticket t,
    generate_series(%(start)s::bigint, %(last)s) n where t.ticket_id = %(id)s
"""
_BOARD = """
insert into escalation.board (ticket_id, node, visit, stage, group_name, owner, entered_at, due_at, stalled, unaccepted, escalation,
    paused)
select n, b.node, b.visit, b.stage, b.group_name, b.owner, b.entered_at, b.due_at, b.stalled, b.unaccepted, b.escalation, b.paused
from escalation.board b, generate_series(%(start)s::bigint, %(last)s) n where b.ticket_id = %(id)s
"""
_ASSIGNED = """
with made as (
    insert into router.assignment (ticket_id, assignment, node, visit, group_name, agent, base, weight, offer, over_capacity,
        assigned_at)
    select n, a.assignment, a.node, a.visit, a.group_name, a.agent, a.base, a.weight, a.offer, a.over_capacity, a.assigned_at
    from router.assignment a, generate_series(%(start)s::bigint, %(last)s) n where a.ticket_id = %(id)s
    returning agent, weight
)
update router.load l set load = l.load + m.load, open_count = l.open_count + m.count
from (select agent, sum(weight) as load, count(*) as count from made group by agent) m where l.agent = m.agent
"""


def _reserve(connection: Connection, count: int) -> int:
    start = connection.exec_driver_sql("select nextval('ledger.id_seq')").scalar_one()
    connection.exec_driver_sql("select setval('ledger.id_seq', %s)", (start + count + 100,))
    return int(start)


def _clocks(connection: Connection, source: int, start: int, warned_at: Sequence[datetime]) -> None:
    row: Any = connection.exec_driver_sql(
        "select version, next_due_at, kept::text as kept from sla.ticket where ticket_id = %s", (source,)
    ).one()
    pieces = _INSTANT.split(row.kept)
    instants = [datetime.fromisoformat(found) for found in _INSTANT.findall(row.kept)]
    lines = []
    for index, at in enumerate(warned_at):
        moved = at - row.next_due_at
        words = [pieces[0]]
        for instant, piece in zip(instants, pieces[1:], strict=True):
            words += [(instant + moved).isoformat(), piece]
        kept = "".join(words).replace("\\", "\\\\").encode()
        lines.append(
            copying.line(b"%d" % (start + index), copying.number(row.version), copying.instant(at), b"{}", kept)
        )
    copying.copy(connection, "sla.ticket (ticket_id, version, next_due_at, state, kept)", lines)
    connection.exec_driver_sql(
        """update ledger.agenda a set due_at = t.next_due_at from sla.ticket t
        where a.service = 'sla' and a.kind = 'ticket' and a.id = t.ticket_id and t.ticket_id between %s and %s""",
        (start, start + len(warned_at) - 1),
    )
