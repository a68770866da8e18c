"""Heartbeats say from which host and of which version of the product they come."""

from alembic import op

revision = "0009"
down_revision = "0008"

STATEMENTS = """
alter table ledger.heartbeat add column host text, add column release text;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("alter table ledger.heartbeat drop column host, drop column release")
