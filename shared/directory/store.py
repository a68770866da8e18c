"""Reading the directory from the ledger's items, cached for a moment.

Writing goes through the ledger (`agent.changed`), by the gateway and by `apply`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import msgspec
from sqlalchemy import Connection

from shared.directory.people import Directory, Group, Person, snapshot
from shared.runtime.clock import monotonic

_person = msgspec.json.Decoder(Person)
_group = msgspec.json.Decoder(Group)


def load(connection: Connection) -> Directory:
    """The directory as it is now."""
    rows = connection.exec_driver_sql(
        "select id, kind, key, version, state::text as state from ledger.item where kind in ('agent', 'group') order by id"
    ).all()
    people = [
        msgspec.structs.replace(_person.decode(row.state), number=row.id)
        for row in rows
        if row.kind == "agent" and row.version > 0
    ]
    groups = [
        msgspec.structs.replace(_group.decode(row.state), number=row.id)
        for row in rows
        if row.kind == "group" and row.version > 0
    ]
    return snapshot(people, groups, sum(row.version for row in rows))


@dataclass(slots=True)
class DirectoryCache:
    """The directory, at most `max_age_seconds` old. Threads may share one."""

    max_age_seconds: float = 1.0
    _known: Directory | None = None
    _read_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, connection: Connection) -> Directory:
        """The snapshot; asks the database when it is older than a moment, and reloads only what changed."""
        with self._lock:
            at = monotonic()
            if self._known is not None and at - self._read_at < self.max_age_seconds:
                return self._known
            version = connection.exec_driver_sql(
                "select coalesce(sum(version), 0) from ledger.item where kind in ('agent', 'group')"
            ).scalar_one()
            if self._known is None or self._known.version != version:
                self._known = load(connection)
            self._read_at = at
            return self._known

    def forget(self) -> None:
        """Read anew at the next `get` (after a change in this process)."""
        with self._lock:
            self._read_at = 0.0
            self._known = None
