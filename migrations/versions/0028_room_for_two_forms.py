"""A message's page has room for both of its forms, planned and answered; a ticket's messages are found by its promises.

With 60 % filled, four of ten messages went to another page when they were answered, and into every index again. No index of messages
by ticket is needed beside the promise's own (`notification_once`), which the view of deliveries could not use before: it read all.
"""

from alembic import op

revision = "0028"
down_revision = "0027"

VIEW = """
create or replace view notifier.v_delivery as
select n.id, n.message_id, {ticket} as ticket_id, n.event_type as event, n.rule, n.recipient, n.channel, m.address, m.provider,
    coalesce(m.state, n.state) as state, coalesce(m.reason, n.reason) as reason, n.due_at, n.created_at,
    greatest(n.updated_at, m.updated_at) as updated_at, coalesce(m.attempts, '[]') as attempts
from notifier.notification n left join notifier.message m on m.id = n.message_id {where}
"""


def _run(statement: str) -> None:
    op.get_bind().exec_driver_sql(statement)


def upgrade() -> None:
    _run("alter table notifier.message set (fillfactor = 40)")
    _run(VIEW.format(ticket="n.event_item", where="where n.event_kind = 'ticket'"))
    _run("drop index notifier.message_ticket")


def downgrade() -> None:
    _run("create index message_ticket on notifier.message (ticket_id) where ticket_id is not null")
    _run(VIEW.format(ticket="n.ticket_id", where=""))
    _run("alter table notifier.message set (fillfactor = 60)")
