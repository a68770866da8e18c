"""The tables of schema `router`, as the migration makes them."""

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Float, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(schema="router")

load = Table(
    "load",
    metadata,
    Column("agent", Text, primary_key=True),
    Column("load", Integer, nullable=False),
    Column("open_count", Integer, nullable=False),
    Column("last_assigned", Float, nullable=False),
)

turn = Table("turn", metadata, Column("group_name", Text, primary_key=True), Column("turns", JSONB, nullable=False))

assignment = Table(
    "assignment",
    metadata,
    Column("ticket_id", BigInteger, primary_key=True),
    Column("assignment", Integer, primary_key=True),
    Column("node", Text, nullable=False),
    Column("visit", Integer, nullable=False),
    Column("group_name", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("base", Integer, nullable=False),
    Column("weight", Integer, nullable=False),
    Column("offer", Boolean, nullable=False),
    Column("over_capacity", Boolean, nullable=False),
    Column("assigned_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
)

waiting = Table(
    "waiting",
    metadata,
    Column("ticket_id", BigInteger, primary_key=True),
    Column("group_name", Text, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("queued_at", DateTime(timezone=True), nullable=False),
    Column("cause", Text, nullable=False),
    Column("demand", JSONB, nullable=False),
    Column("failed", Boolean, nullable=False),
)
