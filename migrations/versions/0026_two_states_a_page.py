"""Two tickets' clocks in a page, and room to rewrite one: with 40 % of it kept free a page held a single state of 2.5 KB.

The table was 8 KB a ticket, twice what is read again; with it went checkpoints and evictions of a large database.
"""

from alembic import op

revision = "0026"
down_revision = "0025"


def _set(percent: int) -> None:
    op.get_bind().exec_driver_sql(f"alter table sla.ticket set (fillfactor = {percent})")


def upgrade() -> None:
    _set(66)


def downgrade() -> None:
    _set(50)
