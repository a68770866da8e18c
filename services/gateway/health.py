"""Whether the database answers, watched from a thread of its own, so that requests fail at once while it is away."""

from __future__ import annotations

import threading

from sqlalchemy import Engine

from shared.runtime import metrics
from shared.runtime.clock import monotonic
from shared.runtime.loops import beat, forget

PERIOD_SECONDS = 0.3
STALE_SECONDS = 1.5


class Health:
    """`database_up` is False when the last answer is older than `STALE_SECONDS` or the last try failed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._answered_at = monotonic()
        self._failed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        forget("gateway", "health")

    @property
    def database_up(self) -> bool:
        return not self._failed and monotonic() - self._answered_at < STALE_SECONDS

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_SECONDS):
            try:
                with self._engine.connect() as connection:
                    connection.exec_driver_sql("select 1")
                self._answered_at, self._failed = monotonic(), False
            except Exception:
                self._failed = True
            metrics.DATABASE_UP.set(1 if self.database_up else 0)
            beat("gateway", "health", PERIOD_SECONDS)
