"""Keep what is rewritten with each decision in its row: compressing two kilobytes costs more than storing them."""

from alembic import op

revision = "0013"
down_revision = "0012"

STATEMENTS = """
alter table sla.ticket set (toast_tuple_target = 8160);
alter table escalation.ticket set (toast_tuple_target = 8160);
alter table ledger.ticket set (toast_tuple_target = 8160);
alter table ledger.event set (toast_tuple_target = 8160);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    pass
