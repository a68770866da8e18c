"""Router: assignments, loads, turns, and who waits."""

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = """
create schema if not exists router;

-- What each agent carries, in hundredths of an ordinary ticket. Locking these rows is the capacity lock.
create table router.load (
    agent text primary key,
    load integer not null default 0,
    open_count integer not null default 0,
    last_assigned double precision not null default 0
) with (fillfactor = 50);

create table router.turn (
    group_name text primary key,
    turns jsonb not null
) with (fillfactor = 50);

create table router.assignment (
    ticket_id bigint not null,
    assignment integer not null,
    node text not null default 'main',
    visit integer not null default 1,
    group_name text not null,
    agent text not null,
    base integer not null,
    weight integer not null,
    offer boolean not null default false,
    over_capacity boolean not null default false,
    assigned_at timestamptz not null,
    ended_at timestamptz,
    primary key (ticket_id, assignment)
) with (fillfactor = 80);
create unique index assignment_open on router.assignment (ticket_id, node, visit) where ended_at is null;
create index assignment_agent on router.assignment (agent) where ended_at is null;
create index assignment_recent on router.assignment (group_name, assigned_at);

create table router.waiting (
    ticket_id bigint primary key,
    group_name text not null,
    rank integer not null,
    queued_at timestamptz not null,
    cause text not null,
    demand jsonb not null,
    failed boolean not null default false
);
create index waiting_order on router.waiting (group_name, rank, queued_at);

create view router.v_assignment as
select ticket_id, node, visit, assignment, group_name, agent, weight / 100.0::double precision as weight, assigned_at, ended_at,
    over_capacity
from router.assignment;

create view router.v_load as
select agent, load / 100.0::double precision as load, open_count,
    case when last_assigned > 0 then to_timestamp(last_assigned) end as last_assigned_at
from router.load;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("drop schema router cascade")
