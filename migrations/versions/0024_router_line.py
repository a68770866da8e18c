"""Router: the line in which large batches wait for the loads of people; see `services/router/store.py`."""

from alembic import op

revision = "0024"
down_revision = "0023"

STATEMENTS = """
create table router.gate ();
comment on table router.gate is 'Never written: its lock is the line in which batches wait for the loads of people.';
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("drop table router.gate")
