"""Suspects by an index of their own: looking for them must not read everything that is due, however long the backlog is."""

from alembic import op

revision = "0020"
down_revision = "0019"

STATEMENTS = """
create index agenda_suspects on ledger.agenda (service, kind, lane, due_at)
    where crashes > 0 and due_at is not null and quarantined_at is null;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("drop index ledger.agenda_suspects")
