"""The tables of schema `escalation`, as the migration makes them."""

from sqlalchemy import BigInteger, Column, DateTime, Float, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(schema="escalation")

ticket = Table(
    "ticket", metadata, Column("ticket_id", BigInteger, primary_key=True), Column("state", JSONB, nullable=False)
)

escalation = Table(
    "escalation",
    metadata,
    Column("ticket_id", BigInteger, primary_key=True),
    Column("escalation", Integer, primary_key=True),
    Column("chain", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("next_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
    Column("targets", ARRAY(Text), nullable=False),
)

stall = Table(
    "stall",
    metadata,
    Column("ticket_id", BigInteger, primary_key=True),
    Column("node", Text, primary_key=True),
    Column("visit", Integer, primary_key=True),
    Column("assignment", Integer, primary_key=True),
    Column("due_at", DateTime(timezone=True), primary_key=True),
    Column("stalled_at", DateTime(timezone=True), nullable=False),
    Column("owner", Text),
    Column("group_name", Text),
    Column("dwell_seconds", Float, nullable=False),
    Column("shares", JSONB, nullable=False),
)
