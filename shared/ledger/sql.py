"""The ledger's statements. Each is set-based over JSON rows: one round trip a batch, whatever its size.

Planner settings that these rely on are on the worker's connections (shared/runtime/database.py).
"""

from __future__ import annotations

CLAIM = """
select a.id, a.lane, a.seen_version, a.failures, a.crashes, a.due_at, i.version, {state} as state, (select ledger.now()) as now
from ledger.agenda a join {table} i on i.id = a.id
where a.service = %(service)s and a.kind = %(kind)s and a.lane = %(lane)s
  and a.due_at <= ledger.now() and a.due_at is not null and a.quarantined_at is null and a.crashes {crashes}
order by a.due_at limit %(limit)s
for update of i, a skip locked
"""
"""Due items of one lane, item row and agenda row locked together; never waits. `crashes`: whether they are suspects; there
is an index of those. (Now in a subquery, else it is worked out anew for each row.)"""

CLAIM_IDS = """
select a.id, a.lane, a.seen_version, a.failures, a.crashes, a.due_at, i.version, {state} as state, (select ledger.now()) as now
from ledger.agenda a join {table} i on i.id = a.id
where a.service = %(service)s and a.kind = %(kind)s and a.id = any(%(ids)s)
  and a.due_at <= ledger.now() and a.due_at is not null and a.quarantined_at is null
order by a.due_at
for update of i, a skip locked
"""
"""The same for named items: the halves of a batch that failed."""

EVENTS_SINCE = """
select e.id, e.version, e.type, e.happened_at, e.recorded_at, e.actor::text as actor, e.given, e.playbook, e.correlation,
       e.position, e.reason::text as reason, e.data::text as data
from json_to_recordset(%(seen)s) as x (id bigint, seen integer)
cross join lateral (
    select * from ledger.event e where e.kind = %(kind)s and e.id = x.id and e.version > x.seen order by e.version offset 0
) e
"""
"""Events after `seen` of each item, in version order. A statement of its own, after the lock: in the claim's own snapshot a wake-up
could be lost. Lateral, with `offset 0`: on a table without statistics the planner would else read every event for each batch."""

LOCK_TICKETS = (
    "select id, version, state::text as state from ledger.ticket where id = any(%(ids)s) order by id for update"
)
"""People's commands wait here, in id order."""

_UNDER = """status = any(%(open)s)
  and (%(exactly)s::integer is null or coalesce((state ->> 'playbook')::integer, 0) = %(exactly)s)
  and (%(other)s::integer is null or coalesce((state ->> 'playbook')::integer, 0) <> %(other)s)"""

LOCK_UNDER = (
    "select id, state::text as state from ledger.ticket where id > %(after)s {named} and "
    + _UNDER
    + " order by id limit %(limit)s for update {waiting}"
)
"""Open tickets under some playbook version, a page at a time."""

IDS_UNDER = "select id from ledger.ticket where " + _UNDER + " order by id"

EVENTS = """ledger.event (kind, id, version, type, happened_at, recorded_at, actor, given, playbook, correlation, reason, data)"""
"""Where events are copied to; their position and transaction are the table's own defaults."""

SAVE_TICKETS = """
update ledger.ticket t set version = x.version, status = x.status, priority = x.priority, group_name = x.group_name,
    assignee = x.assignee, kind = x.kind, lane = x.lane, updated_at = x.updated_at, state = x.state::jsonb
from unnest(%(ids)s, %(versions)s, %(statuses)s, %(priorities)s, %(groups)s, %(assignees)s, %(kinds)s, %(lanes)s, %(updated)s,
    %(states)s) as x (id, version, status, priority, group_name, assignee, kind, lane, updated_at, state)
where t.id = x.id
"""
"""The projections of tickets whose locks are held."""

WAKE = """
insert into ledger.agenda as a (service, kind, id, lane, due_at)
select * from unnest(%(services)s, %(kinds)s, %(ids)s, %(lanes)s, %(dues)s)
on conflict (kind, id, service) do update set due_at = least(a.due_at, excluded.due_at), lane = excluded.lane
"""
"""Other services' wake-ups."""

