"""Escalation: who is to move each open ticket and when it is looked at; the level each stall reached."""

from alembic import op

revision = "0010"
down_revision = "0009"

STATEMENTS = """
alter table escalation.ticket add column mover text, add column next_at timestamptz;
create index ticket_next on escalation.ticket (next_at);
alter table escalation.stall add column level integer not null default 0;
create view escalation.v_mover as select ticket_id, mover, next_at from escalation.ticket;
create view escalation.v_stall as
select ticket_id, node, visit, assignment, due_at, stalled_at, owner, group_name, level, dwell_seconds, shares
from escalation.stall;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(
        """drop view escalation.v_stall; drop view escalation.v_mover;
        alter table escalation.stall drop column level; alter table escalation.ticket drop column mover, drop column next_at"""
    )
