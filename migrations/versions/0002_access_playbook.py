"""API keys, published playbooks, idempotency of the gateway."""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = """
create schema if not exists access;
create table access.api_key (
    id integer generated always as identity primary key,
    hash bytea not null unique,
    name text not null,
    roles text[] not null,
    person text,
    act_for text[] not null default '{}',
    created_at timestamptz not null default clock_timestamp(),
    revoked_at timestamptz
);

create schema if not exists playbook;
create table playbook.version (
    number integer primary key,
    name text not null,
    checksum text not null,
    document jsonb not null,
    running text not null default 'keep',
    undoes integer,
    published_at timestamptz not null,
    published_by text not null
);

create schema if not exists gateway;
create table gateway.idempotency (
    principal integer not null,
    key text not null,
    digest bigint not null,
    ticket bigint not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (principal, key)
);
create index idempotency_age on gateway.idempotency (created_at);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("drop schema gateway cascade; drop schema playbook cascade; drop schema access cascade")