FRESH = "ledger.agenda (service, kind, id, lane, due_at, seen_version)"
"""Where agenda rows are copied to that nobody had before; the item's lock keeps it so."""

SETTLE = """
update ledger.agenda a set due_at = x.due_at, seen_version = x.seen, lane = x.lane, failures = 0, crashes = 0, error = null
from unnest(%(services)s, %(kinds)s, %(ids)s, %(lanes)s, %(dues)s, %(seen)s) as x (service, kind, id, lane, due_at, seen)
where a.service = x.service and a.kind = x.kind and a.id = x.id
"""
"""The agenda rows of those who decided."""

LEAVE = """
delete from ledger.agenda a using unnest(%(services)s, %(kinds)s, %(ids)s) as x (service, kind, id)
where a.service = x.service and a.kind = x.kind and a.id = x.id
"""
"""The agenda rows of items that are done (`Kind.leaves`): a million sent messages need no row each."""

SIBLINGS = """
select a.service, a.id, a.seen_version, a.due_at,
    a.failures = 0 and a.crashes = 0 and a.quarantined_at is null as sound
from ledger.agenda a where a.kind = %(kind)s and a.id = any(%(ids)s) and a.service = any(%(services)s)
"""
"""Other services' agenda rows of items whose lock is held: nobody else can move them."""

SAVE_ITEMS = """
update ledger.item i set version = x.version, state = coalesce(x.state, i.state)
from json_to_recordset(%(rows)s) as x (id bigint, version integer, state jsonb) where i.id = x.id
"""

OPEN_TICKETS = """
with input as (
    select * from json_to_recordset(%(tickets)s) as x (id bigint, version integer, status text, source text, external_id text,
        dedup_key text, requester text, lane text, digest bigint, opened_at timestamptz, updated_at timestamptz, kind text,
        state jsonb, agenda_lane text)
), fresh as (
    insert into ledger.ticket (id, version, status, source, external_id, dedup_key, requester, lane, digest, opened_at,
        updated_at, kind, state)
    select id, version, status, source, external_id, dedup_key, requester, lane, digest, opened_at, updated_at, kind, state
    from input
    on conflict (source, external_id) where external_id is not null do nothing
    returning id, lane
), events as (
    insert into ledger.event (kind, id, version, type, happened_at, recorded_at, actor, given, playbook, correlation, reason, data)
    select 'ticket', e.id, e.version, e.type, e.happened_at, e.recorded_at, e.actor, e.given, e.playbook, e.correlation,
        e.reason, e.data
    from json_to_recordset(%(events)s) as e (id bigint, version integer, type text, happened_at timestamptz,
        recorded_at timestamptz, actor json, given boolean, playbook integer, correlation text, reason json, data json)
    join fresh on fresh.id = e.id
), wakes as (
    insert into ledger.agenda (service, kind, id, lane, due_at)
    select service, 'ticket', fresh.id, fresh.lane, ledger.now() from fresh, unnest(%(services)s::text[]) as service
)
select id from fresh
"""
"""New tickets with their first events and wake-ups; a (source, external_id) that is already there is left out of the answer."""

FAILED = """
update ledger.agenda set failures = failures + 1, error = %(error)s,
    due_at = ledger.now() + make_interval(secs => least(60, power(2, failures))),
    quarantined_at = case when failures + 1 >= %(limit)s or %(permanent)s then clock_timestamp() end
where service = %(service)s and kind = %(kind)s and id = %(id)s
returning quarantined_at is not null as quarantined
"""

JOURNAL = """
insert into ledger.journal as j (worker, slot, service, kind, ids) values (%(worker)s, %(slot)s, %(service)s, %(kind)s, %(ids)s)
on conflict (worker, slot) do update set service = excluded.service, kind = excluded.kind, ids = excluded.ids,
    started_at = clock_timestamp()
"""

