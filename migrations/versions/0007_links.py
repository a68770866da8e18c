"""One-click links: hashes of tokens and codes, what they are bound to, what was used."""

from alembic import op

revision = "0007"
down_revision = "0006"

STATEMENTS = """
create table access.action_link (
    message_id bigint primary key,
    ticket_id bigint not null,
    person text not null,
    assignment integer not null,
    escalation integer,
    node text,
    expires_at timestamptz not null,
    actions jsonb not null,
    used jsonb not null default '{}',
    wrong integer not null default 0
) with (fillfactor = 80);
create index action_link_ends on access.action_link (expires_at);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("drop table access.action_link")
