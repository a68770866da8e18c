"""Escalation: what is watched on a ticket, and its chains."""

from alembic import op

revision = "0005"
down_revision = "0004"

STATEMENTS = """
create schema if not exists escalation;

create table escalation.ticket (
    ticket_id bigint primary key,
    state jsonb not null
) with (fillfactor = 60);

-- One row an escalation, for people's questions; the chain itself is in `escalation.ticket`.
create table escalation.escalation (
    ticket_id bigint not null,
    escalation integer not null,
    chain text not null,
    cause text not null,
    state text not null,
    step integer not null,
    round integer not null,
    started_at timestamptz not null,
    next_at timestamptz,
    ended_at timestamptz,
    targets text[] not null,
    primary key (ticket_id, escalation)
);

-- Each stall, with the share of every earlier owner: the basis of performance records.
create table escalation.stall (
    ticket_id bigint not null,
    node text not null,
    visit integer not null,
    assignment integer not null,
    due_at timestamptz not null,
    stalled_at timestamptz not null,
    owner text,
    group_name text,
    dwell_seconds double precision not null,
    shares jsonb not null,
    primary key (ticket_id, node, visit, assignment, due_at)
);

create view escalation.v_escalation as
select ticket_id, escalation, chain, cause, state, step, round, started_at, next_at, ended_at, targets from escalation.escalation;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("drop schema escalation cascade")
