"""Addresses of calendar feeds: hashes of their tokens, whose they are, what they show."""

from alembic import op

revision = "0021"
down_revision = "0020"

STATEMENTS = """
create table access.calendar_feed (
    id text primary key,
    hash bytea not null unique,
    schedule text not null,
    only_person text,
    made_by text not null,
    person text,
    made_at timestamptz not null,
    revoked_at timestamptz
);
create index calendar_feed_schedule on access.calendar_feed (schedule, made_at) where revoked_at is null;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENTS)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("drop table access.calendar_feed")
