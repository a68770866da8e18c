"""Notifier: notifications (the promise) and messages (one address, with their attempts)."""

from alembic import op

revision = "0006"
down_revision = "0005"

STATEMENTS = """
create schema if not exists notifier;

-- (event, recipient, channel) is the promise: at most one row, whatever happens.
create table notifier.notification (
    id bigint primary key,
    ticket_id bigint,
    event_kind text not null,
    event_item bigint not null,
    event_version integer not null,
    event_type text not null,
    rule text not null,
    playbook integer not null,
    recipient text not null,
    channel text not null,
    state text not null,
    reason text,
    until text,
    due_at timestamptz,
    message_id bigint,
    created_at timestamptz not null,
    updated_at timestamptz not null
) with (fillfactor = 80);
create unique index notification_once on notifier.notification (event_kind, event_item, event_version, recipient, channel);
create index notification_planned on notifier.notification (ticket_id) where state = 'planned';

-- One address, one call at a time; `id` is the stable id of every attempt. An agenda item of kind `delivery`.
create table notifier.message (
    id bigint primary key,
    version integer not null,
    ticket_id bigint,
    rule text not null,
    playbook integer not null,
    event_type text not null,
    event jsonb not null,
    recipient text not null,
    channel text not null,
    provider text not null,
    address text not null,
    locale text,
    urgency text not null,
    on_unknown text not null,
    state text not null,
    reason text,
    epoch integer not null default 0,
    failures integer not null default 0,
    provider_id text,
    valid_until timestamptz,
    attempts jsonb not null default '[]',
    created_at timestamptz not null,
    updated_at timestamptz not null
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
create index message_provider_id on notifier.message (provider, provider_id) where provider_id is not null;
create index message_recipient on notifier.message (recipient, id);
create index message_ticket on notifier.message (ticket_id) where ticket_id is not null;

create view notifier.v_delivery as
select n.id, n.message_id, n.ticket_id, n.event_type as event, n.rule, n.recipient, n.channel, m.address, m.provider,
    coalesce(m.state, n.state) as state, coalesce(m.reason, n.reason) as reason, n.due_at, n.created_at,
    greatest(n.updated_at, m.updated_at) as updated_at, coalesce(m.attempts, '[]') as attempts
from notifier.notification n left join notifier.message m on m.id = n.message_id;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("drop schema notifier cascade")
