"""A person's inbox: what the view of the notifier shows, and the hub that tells open streams that there is something new.

The hub follows the log by settled positions, once for all listeners of the process; a listener is told nothing but *look*.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from sqlalchemy import Connection, text

from shared.contracts.events import DeliveryRead, DeliverySent
from shared.ledger import reader
from shared.ledger.process import Deps
from shared.ledger.reader import Settled
from shared.runtime.loops import Loop

log = structlog.get_logger()

LOOK_SECONDS = 0.25
BATCH = 2_000
_COLUMNS = "id, ticket_id, event, rule, urgency, content, state, read, created_at, updated_at"


def listing(
    connection: Connection, person: str, *, unread: bool, limit: int, before: int | None
) -> tuple[list[dict[str, Any]], int | None]:
    """A page of a person's inbox, newest first, and the key to go on before."""
    rows = connection.execute(
        text(
            f"""select {_COLUMNS} from notifier.v_inbox where recipient = :person and id < :before
            {"and not read" if unread else ""} order by id desc limit :limit"""
        ),
        {"person": person, "before": before if before is not None else 2**62, "limit": limit + 1},
    ).mappings()
    found = [_item(dict(row)) for row in rows]
    return found[:limit], int(found[limit - 1]["id"]) if len(found) > limit else None


def unread_count(connection: Connection, person: str) -> int:
    """How many a person has not read, counted up to 1,000."""
    return int(
        connection.exec_driver_sql(
            """select count(*) from (select 1 from notifier.v_inbox where recipient = %s and not read limit 1000) u""",
            (person,),
        ).scalar_one()
    )


def unread_of(connection: Connection, person: str, ids: list[int] | None) -> list[int]:
    """Of these messages (None: of all), the person's own that are not read."""
    wanted = "" if ids is None else "and id = any(%(ids)s)"
    rows = connection.exec_driver_sql(
        f"select id from notifier.v_inbox where recipient = %(person)s and not read {wanted} order by id limit 5000",
        {"person": person, "ids": ids},
    )
    return [row.id for row in rows]


def _item(row: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = row.pop("content")
    ticket = row.pop("ticket_id")
    return row | content | {"id": str(row["id"]), "ticket": None if ticket is None else str(ticket)}


class Hub:
    """Wakes the open streams of people whose inbox changed. Reads the log only while somebody listens."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._listeners: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}
        self._lock = threading.Lock()
        self._settled = Settled()
        self._read_to: int | None = None
        self._loop: Loop | None = None

    @contextmanager
    def listen(self, person: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the person's inbox may have changed."""
        mine = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._listeners.setdefault(person, set()).add(mine)
            if self._loop is None:
                self._loop = Loop("gateway", "inbox", LOOK_SECONDS, self._look)
                self._loop.start()
        try:
            yield mine[1]
        finally:
            with self._lock:
                self._listeners[person].discard(mine)
                if not self._listeners[person]:
                    del self._listeners[person]

    def stop(self) -> None:
        """End the loop."""
        if self._loop is not None:
            self._loop.stop()

    def _look(self) -> None:
        with self._lock:
            if not self._listeners:
                self._read_to = None
                return
        with self._deps.engine.connect() as connection:
            until = self._settled.look(connection)
            if self._read_to is None:
                self._read_to = until
                people = set(self._listeners)
            else:
                people = self._changed(connection, until)
            connection.rollback()
        with self._lock:
            woken = [one for person in people for one in self._listeners.get(person, ())]
        for loop, event in woken:
            loop.call_soon_threadsafe(event.set)

    def _changed(self, connection: Connection, until: int) -> set[str]:
        people: set[str] = set()
        while self._read_to is not None and self._read_to < until:
            batch = reader.read(connection, self._read_to, until, BATCH, ("delivery.sent", "delivery.read"))
            people |= {one.data.recipient for one in batch if isinstance(one.data, DeliverySent | DeliveryRead)}
            self._read_to = batch[-1].position if len(batch) == BATCH else until
        return people
