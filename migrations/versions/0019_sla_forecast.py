"""SLA: published forecasts, and how likely each running clock is to be breached."""

from alembic import op

revision = "0019"
down_revision = "0018"

STATEMENTS = """
-- The highest number is the current model; one without data says that there is none.
create table sla.model (
    number integer primary key,
    data jsonb,
    figures jsonb not null,
    published_at timestamptz not null,
    published_by text not null
);

-- A reading, not a fact: what the forecast last said of each running clock.
create table sla.forecast (
    ticket_id bigint not null,
    metric text not null,
    cycle integer not null,
    probability real not null,
    at timestamptz not null,
    told integer,
    primary key (ticket_id, metric, cycle)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

create or replace view sla.v_clock as
with clocks as (
    select t.ticket_id, c.clock from sla.ticket t
    cross join lateral jsonb_array_elements(coalesce(t.state -> 'clocks', '[]')) as c (clock)
    where c.clock ->> 'stopped_at' is null
    union all
    select ticket_id, clock from sla.ended
)
select c.ticket_id, clock ->> 'metric' as metric, (clock ->> 'cycle')::integer as cycle,
    coalesce(clock ->> 'state', 'running') as state, coalesce((clock ->> 'paused')::boolean, false) as paused,
    (clock ->> 'started_at')::timestamptz as started_at, (clock ->> 'due_at')::timestamptz as due_at,
    extract(epoch from (clock ->> 'target')::interval)::double precision as target_seconds,
    coalesce(extract(epoch from (clock ->> 'elapsed')::interval), 0)::double precision as elapsed_seconds,
    coalesce(extract(epoch from (clock ->> 'paused_time')::interval), 0)::double precision as paused_seconds,
    (clock ->> 'as_of')::timestamptz as as_of,
    array(select w::timestamptz from jsonb_array_elements_text(coalesce(clock -> 'warned_at', '[]')) w) as warned_at,
    (clock ->> 'breached_at')::timestamptz as breached_at, (clock ->> 'stopped_at')::timestamptz as stopped_at,
    clock -> 'spans' -> -1 ->> 2 as policy, (clock -> 'spans' -> -1 ->> 1)::integer as policy_version,
    clock ->> 'calendar' as calendar, (clock -> 'spans' -> -1 ->> 1)::integer as calendar_version,
    f.probability::double precision as breach_probability
from clocks c left join sla.forecast f
    on f.ticket_id = c.ticket_id and f.metric = c.clock ->> 'metric' and f.cycle = (c.clock ->> 'cycle')::integer
    and c.clock ->> 'stopped_at' is null;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("drop table sla.forecast, sla.model cascade")
