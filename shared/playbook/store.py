"""Published versions: stored whole, read back compiled, one current at a time (the highest number)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import orjson
from sqlalchemy import Connection

from shared.playbook.model import Playbook, from_stored
from shared.runtime import memory
from shared.runtime.clock import monotonic


class NothingPublished(LookupError):
    """No playbook is published yet: run `signalbox apply DIR`."""

    def __init__(self) -> None:
        super().__init__(str(self.__doc__))


@dataclass(slots=True)
class Playbooks:
    """Compiled versions of this process. Threads may share one.

    The current number is believed for `max_age_seconds`; a version never changes, so it is compiled once.
    """

    max_age_seconds: float = 1.0
    on_current: Callable[[int], None] | None = None
    _number: int = 0
    _read_at: float = -1e9
    _compiled: dict[int, Playbook] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def number(self, connection: Connection) -> int:
        """The current version's number. Raises `NothingPublished`."""
        at = monotonic()
        if self._number and at - self._read_at < self.max_age_seconds:
            return self._number
        number = connection.exec_driver_sql("select coalesce(max(number), 0) from playbook.version").scalar_one()
        if not number:
            raise NothingPublished
        self._number, self._read_at = int(number), at
        return self._number

    def current(self, connection: Connection) -> Playbook:
        """The current version, compiled."""
        return self.get(connection, self.number(connection))

    @property
    def known(self) -> Playbook | None:
        """The current version as far as this process knows, without asking the database."""
        return self._compiled.get(self._number)

    def get(self, connection: Connection, number: int) -> Playbook:
        """Version `number`, compiled. Raises `LookupError` for one that was never published."""
        with self._lock:
            known = self._compiled.get(number)
            if known is None:
                row = connection.exec_driver_sql(
                    "select document::text as document from playbook.version where number = %s", (number,)
                ).one_or_none()
                if row is None:
                    raise LookupError(f"playbook version {number} was never published")
                known = self._compiled[number] = from_stored(number, orjson.loads(row.document))
                memory.keep()
            return known

    def forget(self) -> None:
        """Ask the database again at the next call (after publishing in this process)."""
        self._read_at = -1e9


def insert_version(
    connection: Connection, playbook: Playbook, *, at: datetime, by: str, running: str, undoes: int | None = None
) -> None:
    """Store a version; the caller appends `playbook.published` in the same transaction."""
    connection.exec_driver_sql(
        """insert into playbook.version (number, name, checksum, document, running, undoes, published_at, published_by)
        values (%s, %s, %s, %s, %s, %s, %s, %s)""",
        (
            playbook.number,
            playbook.document.name,
            playbook.checksum,
            orjson.dumps(playbook.stored()).decode(),
            running,
            undoes,
            at,
            by,
        ),
    )
