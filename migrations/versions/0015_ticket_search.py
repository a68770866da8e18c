"""Tickets by requester (repeat requests), and those with todos or task groups."""

from alembic import op

revision = "0015"
down_revision = "0014"

STATEMENTS = """
create index ticket_requester on ledger.ticket (requester, opened_at) where requester is not null;
create index ticket_tasks on ledger.ticket using gin ((state -> 'tasks') jsonb_path_ops) where state ? 'tasks';
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("drop index ledger.ticket_requester; drop index ledger.ticket_tasks")
