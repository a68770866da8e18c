"""Alembic's environment: one connection given by `shared.runtime.migrate`, plain SQL migrations."""

from alembic import context

config = context.config
connection = config.attributes["connection"]
context.configure(connection=connection, version_table="migration", version_table_schema="public")
with context.begin_transaction():
    context.run_migrations()
