"""Notifier: cursors of webhook subscriptions, and their deliveries that are not done yet."""

from alembic import op

revision = "0011"
down_revision = "0010"

STATEMENTS = """
-- How far a subscription (an item of kind `subscription`, same id) has come in the log; `epoch` fences its rounds, `leased`: one is under way.
create table notifier.subscription (
    id bigint primary key,
    position bigint not null,
    epoch integer not null default 0,
    failing integer not null default 0,
    leased boolean not null default false,
    updated_at timestamptz not null
) with (fillfactor = 70);

-- Events that an endpoint did not take yet: retry (at due_at), blocked behind an earlier one of the subject, or parked.
create table notifier.webhook (
    subscription_id bigint not null,
    position bigint not null,
    subject text not null,
    attempts integer not null,
    state text not null,
    due_at timestamptz,
    error text not null,
    first_at timestamptz not null,
    primary key (subscription_id, position)
) with (fillfactor = 70);
create index webhook_due on notifier.webhook (subscription_id, due_at) where state = 'retry';
create index webhook_subject on notifier.webhook (subscription_id, subject, position);

create view notifier.v_webhook as
select subscription_id, position, subject, attempts, state, due_at, error, first_at from notifier.webhook;

create view notifier.v_subscription as
select s.id, s.position, s.failing, s.updated_at, count(*) filter (where w.state = 'retry') as waiting,
    count(*) filter (where w.state = 'blocked') as blocked, count(*) filter (where w.state = 'parked') as parked
from notifier.subscription s left join notifier.webhook w on w.subscription_id = s.id group by s.id;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.execute("drop view notifier.v_subscription, notifier.v_webhook; drop table notifier.webhook, notifier.subscription")
