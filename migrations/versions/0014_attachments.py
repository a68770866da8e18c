"""Gateway: attachments of tickets, their bytes apart."""

from alembic import op

revision = "0014"
down_revision = "0013"

STATEMENTS = """
create table gateway.attachment (
    id text primary key,
    ticket_id bigint not null,
    name text not null,
    media_type text not null,
    size integer not null,
    sha256 bytea not null,
    by jsonb not null,
    at timestamptz not null
);
create unique index attachment_once on gateway.attachment (ticket_id, name, sha256);

-- The default store. Files are compressed already, mostly: no second try.
create table gateway.attachment_data (id text primary key, data bytea not null);
alter table gateway.attachment_data alter column data set storage external;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("drop table gateway.attachment_data; drop table gateway.attachment")
