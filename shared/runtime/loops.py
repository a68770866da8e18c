"""Loops of house-keeping, and the heartbeat of every loop of this process.

Each loop beats once a round: `signalbox_loop_heartbeat_seconds` shows when, and the ledger's house-keeping writes the same to the
database, so that `signalbox doctor` sees a silent loop from anywhere. A thread that is no `Loop` calls `beat` itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from shared.runtime import clock, metrics

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Beat:
    """One loop of this process: how often it means to come round, and how long ago it last did."""

    service: str
    loop: str
    period_seconds: float
    age_seconds: float


_beats: dict[tuple[str, str], tuple[float, float]] = {}
_gauges: dict[tuple[str, str], Any] = {}


def beat(service: str, loop: str, period_seconds: float) -> None:
    """Note that a loop has just completed a round; about a microsecond."""
    key = (service, loop)
    gauge = _gauges.get(key)
    if gauge is None:
        gauge = _gauges[key] = metrics.LOOP_HEARTBEAT.labels(service, loop)
    gauge.set(clock.utc_now().timestamp())
    _beats[key] = (period_seconds, clock.monotonic())


def forget(service: str, loop: str) -> None:
    """A loop ended in good order: it is not silent, it is over."""
    _beats.pop((service, loop), None)


def beats() -> list[Beat]:
    """Every loop that has beaten in this process."""
    now = clock.monotonic()
    return [Beat(service, loop, period, now - at) for (service, loop), (period, at) in list(_beats.items())]


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
        forget(self.service, self.name)

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def run_once(self) -> float | None:
        """One round here and now; raises what the step raises."""
        wait = self._step()
        beat(self.service, self.name, max(self.period_seconds, wait or 0.0))
        return wait

    def _run(self) -> None:
        while not self._stop.is_set():
            wait: float | None = None
            try:
                wait = self.run_once()
            except Exception as error:
                log.warning("loop_round_failed", loop=self.name, error=f"{type(error).__name__}: {error}"[:300])
                wait = min(1.0, self.period_seconds)
            self._poke.wait(self.period_seconds if wait is None else wait)
            self._poke.clear()
