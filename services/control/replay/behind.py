"""The database behind a world in memory: whatever changed is written there every so often, in one transaction.

Rows are written as they stand at that moment, so that a ticket that changed ten times since the last time costs one row; events are
all written, in their order. Writing happens in a thread of its own while the history goes on; the first error is raised at the next
`write` or at the end. Not meant to survive a crash: the database belongs to the replay alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine

from services.escalation import keeping
from shared.contracts.envelope import Recorded
from shared.runtime.ids import BLOCK
from shared.ticket.state import Ticket

Key = tuple[Any, ...]

KEYS = {
    "ledger.ticket": ("id",),
    "ledger.agenda": ("kind", "id", "service"),
    "router.load": ("agent",),
    "router.turn": ("group_name",),
    "router.assignment": ("ticket_id", "assignment"),
    "router.waiting": ("ticket_id",),
    "router.last_owner": ("requester", "group_name"),
    "sla.ticket": ("ticket_id",),
    "sla.ended": ("ticket_id", "metric", "cycle"),
    "escalation.ticket": ("ticket_id",),
    "escalation.escalation": ("ticket_id", "escalation"),
    "escalation.stall": ("ticket_id", "node", "visit", "assignment", "due_at"),
    "notifier.notification": ("id",),
    "notifier.message": ("id",),
    "access.action_link": ("message_id",),
}
"""Primary keys of the tables that are written behind."""

_UPSERT = """
insert into {table} ({columns}) select {columns} from json_populate_recordset(null::{table}, %(rows)s)
on conflict ({key}) do {action}
"""
_DROP = "delete from {table} t using json_populate_recordset(null::{table}, %(rows)s) x where {same}"
_EVENTS = """
insert into ledger.event (kind, id, version, type, happened_at, recorded_at, actor, given, playbook, correlation, reason, data)
select kind, id, version, type, happened_at, recorded_at, actor, given, playbook, correlation, reason, data
from json_populate_recordset(null::ledger.event, %(rows)s)
"""
_encoder = msgspec.json.Encoder()


class Behind:
    """A mirror that writes to a database. `close` writes what is left and raises what went wrong."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rows: dict[str, dict[Key, Any]] = {table: {} for table in KEYS}
        self._drops: dict[str, dict[Key, None]] = {table: {} for table in KEYS}
        self._events: list[Recorded] = []
        self._digests: dict[int, int] = {}
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="behind")
        self._pending: Future[None] | None = None

    def put(self, table: str, key: Key, row: Any) -> None:
        """A row that is new or changed."""
        self._rows[table][key] = row
        self._drops[table].pop(key, None)

    def drop(self, table: str, key: Key) -> None:
        """A row that is no more."""
        self._rows[table].pop(key, None)
        self._drops[table][key] = None

    def event(self, event: Recorded) -> None:
        """An event was appended."""
        self._events.append(event)

    def digest(self, ticket_id: int, digest: int) -> None:
        """The digest of the body that a ticket was opened with."""
        self._digests[ticket_id] = digest

    @property
    def waiting(self) -> int:
        """Events that are not handed over yet."""
        return len(self._events)

    def write(self, now: datetime, next_id: int) -> None:
        """Hand over everything that changed; waits until the last handing-over is committed."""
        statements = self._statements()
        self._wait()
        self._pending = self._writer.submit(self._commit, statements, now, next_id)

    def close(self) -> None:
        """Wait for the last commit."""
        try:
            self._wait()
        finally:
            self._writer.shutdown(wait=True)

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def _statements(self) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        for table, gone in self._drops.items():
            if gone:
                names = KEYS[table]
                same = " and ".join(f"t.{name} = x.{name}" for name in names)
                rows = [dict(zip(names, key, strict=True)) for key in gone]
                found.append((_DROP.format(table=table, same=same), _json(rows)))
                gone.clear()
        for table, changed in self._rows.items():
            if changed:
                found.append(self._upsert(table, changed))
                self._rows[table] = {}
        if self._events:
            found.append((_EVENTS, _json([_event(one) for one in self._events])))
            self._events = []
        return found

    def _upsert(self, table: str, changed: Mapping[Key, Any]) -> tuple[str, str]:
        if table == "ledger.ticket":
            rows = [_ticket(ticket) | {"digest": self._digests.pop(ticket.id, 0)} for ticket in changed.values()]
        elif table == "ledger.agenda":
            rows = [_agenda(key, row) for key, row in changed.items()]
        elif table == "escalation.ticket":
            rows = [{**row, "state": msgspec.Raw(keeping.dumps(row["state"]))} for row in changed.values()]
        else:
            rows = list(changed.values())
        key, columns = KEYS[table], list(rows[0])
        moving = [name for name in columns if name not in key and name != "digest"]
        action = "update set " + ", ".join(f"{name} = excluded.{name}" for name in moving) if moving else "nothing"
        statement = _UPSERT.format(table=table, columns=", ".join(columns), key=", ".join(key), action=action)
        return statement, _json(rows)

    def _commit(self, statements: list[tuple[str, str]], now: datetime, next_id: int) -> None:
        with self._engine.begin() as connection:
            for statement, rows in statements:
                connection.exec_driver_sql(statement, {"rows": rows})
            _move(connection, now, next_id)


def _move(connection: Connection, now: datetime, next_id: int) -> None:
    """Business time and the ids stand where the history is."""
    connection.exec_driver_sql("update ledger.clock set at = greatest(at, %s)", (now,))
    connection.exec_driver_sql("select setval('ledger.id_seq', %s, false)", (next_id + BLOCK,))


def _json(rows: Any) -> str:
    return _encoder.encode(rows).decode()


def _event(event: Recorded) -> dict[str, Any]:
    return {
        "kind": event.kind,
        "id": event.id,
        "version": event.version,
        "type": event.type,
        "happened_at": event.happened_at,
        "recorded_at": event.recorded_at,
        "actor": event.actor,
        "given": event.given,
        "playbook": event.playbook,
        "correlation": event.correlation,
        "reason": event.reason,
        "data": event.data,
    }


def _ticket(ticket: Ticket) -> dict[str, Any]:
    return {
        "id": ticket.id,
        "version": ticket.version,
        "status": ticket.status,
        "priority": ticket.priority,
        "group_name": ticket.group,
        "assignee": ticket.assignee,
        "kind": ticket.kind,
        "source": ticket.source,
        "external_id": ticket.external_id,
        "dedup_key": ticket.dedup_key,
        "requester": ticket.requester.id,
        "lane": ticket.lane,
        "opened_at": ticket.opened_at,
        "updated_at": ticket.updated_at,
        "state": ticket,
    }


def _agenda(key: Key, row: Any) -> dict[str, Any]:
    kind, number, service = key
    return {
        "service": service,
        "kind": kind,
        "id": number,
        "lane": row.lane,
        "due_at": row.due_at,
        "failures": 0,
        "crashes": 0,
        "seen_version": row.seen,
    }
