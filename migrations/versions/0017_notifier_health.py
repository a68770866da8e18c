"""Health of providers, shared by all workers, with its history; what collects messages into one."""

from alembic import op

revision = "0017"
down_revision = "0016"

STATEMENTS = """
create table notifier.provider_state (
    provider text primary key,
    share double precision not null,
    open_since timestamptz,
    pause_seconds double precision not null,
    probed_at timestamptz,
    in_a_row integer not null,
    fine integer not null,
    trouble integer not null,
    receipts integer not null,
    late integer not null,
    window_at timestamptz
) with (fillfactor = 50);
create table notifier.provider_history (
    id bigint generated always as identity primary key,
    provider text not null,
    at timestamptz not null,
    share double precision not null,
    open boolean not null,
    reason text not null
);
create index provider_history_of on notifier.provider_history (provider, id);
create view notifier.v_provider as
select s.provider, s.share, s.open_since is not null as open, s.open_since, s.probed_at, s.in_a_row, coalesce((
    select jsonb_agg(jsonb_build_object('at', h.at, 'share', h.share, 'open', h.open, 'reason', h.reason) order by h.id desc)
    from (select * from notifier.provider_history h where h.provider = s.provider order by id desc limit 20) h
), '[]') as history
from notifier.provider_state s;

-- Messages that are collected: `gather` says with which others; one of them carries the rest (`bundle` is its id).
alter table notifier.message add column sent_at timestamptz;
alter table notifier.message add column gather text;
alter table notifier.message add column bundle bigint;
-- Neither index names a column that changes with each step of a message, so that its updates stay within their page.
create index message_gathered on notifier.message (gather, id) where gather is not null;
create index message_bundled on notifier.message (bundle) where bundle is not null;
create table notifier.gathering (
    key text primary key,
    closes_at timestamptz not null,
    fresh boolean not null default true
) with (fillfactor = 70);
create table notifier.storm (
    source text primary key,
    began_at timestamptz not null,
    counted integer not null,
    until timestamptz
) with (fillfactor = 50);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(
        """drop table notifier.storm; drop table notifier.gathering; drop view notifier.v_provider;
        alter table notifier.message drop column bundle; alter table notifier.message drop column gather; alter table notifier.message drop column sent_at;
        drop table notifier.provider_history; drop table notifier.provider_state"""
    )
