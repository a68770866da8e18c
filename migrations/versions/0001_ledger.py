"""The ledger: items, events, the agenda, business time, the journal of batches."""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = """
create schema if not exists ledger;

-- Ids of all items come from here in blocks of 100 (shared/runtime/ids.py), so that most need no round trip.
create sequence ledger.id_seq start 1000 increment by 100;
create sequence ledger.position_seq;

-- Business time. No row: it is the database's own clock. A row: it stands there until `ledger.advance` moves it, only forward.
create table ledger.clock (one boolean primary key default true check (one), at timestamptz not null);

create function ledger.now() returns timestamptz language sql stable parallel safe as
$$ select coalesce((select at from ledger.clock), clock_timestamp()) $$;

create table ledger.ticket (
    id bigint primary key,
    version integer not null,
    status text not null,
    priority text,
    group_name text,
    assignee text,
    kind text,
    source text not null,
    external_id text,
    dedup_key text,
    requester text,
    lane text not null,
    digest bigint not null default 0,
    opened_at timestamptz not null,
    updated_at timestamptz not null,
    state jsonb not null
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
create unique index ticket_external on ledger.ticket (source, external_id) where external_id is not null;
create index ticket_assignee on ledger.ticket (assignee) where status in ('assigned', 'in_progress', 'pending');
create index ticket_waiting on ledger.ticket (group_name, id) where status = 'new';
create index ticket_dedup on ledger.ticket (dedup_key)
    where dedup_key is not null and status in ('new', 'assigned', 'in_progress', 'pending');

create table ledger.item (
    id bigint primary key,
    kind text not null,
    key text not null,
    version integer not null default 0,
    state jsonb not null default '{}',
    unique (kind, key)
);

-- Documents of events are written once, read whole and never searched: `json` keeps the text that came, where `jsonb` takes it apart
-- (of 47 us that the server needs for a ticket's five events 14) and puts it together again for each reader. Statements work on
-- either; databases made before the first release have `jsonb`.
create table ledger.event (
    position bigint not null default nextval('ledger.position_seq'),
    kind text not null,
    id bigint not null,
    version integer not null,
    type text not null,
    happened_at timestamptz not null,
    recorded_at timestamptz not null,
    actor json not null,
    given boolean not null,
    playbook integer not null,
    correlation text not null,
    txid xid8 not null default pg_current_xact_id(),
    reason json,
    data json not null,
    primary key (kind, id, version)
);
create unique index event_position on ledger.event (position);

create table ledger.agenda (
    service text not null,
    kind text not null,
    id bigint not null,
    lane text not null,
    due_at timestamptz,
    failures smallint not null default 0,
    crashes smallint not null default 0,
    seen_version integer not null default 0,
    quarantined_at timestamptz,
    error text,
    primary key (kind, id, service)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
create index agenda_due on ledger.agenda (service, kind, lane, due_at) where due_at is not null and quarantined_at is null;
create index agenda_quarantine on ledger.agenda (service, id) where quarantined_at is not null;

-- What each worker has in its hands; committed before the batch, so that an item that kills its worker is found.
create table ledger.journal (
    worker integer not null,
    slot text not null,
    service text not null,
    kind text not null,
    ids bigint[] not null,
    started_at timestamptz not null default clock_timestamp(),
    primary key (worker, slot)
);
create sequence ledger.worker_seq cycle maxvalue 2000000000;

create table ledger.heartbeat (
    worker integer not null,
    service text not null,
    loop text not null,
    period_seconds double precision not null,
    beat_at timestamptz not null,
    primary key (worker, service, loop)
);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.execute("drop schema ledger cascade")
