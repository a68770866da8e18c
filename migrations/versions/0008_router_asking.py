"""Router: what it asks outside, what it holds back, published models, and the waiting list by demand."""

from alembic import op

revision = "0008"
down_revision = "0007"

STATEMENTS = """
-- What outside systems said, for every worker; kept until `expires_at`. `failure` says why there is no answer.
create table router.answer (
    name text not null,
    url text not null,
    facts jsonb not null,
    failure text,
    fetched_at timestamptz not null,
    expires_at timestamptz not null,
    primary key (name, url)
);
create index answer_expires on router.answer (expires_at);

-- Tickets that wait for such an answer, at most until `until`.
create table router.deferred (
    ticket_id bigint primary key,
    asked_at timestamptz not null,
    until timestamptz not null
);

-- Tickets that a rule holds back until there are enough of their kind, and each time one of the kind was seen.
create table router.hold (
    ticket_id bigint primary key,
    key text not null,
    until timestamptz not null,
    released boolean not null default false
);
create index hold_key on router.hold (key);
create table router.occurrence (
    key text not null,
    at timestamptz not null,
    ticket_id bigint not null,
    version integer not null,
    expires_at timestamptz not null,
    primary key (ticket_id, version)
);
create index occurrence_key on router.occurrence (key, at);
create index occurrence_expires on router.occurrence (expires_at);

-- Published classifiers. One version of a name is current; going back is choosing an older one.
create table router.model (
    name text not null,
    version integer not null,
    data bytea not null,
    figures jsonb not null,
    current boolean not null,
    published_at timestamptz not null,
    published_by text not null,
    primary key (name, version)
);
create unique index model_current on router.model (name) where current;

-- Who had a requester's last ticket, in groups that keep to that.
create table router.last_owner (
    requester text not null,
    group_name text not null,
    agent text not null,
    primary key (requester, group_name)
) with (fillfactor = 80);

-- Tickets that ask the same of whoever takes them stand in one line, so that one that nobody can take is passed by at once.
alter table router.waiting add column line text not null default '';
create index waiting_line on router.waiting (group_name, line, rank, queued_at);

create view router.v_model as
select name, version, figures, current, published_at, published_by from router.model;

create view router.v_waiting as
select ticket_id, group_name, rank, queued_at, cause, demand, failed from router.waiting;

-- Whose each ticket was, group by group, from its events: the cross-team report's spans. `to_at` null: still.
create view router.v_ownership as
with told as (
    select e.id as ticket_id, e.version, e.happened_at, e.type, e.data ->> 'group' as named, e.data ->> 'reason' as reason,
        (e.data ->> 'returned')::boolean is true as returned,
        count(e.data ->> 'group') over (partition by e.id order by e.version) as part,
        e.type not in ('ticket.resolved', 'ticket.closed', 'ticket.merged') as open
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
        when 'ticket.transferred' then case when returned then 'returned' else 'transferred' end else 'overflow' end as how,
    reason, happened_at as from_at, to_at
from turned where open;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(
        """drop view router.v_ownership, router.v_waiting, router.v_model;
        drop table router.last_owner, router.model, router.occurrence, router.hold, router.deferred, router.answer;
        alter table router.waiting drop column line"""
    )