DEAD_JOURNALS = """
delete from ledger.journal j where j.worker <> %(worker)s and pg_try_advisory_xact_lock(%(space)s, j.worker)
returning j.worker, j.service, j.kind, j.ids
"""
"""Journal rows of workers that are gone: a worker holds an advisory lock on its number for as long as its session lives."""

BLAME = """
update ledger.agenda a set crashes = case when a.crashes = 0 then 1 when %(alone)s then greatest(a.crashes, 2) + 1 else 2 end,
    due_at = case when crashes > 0 then ledger.now() + make_interval(secs => crashes * %(pause)s) else a.due_at end,
    quarantined_at = case when %(alone)s and crashes > %(limit)s then clock_timestamp() end,
    error = case when %(alone)s and crashes > %(limit)s
        then 'its worker died ' || crashes - 1 || ' times with it alone in hand' end
from (
    select id from ledger.agenda where service = %(service)s and kind = %(kind)s and id = any(%(ids)s)
    and due_at <= ledger.now() and due_at is not null and quarantined_at is null and (%(alone)s or crashes < 2)
    for update skip locked
) b
where a.service = %(service)s and a.kind = %(kind)s and a.id = b.id
returning a.id, a.quarantined_at is not null as quarantined
"""
"""Items that were in a dead worker's hands and are still due. The first death makes suspects, claimed a few at a time from now on;
who was among a few (`crashes` 2) is claimed alone, and each death after that counts. Who kills again waits a moment, so that an
innocent one is not in hand each time that workers are killed."""

_STUCK = """pg_stat_activity
where datname = current_database() and usename = current_user and application_name like 'signalbox %%' and wait_event = 'ClientRead'
  and state in ('active', 'idle in transaction', 'idle in transaction (aborted)')
  and state_change < clock_timestamp() - make_interval(secs => %(seconds)s)
"""
RELEASE = f"select application_name, pg_terminate_backend(pid) as ended from {_STUCK}"
"""Ends sessions of ours whose client stands still in the middle of a transaction. The server's own time-out of idle transactions
does not see all of them: it counts nobody as idle who waits for the rest of a COPY or a pipeline, and a flush request after a
pipeline's end, which the driver sends, stops the time-out of a transaction that is idle from then on."""

TROUBLE = f"""
select exists (select from {_STUCK}) as stuck, exists (
    select from ledger.journal j where j.worker <> %(worker)s and pg_try_advisory_xact_lock(%(space)s, j.worker)) as dead
"""
"""Whether `RELEASE` or `DEAD_JOURNALS` would find anything."""

HORIZON = """
select service, kind, lane, due_at from ledger.agenda
where service = any(%(services)s) and kind = %(kind)s and lane = %(lane)s and due_at is not null and quarantined_at is null
  and due_at <= ledger.now() + make_interval(secs => %(seconds)s)
order by due_at limit %(limit)s
"""

OLDEST_DUE = """
select s.service, s.kind, s.lane, (
    select min(a.due_at) from ledger.agenda a
    where a.service = s.service and a.kind = s.kind and a.lane = s.lane and a.due_at is not null and a.quarantined_at is null
) as due_at, (select ledger.now()) as now
from unnest(%(services)s::text[], %(kinds)s::text[], %(lanes)s::text[]) as s (service, kind, lane)
"""
"""The earliest instant of each lane: one index look-up each, whatever the agenda's size."""

ROUSE = """
with free as (
    select i.id, i.lane from ledger.ticket i where i.id = any(%(ids)s) order by i.id for update skip locked
)
update ledger.agenda a set due_at = ledger.now() from free
where a.service = %(service)s and a.kind = 'ticket' and a.id = free.id and a.quarantined_at is null
  and (a.due_at is null or a.due_at > ledger.now())
returning free.lane
"""
"""Tickets that a service wants to see again although nothing happened to them; those that are busy are left out."""
