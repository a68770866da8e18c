"""Publishes settled events to the topic streams. One process at a time does it, the others stand by."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import redis
import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from shared.access.present import Masks, present
from shared.access.principals import Principal
from shared.contracts.events import topic_type
from shared.contracts.topics import Stored, cloud_event, encode
from shared.ledger import reader
from shared.ledger.process import Background, Deps
from shared.runtime import clock, metrics
from shared.runtime.clock import monotonic
from shared.runtime.crash import crash_point

log = structlog.get_logger()

STREAM = "signalbox:topic:"
ALL = STREAM + "all"
MARK = STREAM + "position"
"""Up to where the streams are written; set in one transaction with the entries."""
KEPT = 250_000
"""Positions that the streams reach back, about; the whole log stays readable over HTTP."""
BATCH = 500
BUSY_SECONDS, IDLE_SECONDS, STEADY_SECONDS, STANDBY_SECONDS = 0.05, 0.5, 5.0, 2.0
CALL_SECONDS = 1.0
"""`on_moved` is called this often even when nothing moved: somebody may have gone to sleep just behind the last call."""
ADVISORY_SPACE = 0x5163
READER = Principal(-3, frozenset({"integrator"}), name="topics")
"""Streams show what an integrator may see."""


class TopicPublisher(Background):
    """The loop in a thread of its own; `on_moved` is told the settled position when it moved, and each second."""

    def __init__(self, deps: Deps, on_moved: Callable[[Connection, int], None] | None = None) -> None:
        self._deps = deps
        self._engine: Engine = deps.engine
        self._on_moved = on_moved
        self._tail = reader.Tail()
        self._redis: Any = None
        self._told = -1
        self._moved_at = 0.0
        self._called_at = -1e9
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="topics", daemon=True)

    def start(self) -> None:
        if self._deps.settings.redis_url is not None:
            self._redis = redis.Redis.from_url(
                self._deps.settings.redis_url, socket_timeout=4, socket_connect_timeout=1
            )
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)
        if self._redis is not None:
            self._redis.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            wait = STANDBY_SECONDS
            try:
                with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    if _ours(connection):
                        self._lead(connection)
            except Exception as error:  # the database is away, or this session was ended: begin anew
                log.warning("topics_wait", error=f"{type(error).__name__}: {error}"[:200])
                wait = 0.5
            self._stop.wait(wait)

    def _lead(self, connection: Connection) -> None:
        """Publish until stopped; whoever holds the lock of this session is the publisher."""
        try:
            while not self._stop.is_set():
                moved = self.run_once(connection)
                metrics.LOOP_HEARTBEAT.labels("notifier", "topics").set(clock.utc_now().timestamp())
                now = monotonic()
                if moved:
                    self._moved_at = now
                self._stop.wait(BUSY_SECONDS if now - self._moved_at < STEADY_SECONDS else IDLE_SECONDS)
        finally:
            with suppress(DBAPIError):
                connection.exec_driver_sql("select pg_advisory_unlock(%s, 1)", (ADVISORY_SPACE,))

    def run_once(self, connection: Connection) -> bool:
        """One round: tell subscriptions of new events, publish what Redis does not have yet. Whether anything was new."""
        until = self._tail.look(connection)
        moved = until != self._told
        if self._on_moved is not None and (moved or monotonic() - self._called_at > CALL_SECONDS):
            self._called_at = monotonic()
            self._on_moved(connection, until)
        if self._redis is not None:
            try:
                self._publish(connection, until)
                metrics.REDIS_UP.set(1)
            except redis.RedisError as error:  # nothing is lost: the log has it all
                metrics.REDIS_UP.set(0)
                log.warning("topics_wait", error=f"{type(error).__name__}: {error}"[:200])
                self._stop.wait(IDLE_SECONDS)
        self._told = until
        return moved

    def _publish(self, connection: Connection, until: int) -> None:
        mark = self._redis.get(MARK)
        after = max(int(mark) if mark is not None else 0, until - KEPT)
        masks = self._deps.playbooks.current(connection).document.access.masks if after < until else {}
        while after < until and not self._stop.is_set():
            rows, after = reader.read_stored(connection, after, until, BATCH)
            self._write(rows, after, masks)

    def _write(self, rows: Sequence[Stored], upto: int, masks: Masks) -> None:
        """Entries and mark in one transaction: either both are there or neither."""
        pipe = self._redis.pipeline(transaction=True)
        for row in rows:
            event = encode(cloud_event(row, (lambda data: present(data, READER, masks)) if masks else None))
            oldest = max(0, row.position - KEPT)
            for stream in (ALL, STREAM + topic_type(row.type)):
                pipe.xadd(stream, {"event": event}, id=f"{row.position}-0", minid=oldest, approximate=True)
        pipe.set(MARK, upto)
        answers = pipe.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception) and "equal or smaller" not in str(answer):
                raise answer
        crash_point("topic.published")


def _ours(connection: Connection) -> bool:
    return bool(connection.exec_driver_sql("select pg_try_advisory_lock(%s, 1)", (ADVISORY_SPACE,)).scalar_one())
