"""SLA: a ticket's clocks as one cached state, ended cycles as rows."""

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = """
create schema if not exists sla;

-- A cache: what the clocks are, given the ticket's log up to `version`.
create table sla.ticket (
    ticket_id bigint primary key,
    version integer not null,
    next_due_at timestamptz,
    state jsonb not null
) with (fillfactor = 60);

-- Ended cycles, as they ended; never changed afterwards.
create table sla.ended (
    ticket_id bigint not null,
    metric text not null,
    cycle integer not null,
    clock jsonb not null,
    stopped_at timestamptz not null,
    primary key (ticket_id, metric, cycle)
);

create view sla.v_clock as
with clocks as (
    select t.ticket_id, c.clock from sla.ticket t
    cross join lateral jsonb_array_elements(coalesce(t.state -> 'clocks', '[]')) as c (clock)
    where c.clock ->> 'stopped_at' is null
    union all
    select ticket_id, clock from sla.ended
)
select ticket_id, clock ->> 'metric' as metric, (clock ->> 'cycle')::integer as cycle,
    coalesce(clock ->> 'state', 'running') as state, coalesce((clock ->> 'paused')::boolean, false) as paused,
    (clock ->> 'started_at')::timestamptz as started_at, (clock ->> 'due_at')::timestamptz as due_at,
    extract(epoch from (clock ->> 'target')::interval)::double precision as target_seconds,
    coalesce(extract(epoch from (clock ->> 'elapsed')::interval), 0)::double precision as elapsed_seconds,
    coalesce(extract(epoch from (clock ->> 'paused_time')::interval), 0)::double precision as paused_seconds,
    (clock ->> 'as_of')::timestamptz as as_of,
    array(select w::timestamptz from jsonb_array_elements_text(coalesce(clock -> 'warned_at', '[]')) w) as warned_at,
    (clock ->> 'breached_at')::timestamptz as breached_at, (clock ->> 'stopped_at')::timestamptz as stopped_at,
    clock -> 'spans' -> -1 ->> 2 as policy, (clock -> 'spans' -> -1 ->> 1)::integer as policy_version,
    clock ->> 'calendar' as calendar, (clock -> 'spans' -> -1 ->> 1)::integer as calendar_version
from clocks;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("drop schema sla cascade")
