"""A loop of house-keeping: a bounded step again and again, a heartbeat after each, and never dead by an exception."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from shared.runtime import clock, metrics

log = structlog.get_logger()


class Loop:
    """Runs `step` every `period_seconds` in a daemon thread until `stop`.

    `step` may return a number of seconds to wait instead. An exception is logged and counted as a round without a heartbeat, so
    that a loop which only fails is reported as silent.
    """

    def __init__(self, service: str, name: str, period_seconds: float, step: Callable[[], float | None]) -> None:
        self.service = service
        self.name = name
        self.period_seconds = period_seconds
        self._step = step
        self._stop = threading.Event()
        self._poke = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{service}.{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def poke(self) -> None:
        """Make the next round come now."""
        self._poke.set()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Ask the loop to end and wait for its present round."""
        self._stop.set()
        self._poke.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def _run(self) -> None:
        while not self._stop.is_set():
            wait: float | None = None
            try:
                wait = self._step()
                metrics.LOOP_HEARTBEAT.labels(self.service, self.name).set(clock.utc_now().timestamp())
            except Exception as error:
                log.warning("loop_round_failed", loop=self.name, error=f"{type(error).__name__}: {error}"[:300])
                wait = min(1.0, self.period_seconds)
            self._poke.wait(self.period_seconds if wait is None else wait)
            self._poke.clear()
