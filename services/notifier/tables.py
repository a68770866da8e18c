"""The tables of schema `notifier`, as the migration makes them."""

from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(schema="notifier")


def _instant(name: str, *, null: bool = True) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=null)


notification = Table(
    "notification",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("ticket_id", BigInteger),
    Column("event_kind", Text, nullable=False),
    Column("event_item", BigInteger, nullable=False),
    Column("event_version", Integer, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("playbook", Integer, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("until", Text),
    _instant("due_at"),
    Column("message_id", BigInteger),
    _instant("created_at", null=False),
    _instant("updated_at", null=False),
)

message = Table(
    "message",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("ticket_id", BigInteger),
    Column("rule", Text, nullable=False),
    Column("playbook", Integer, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("event", JSONB, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("locale", Text),
    Column("urgency", Text, nullable=False),
    Column("on_unknown", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("epoch", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("provider_id", Text),
    _instant("valid_until"),
    Column("attempts", JSONB, nullable=False),
    _instant("created_at", null=False),
    _instant("updated_at", null=False),
)
