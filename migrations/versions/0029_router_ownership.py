"""Router: a group that has a ticket because its flow came to a node of that group has it by the flow, not by overflow.

Nobody looks assignments up by their agent: what somebody carries is in `router.load`, and the index costs each assignment a write.
"""

from alembic import op

revision = "0029"
down_revision = "0028"

STATEMENTS = """
create or replace view router.v_ownership as
with told as (
    select e.id as ticket_id, e.version, e.happened_at, e.type, e.data ->> 'group' as named, e.data ->> 'reason' as reason,
        (e.data ->> 'returned')::boolean is true as returned,
        count(e.data ->> 'group') over (partition by e.id order by e.version) as part,
        e.type not in ('ticket.resolved', 'ticket.closed', 'ticket.merged') as open,
        e.data ->> 'node' as node, coalesce((e.data ->> 'visit')::integer, 1) as visit
    from ledger.event e
    where e.kind = 'ticket' and e.type in ('ticket.classified', 'ticket.transferred', 'ticket.queued', 'ticket.offered',
        'ticket.assigned', 'ticket.resolved', 'ticket.closed', 'ticket.merged', 'ticket.reopened')
), owned as (
    select *, first_value(named) over (partition by ticket_id, part order by version) as group_name from told
), marked as (
    select *, lag(group_name) over w as before, lag(open) over w as was_open from owned
    window w as (partition by ticket_id order by version)
), turned as (
    select *, lead(happened_at) over (partition by ticket_id order by version) as to_at,
        row_number() over (partition by ticket_id order by version) as turn
    from marked where group_name is not null
        and (group_name is distinct from before or open is distinct from was_open)
)
select ticket_id, row_number() over (partition by ticket_id order by version) as span, group_name,
    case when group_name is distinct from before then before end as from_group,
    case type when 'ticket.classified' then 'routed' when 'ticket.reopened' then 'reopened'
        when 'ticket.transferred' then case when returned then 'returned' else 'transferred' end
        else case when exists (
            select from ledger.event n where n.kind = 'ticket' and n.id = t.ticket_id and n.type = 'node.entered'
                and n.version < t.version and n.data ->> 'node' = t.node and (n.data ->> 'visit')::integer = t.visit
                and n.data ->> 'group' = t.group_name
        ) then 'flow' else 'overflow' end
    end as how,
    reason, happened_at as from_at, to_at
from turned t where open;

drop index if exists router.assignment_agent;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(
        "create index if not exists assignment_agent on router.assignment (agent) where ended_at is null"
    )
