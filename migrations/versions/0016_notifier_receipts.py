"""Receipts kept until their message is known, addresses that providers refused, contents and read marks of the inbox."""

from alembic import op

revision = "0016"
down_revision = "0015"

STATEMENTS = """
alter table notifier.message add column event_version integer;
alter table notifier.message add column content jsonb;

-- What providers reported and no message is known for yet (a receipt may come before the reply to the call).
create table notifier.receipt (
    id bigint primary key,
    provider text not null,
    provider_id text not null,
    other_ids text[] not null default '{}',
    message_id bigint,
    address text,
    state text not null,
    at timestamptz,
    detail text not null default '',
    bad_recipient boolean not null default false,
    received_at timestamptz not null
);
create index receipt_of on notifier.receipt (provider, provider_id);
create index receipt_age on notifier.receipt (received_at);

create table notifier.dead_address (
    channel text not null,
    address text not null,
    since timestamptz not null,
    reason text not null,
    primary key (channel, address)
);

create view notifier.v_inbox as
select id, recipient, ticket_id, event_type as event, rule, urgency, content, state, state = 'read' as read, created_at, updated_at
from notifier.message where content is not null and state in ('sent', 'delivered', 'read');
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(
        """drop view notifier.v_inbox; drop table notifier.dead_address; drop table notifier.receipt;
        alter table notifier.message drop column content; alter table notifier.message drop column event_version"""
    )
