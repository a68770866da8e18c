"""What must always be true, as SQL queries that return no row. Run after every integration and fault test, and each minute in
production as `signalbox_invariant_violations{invariant}`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

LIMIT = 20


@dataclass(frozen=True, slots=True)
class Invariant:
    """One query; every row it returns is a fault. `needs`: tables that must exist for it to mean anything."""

    name: str
    query: str
    needs: tuple[str, ...] = ()


INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "gapless_versions",
        """select kind, id, count(*) as events, max(version) as last from ledger.event group by kind, id
        having min(version) <> 1 or max(version) <> count(*)""",
    ),
    Invariant(
        "version_is_last_event",
        """select t.id, t.version from ledger.ticket t
        where t.version is distinct from (select max(version) from ledger.event e where e.kind = 'ticket' and e.id = t.id)""",
    ),
    Invariant(
        "projection_equals_events",
        """select t.id, t.status, s.type from ledger.ticket t
        cross join lateral (
            select e.type from ledger.event e where e.kind = 'ticket' and e.id = t.id and e.type = any(array['ticket.opened',
                'ticket.assigned', 'ticket.accepted', 'ticket.queued', 'ticket.declined', 'ticket.transferred', 'ticket.paused',
                'ticket.resumed', 'ticket.resolved', 'ticket.reopened', 'ticket.closed', 'ticket.merged'])
            order by e.version desc limit 1) s
        where not (case s.type
            when 'ticket.resolved' then t.status = 'resolved' when 'ticket.closed' then t.status = 'closed'
            when 'ticket.merged' then t.status = 'merged' when 'ticket.paused' then t.status = 'pending'
            when 'ticket.accepted' then t.status in ('in_progress', 'pending', 'assigned', 'new')
            else t.status in ('new', 'assigned', 'in_progress', 'pending') end)""",
    ),
    Invariant(
        "columns_equal_state",
        """select id from ledger.ticket where status is distinct from state ->> 'status'
        or assignee is distinct from state ->> 'assignee' or version <> (state ->> 'version')::integer
        or group_name is distinct from state ->> 'group' or priority is distinct from state ->> 'priority'""",
    ),
    Invariant(
        "no_live_agenda_on_merged_ticket",
        """select a.service, a.id from ledger.agenda a join ledger.ticket t on t.id = a.id
        where a.kind = 'ticket' and t.status = 'merged' and a.due_at > ledger.now() + interval '1 minute'""",
    ),
    Invariant(
        "one_open_assignment",
        """select ticket_id, node, visit, count(*) from router.assignment where ended_at is null
        group by 1, 2, 3 having count(*) > 1""",
        ("router.assignment",),
    ),
    Invariant(
        "load_equals_open_assignments",
        """select coalesce(l.agent, a.agent) as agent, l.open_count, a.open, l.load, a.weight
        from router.load l full join (
            select agent, count(*) as open, sum(weight) as weight from router.assignment where ended_at is null group by agent
        ) a on a.agent = l.agent
        where coalesce(l.open_count, 0) <> coalesce(a.open, 0) or coalesce(l.load, 0) <> coalesce(a.weight, 0)""",
        ("router.load", "router.assignment"),
    ),
    Invariant(
        "no_open_assignment_on_closed_ticket",
        """select a.ticket_id, a.agent from router.assignment a join ledger.ticket t on t.id = a.ticket_id
        where a.ended_at is null and t.status in ('closed', 'merged')
        and not exists (select from ledger.agenda d where d.kind = 'ticket' and d.id = t.id and d.service = 'router'
            and (d.due_at <= ledger.now() or d.quarantined_at is not null))""",
        ("router.assignment",),
    ),
    Invariant(
        "no_live_timer_on_closed_ticket",
        """select c.ticket_id, c.metric from sla.v_clock c join ledger.ticket t on t.id = c.ticket_id
        where t.status in ('closed', 'merged') and c.state in ('running', 'paused')
        and not exists (select from ledger.agenda a where a.kind = 'ticket' and a.id = t.id and a.service = 'sla'
            and a.due_at <= ledger.now())""",
        ("sla.v_clock",),
    ),
    Invariant(
        "no_live_agenda_on_closed_ticket",
        """select a.service, a.id, a.due_at from ledger.agenda a join ledger.ticket t on t.id = a.id
        where a.kind = 'ticket' and a.service in ('sla', 'escalation') and t.status = 'closed'
        and a.due_at > ledger.now() + interval '1 minute'""",
    ),
    Invariant(
        "no_running_escalation_on_closed_ticket",
        """select e.ticket_id, e.escalation from escalation.v_escalation e join ledger.ticket t on t.id = e.ticket_id
        where e.state = 'running' and t.status in ('closed', 'merged')
        and not exists (select from ledger.agenda a where a.kind = 'ticket' and a.id = t.id and a.service = 'escalation'
            and (a.due_at <= ledger.now() or a.quarantined_at is not null))""",
        ("escalation.v_escalation",),
    ),
    Invariant(
        "one_effect_per_timer_generation",
        """select id, type, data ->> 'metric' as metric, data ->> 'threshold' as threshold, count(*) from ledger.event
        where type in ('sla.warned', 'sla.breached')
        group by id, type, data ->> 'metric', data ->> 'threshold', coalesce(data ->> 'cycle', '1'),
            coalesce(data ->> 'generation', '1')
        having count(*) > 1""",
    ),
    Invariant(
        "one_notification_per_event_recipient_channel",
        """select event_kind, event_item, event_version, recipient, channel, count(*) from notifier.notification
        group by 1, 2, 3, 4, 5 having count(*) > 1""",
        ("notifier.notification",),
    ),
    Invariant(
        "open_ticket_is_watched",
        """select t.id, t.status from ledger.ticket t
        where t.status in ('new', 'assigned', 'in_progress', 'pending') and (t.state ->> 'classified')::boolean
        and not exists (select from escalation.ticket w where w.ticket_id = t.id and w.next_at is not null)
        and not exists (select from ledger.agenda a where a.kind = 'ticket' and a.id = t.id and a.service = 'escalation'
            and a.due_at <= ledger.now())""",
        ("escalation.ticket",),
    ),
    Invariant(
        "every_open_ticket_has_a_next_mover",
        # somebody who has it or is offered it, a place in the waiting list, or an instant at which a service looks again (or the
        # quarantine, which operators empty); a ticket that was paused before anybody had it waits for whoever resumes it
        """select t.id, t.status from ledger.ticket t
        where t.status in ('new', 'assigned', 'in_progress', 'pending') and t.assignee is null
        and t.state ->> 'offered_to' is null and (t.status <> 'pending' or t.group_name is null)
        and not exists (select from router.waiting w where w.ticket_id = t.id)
        and not exists (select from ledger.agenda a where a.kind = 'ticket' and a.id = t.id
            and (a.due_at is not null or a.quarantined_at is not null))""",
        ("router.waiting",),
    ),
)


def violations(connection: Connection, invariant: Invariant) -> list[tuple[Any, ...]]:
    """The first rows that break an invariant; none when its tables do not exist yet."""
    for table in invariant.needs:
        if connection.exec_driver_sql("select to_regclass(%s)", (table,)).scalar_one() is None:
            return []
    rows = connection.exec_driver_sql(f"select * from ({invariant.query}) broken limit {LIMIT}")
    return [tuple(row) for row in rows]
