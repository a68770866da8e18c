"""Metrics of the notifier."""

from prometheus_client import Counter, Gauge, Histogram

DELIVERIES = Counter("signalbox_deliveries_total", "Messages, by outcome", ["channel", "provider", "outcome"])
DELIVERY_SECONDS = Histogram(
    "signalbox_delivery_seconds",
    "Planned to accepted by the provider",
    ["channel"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
BREAKER = Gauge("signalbox_provider_breaker", "1 for the state a provider's circuit is in", ["provider", "state"])
