"""House-keeping of the SLA service: how many clocks live, by metric and state, as `signalbox_sla_clocks`, and how many of them
are expected to be breached."""

from __future__ import annotations

from sqlalchemy import Engine

from services.sla import metrics, store
from services.sla.forecast import store as forecast
from shared.runtime.clock import monotonic
from shared.runtime.loops import Loop

PERIOD_SECONDS = 15.0
MOST_SECONDS = 45.0
"""What is shown is hardly older: the first count, on cold caches, takes long and says little of the next."""
SHARE = 1_000
"""It is not done again for `SHARE` times as long as it took: of a process that has nothing else to do it is a thousandth."""


class ClockCount:
    """Counts live clocks; every process of the service shows the same numbers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.loop = Loop("sla", "clocks", PERIOD_SECONDS, self.count)

    def count(self) -> float:
        """Count once; returns how long to wait before the next time, in seconds."""
        started = monotonic()
        with self._engine.connect() as connection:
            found = store.count_live(connection)
            expected = forecast.expected(connection)
        for family in metrics.FAMILIES:
            for state in metrics.LIVE:
                metrics.CLOCKS.labels(family, state).set(found.get((family, state), 0))
            metrics.EXPECTED.labels(family).set(expected.get(family, 0.0))
        return min(MOST_SECONDS, max(PERIOD_SECONDS, SHARE * (monotonic() - started)))
