"""SLA: a ticket's clocks in a short form, 1 KB in place of 2.4 (services/sla/domain/kept.py names what stands where).

A row has it in `kept` and an empty object in `state`, or still the long one in `state` until it is written again; the views read
either.
"""

from alembic import op

revision = "0027"
down_revision = "0026"

STATEMENTS = """
alter table sla.ticket add column kept json;
alter table sla.ticket alter column kept set statistics 0;

create or replace view sla.v_clock as
with readings as (
    select t.ticket_id, clock ->> 0 as metric, coalesce((rest ->> 'cycle')::integer, 1) as cycle,
        coalesce(rest ->> 'state', 'running') as state, coalesce((rest ->> 'paused')::boolean, false) as paused,
        coalesce(rest ->> 'started_at', t.kept -> 3 -> 0 ->> 0)::timestamptz as started_at,
        (clock ->> 1)::timestamptz as due_at, (clock ->> 2)::interval as target, (clock ->> 3)::interval as elapsed,
        (rest ->> 'paused_time')::interval as paused_time,
        coalesce(rest ->> 'as_of', rest ->> 'armed_at', t.kept ->> 1)::timestamptz as as_of,
        array(select w::timestamptz from json_array_elements_text(coalesce(rest -> 'warned_at', '[]')) w) as warned_at,
        (rest ->> 'breached_at')::timestamptz as breached_at, null::timestamptz as stopped_at,
        coalesce(rest -> 'spans' -> -1 ->> 2, t.kept ->> 2) as policy,
        coalesce(rest -> 'spans' -> -1 ->> 1, t.kept ->> 0)::integer as policy_version, rest ->> 'calendar' as calendar
    from sla.ticket t cross join lateral json_array_elements(t.kept -> 5) as c (clock)
    cross join lateral (select c.clock -> 5 as rest) r
    where rest ->> 'stopped_at' is null
    union all
    select ticket_id, clock ->> 'metric', (clock ->> 'cycle')::integer,
        coalesce(clock ->> 'state', 'running'), coalesce((clock ->> 'paused')::boolean, false),
        (clock ->> 'started_at')::timestamptz,
        (clock ->> 'due_at')::timestamptz, (clock ->> 'target')::interval, (clock ->> 'elapsed')::interval,
        (clock ->> 'paused_time')::interval,
        (clock ->> 'as_of')::timestamptz,
        array(select w::timestamptz from jsonb_array_elements_text(coalesce(clock -> 'warned_at', '[]')) w),
        (clock ->> 'breached_at')::timestamptz, (clock ->> 'stopped_at')::timestamptz,
        clock -> 'spans' -> -1 ->> 2,
        (clock -> 'spans' -> -1 ->> 1)::integer, clock ->> 'calendar'
    from (
        select t.ticket_id, c.clock from sla.ticket t cross join lateral jsonb_array_elements(t.state -> 'clocks') as c (clock)
        where c.clock ->> 'stopped_at' is null
        union all
        select ticket_id, clock from sla.ended
    ) long
)
select c.ticket_id, c.metric, c.cycle, c.state, c.paused, c.started_at, c.due_at,
    extract(epoch from c.target)::double precision as target_seconds,
    coalesce(extract(epoch from c.elapsed), 0)::double precision as elapsed_seconds,
    coalesce(extract(epoch from c.paused_time), 0)::double precision as paused_seconds,
    c.as_of, c.warned_at, c.breached_at, c.stopped_at, c.policy, c.policy_version, c.calendar,
    c.policy_version as calendar_version, f.probability::double precision as breach_probability
from readings c left join sla.forecast f
    on f.ticket_id = c.ticket_id and f.metric = c.metric and f.cycle = c.cycle and c.stopped_at is null;

create or replace view sla.v_attribution as
with places as (
    select t.ticket_id, p.number, p.place from sla.ticket t
    cross join lateral json_array_elements(t.kept -> 4) with ordinality as p (place, number)
    union all
    select t.ticket_id, p.number, p.place::json from sla.ticket t
    cross join lateral jsonb_array_elements(t.state -> 'places') with ordinality as p (place, number)
)
select ticket_id, (place ->> 0)::timestamptz as started_at,
    lead((place ->> 0)::timestamptz) over (partition by ticket_id order by number) as ended_at,
    place ->> 1 as kind, place ->> 2 as team, place ->> 3 as person, place ->> 4 as node
from places;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    pass
