"""Reading the log by position without ever skipping an event.

Positions come from a sequence and become visible when their transaction commits, so a reader that simply goes on from the highest
it has seen would skip those of a slower transaction. `Settled` remembers a pair (highest position handed out, the transaction id
that comes next): once all transactions with smaller ids have ended, every position up to it is final. (A writer has its
transaction id before it asks for a position, because its first statement locks or inserts a row.) The next id is learnt by taking
it: a snapshot's own upper end says only which transactions have *ended*, and would miss the youngest that are still open.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from shared.contracts.envelope import Recorded
from shared.contracts.topics import Stored
from shared.ledger.unit import recorded


@dataclass(slots=True)
class Settled:
    """The highest position below which nothing can appear any more, as one reader knows it."""

    position: int = 0
    _pending: list[tuple[int, int]] = field(default_factory=list)

    def look(self, connection: Connection) -> int:
        """Look once, and return the settled position. Cheap: two statements, no table is read, and an id taken only for news."""
        handed_out = connection.exec_driver_sql(
            "select case when is_called then last_value else 0 end from ledger.position_seq"
        ).scalar_one()
        known = self._pending[-1][0] if self._pending else self.position
        if known < handed_out:
            oldest, following = connection.exec_driver_sql(
                """select pg_snapshot_xmin(s)::text::bigint, pg_current_xact_id()::text::bigint
                from pg_current_snapshot() s"""
            ).one()
            self._pending.append((handed_out, following))
        elif self._pending:
            oldest = connection.exec_driver_sql(
                "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
            ).scalar_one()
        else:
            return self.position
        while self._pending and self._pending[0][1] <= oldest:
            self.position = max(self.position, self._pending.pop(0)[0])
        del self._pending[1:-1]  # the oldest tells when to move next, the newest how far; those between add nothing
        return self.position


READ = """
select position, kind, id, version, type, happened_at, recorded_at, actor::text as actor, given, playbook, correlation,
       reason::text as reason, data::text as data
from ledger.event where position > %(after)s and position <= %(until)s {types} order by position limit %(limit)s
"""


def read(
    connection: Connection, after: int, until: int, limit: int, types: Sequence[str] | None = None
) -> list[Recorded]:
    """Events with a position in (after, until], in order, at most `limit`; `until` is a settled position."""
    statement = READ.format(types="" if types is None else "and type = any(%(types)s)")
    rows = connection.exec_driver_sql(
        statement, {"after": after, "until": until, "limit": limit, "types": list(types or ())}
    )
    return [recorded(row.kind, row) for row in rows]


def stream(connection: Connection, kind: str, item_id: int) -> list[Recorded]:
    """All events of one item, from version 1."""
    rows = connection.exec_driver_sql(
        """select position, kind, id, version, type, happened_at, recorded_at, actor::text as actor, given, playbook,
        correlation, reason::text as reason, data::text as data
        from ledger.event where kind = %s and id = %s order by version""",
        (kind, item_id),
    )
    return [recorded(kind, row) for row in rows]


READ_STORED = """
select position, kind, id, version, type, happened_at, actor::text as actor, given, playbook, correlation, data::text as data
from ledger.event where position > %(after)s and position <= %(until)s {types} order by position limit %(limit)s
"""


def read_stored(
    connection: Connection, after: int, until: int, limit: int, types: Sequence[str] | None = None
) -> tuple[list[Stored], int]:
    """The same as rows for topics, and the position up to which this has read: where to go on, also when no type fitted."""
    statement = READ_STORED.format(types="" if types is None else "and type = any(%(types)s)")
    values = {"after": after, "until": until, "limit": limit, "types": list(types or ())}
    rows = [Stored(*row) for row in connection.exec_driver_sql(statement, values)]
    return rows, rows[-1].position if len(rows) == limit else max(after, until)


def read_positions(connection: Connection, positions: Sequence[int]) -> list[Stored]:
    """The rows at these positions, in order; one that is not there (any more) is left out."""
    rows = connection.exec_driver_sql(
        """select position, kind, id, version, type, happened_at, actor::text as actor, given, playbook, correlation,
        data::text as data from ledger.event where position = any(%s) order by position""",
        (list(positions),),
    )
    return [Stored(*row) for row in rows]


@dataclass(slots=True)
class Tail:
    """The settled end of the log for all readers of a process: one look serves whoever asks at the same time."""

    _settled: Settled = field(default_factory=Settled)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, connection: Connection) -> int:
        """The settled position now."""
        with self._lock:
            return self._settled.look(connection)

    @property
    def position(self) -> int:
        """The settled position at the last look."""
        return self._settled.position


def of_types(connection: Connection, kind: str, ids: Sequence[int], types: Sequence[str]) -> dict[int, list[Recorded]]:
    """Events of some types of several items, each item's in order."""
    rows = connection.exec_driver_sql(
        """select position, kind, id, version, type, happened_at, recorded_at, actor::text as actor, given, playbook,
        correlation, reason::text as reason, data::text as data
        from ledger.event where kind = %s and id = any(%s) and type = any(%s) order by id, version""",
        (kind, list(ids), list(types)),
    )
    found: dict[int, list[Recorded]] = {}
    for row in rows:
        found.setdefault(row.id, []).append(recorded(kind, row))
    return found
