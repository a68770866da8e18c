"""Metrics of the router."""

from prometheus_client import Counter, Histogram

ASSIGN_SECONDS = Histogram(
    "signalbox_assign_seconds",
    "Opened to assigned",
    ["lane"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300, 3600),
)
OVER_CAPACITY = Counter("signalbox_over_capacity_total", "Assignments by hand beyond somebody's capacity")

ENRICHMENTS = Counter("signalbox_enrichments_total", "Questions to outside systems", ["name", "outcome"])
ENRICH_SECONDS = Histogram(
    "signalbox_enrich_seconds",
    "Asked to answered",
    ["name"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
