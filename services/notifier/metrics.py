"""Metrics of the notifier."""

from bisect import bisect_left

from prometheus_client import Counter, Gauge, Histogram


class Spread(Histogram):
    """A histogram that many equal values enter at once: all messages that were planned together have waited as long."""

    def observe_many(self, amount: float, count: int) -> None:
        """The same as `observe`, so many times."""
        self._sum.inc(amount * count)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(count)


DELIVERIES = Counter("signalbox_deliveries_total", "Messages, by outcome", ["channel", "provider", "outcome"])
DELIVERY_SECONDS = Spread(
    "signalbox_delivery_seconds",
    "Planned to accepted by the provider",
    ["channel"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
BREAKER = Gauge("signalbox_provider_breaker", "1 for the state a provider's circuit is in", ["provider", "state"])
