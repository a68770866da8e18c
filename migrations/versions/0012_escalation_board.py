"""Escalation: the board, one narrow row for each open node visit."""

from alembic import op

revision = "0012"
down_revision = "0011"

STATEMENTS = """
create table escalation.board (
    ticket_id bigint not null,
    node text not null,
    visit integer not null,
    stage text not null,
    group_name text,
    owner text,
    entered_at timestamptz not null,
    due_at timestamptz not null default '9999-12-31T00:00:00Z',
    stalled boolean not null default false,
    unaccepted boolean not null default false,
    escalation integer,
    paused boolean not null default false,
    primary key (ticket_id, node, visit)
) with (fillfactor = 80);
create index board_order on escalation.board (due_at, ticket_id, node, visit);
create index board_stage on escalation.board (stage, due_at, ticket_id, node, visit);
create view escalation.v_board as
select ticket_id, node, visit, stage, group_name, owner, entered_at, nullif(due_at, '9999-12-31T00:00:00Z') as due_at, due_at as order_at, stalled,
    unaccepted, escalation, paused
from escalation.board;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("drop view escalation.v_board; drop table escalation.board")
