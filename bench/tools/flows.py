"""Many open tickets in flows: some go through the real services, the rest are copies of their rows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

STEP = 1_000_000
"""Between the ids of a ticket's copies."""
TABLES = (
    ("ledger.ticket", "id"), ("ledger.event", "id"), ("ledger.agenda", "id"), ("escalation.ticket", "ticket_id"),
    ("escalation.board", "ticket_id"), ("router.assignment", "ticket_id"), ("sla.ticket", "ticket_id"),
)  # fmt: skip
_OWN = {"ledger.event": {"position", "txid"}}


def multiply(connection: Connection, copies: int) -> None:
    """Make `copies` of every ticket there is, in all services' tables, with ids of their own; then let the planner know."""
    for table, key in TABLES:
        schema, _, name = table.partition(".")
        columns = connection.exec_driver_sql(
            "select column_name from information_schema.columns where table_schema = %s and table_name = %s",
            (schema, name),
        ).scalars()
        names = [one for one in columns if one not in _OWN.get(table, ())]
        if not names:
            continue
        tickets = "where kind = 'ticket'" if table in ("ledger.event", "ledger.agenda") else ""
        chosen = ", ".join(_value(table, key, one) for one in names)
        connection.exec_driver_sql(
            f"""insert into {table} ({", ".join(names)}) select {chosen}
            from (select * from {table} {tickets}) t cross join generate_series(1, %s) k""",
            (copies,),
        )
    connection.exec_driver_sql(
        """update router.load l set open_count = n, load = 100 * n from (
            select agent, count(*) as n from router.assignment where ended_at is null group by 1) a where a.agent = l.agent"""
    )


def _value(table: str, key: str, column: str) -> str:
    if column == key:
        return f"t.{key} + k * {STEP}"
    if table == "ledger.ticket" and column == "state":
        return f"jsonb_set(t.state, '{{id}}', to_jsonb(t.id + k * {STEP}))"
    if table == "ledger.ticket" and column == "external_id":
        return "null"
    return f"t.{column}"


def settle(database: Any) -> None:
    """Vacuum, analyse and write to disk, as autovacuum and checkpoints would have by then."""
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("vacuum analyze")
        connection.exec_driver_sql("checkpoint")


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of the others do not pass."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
