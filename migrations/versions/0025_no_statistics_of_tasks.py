"""No statistics of the index over tickets' tasks: nothing plans by them, and for its sake each analysis read 30,000 tickets.

Automatic analysis of `ledger.ticket` took 130 ms each time, ten times as long as that of the larger `ledger.event` beside it.
"""

from alembic import op

revision = "0025"
down_revision = "0024"


def _set(target: int) -> None:
    op.get_bind().exec_driver_sql(f"alter index ledger.ticket_tasks alter column 1 set statistics {target}")


def upgrade() -> None:
    _set(0)


def downgrade() -> None:
    _set(-1)
