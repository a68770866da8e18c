"""The tables of schema `sla`, as the migration makes them."""

from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import JSON, JSONB

metadata = MetaData(schema="sla")

ticket = Table(
    "ticket",
    metadata,
    Column("ticket_id", BigInteger, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("next_due_at", DateTime(timezone=True)),
    Column("state", JSONB, nullable=False),
    Column("kept", JSON),
)

ended = Table(
    "ended",
    metadata,
    Column("ticket_id", BigInteger, primary_key=True),
    Column("metric", Text, primary_key=True),
    Column("cycle", Integer, primary_key=True),
    Column("clock", JSONB, nullable=False),
    Column("stopped_at", DateTime(timezone=True), nullable=False),
)
