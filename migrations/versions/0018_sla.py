"""SLA: whose time a ticket's life was, read from what is kept with its clocks."""

from alembic import op

revision = "0018"
down_revision = "0017"

STATEMENTS = """
create view sla.v_attribution as
select t.ticket_id, (p.place ->> 0)::timestamptz as started_at,
    lead((p.place ->> 0)::timestamptz) over (partition by t.ticket_id order by p.number) as ended_at,
    p.place ->> 1 as kind, p.place ->> 2 as team, p.place ->> 3 as person, p.place ->> 4 as node
from sla.ticket t cross join lateral jsonb_array_elements(coalesce(t.state -> 'places', '[]')) with ordinality as p (place, number);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("drop view sla.v_attribution")
