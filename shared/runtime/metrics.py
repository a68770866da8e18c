"""Metrics of the contract that belong to no single service, and the server that shows a process's registry.

Base units, closed label sets. A service's own metrics are in its `metrics.py`.
"""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from shared.runtime.settings import Address

_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

AGENDA_OLDEST = Gauge(
    "signalbox_agenda_oldest_due_seconds", "Age of the oldest due, unclaimed item", ["service", "lane"]
)
AGENDA_DEPTH = Gauge("signalbox_agenda_depth", "Agenda rows by state (due, armed)", ["service", "lane", "state"])
HANDLED = Counter("signalbox_handled_total", "Items handled, by outcome", ["service", "outcome"])
HANDLE_SECONDS = Histogram("signalbox_handle_seconds", "Time a batch took, claim to commit", ["service"], buckets=_FAST)
BATCH_SIZE = Histogram(
    "signalbox_batch_size", "Items in a batch", ["service"], buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
)
TIMER_LATENESS = Histogram(
    "signalbox_timer_lateness_seconds", "How late a timer was claimed after its instant", ["service"], buckets=_FAST
)
QUARANTINE = Gauge("signalbox_quarantine", "Items in quarantine", ["service"])
INVARIANT_VIOLATIONS = Gauge("signalbox_invariant_violations", "Rows that an invariant's query returned", ["invariant"])
LOOP_HEARTBEAT = Gauge(
    "signalbox_loop_heartbeat_seconds", "Unix time of a loop's last completed round", ["service", "loop"]
)
REDIS_UP = Gauge("signalbox_redis_up", "1 when Redis answered last")
DATABASE_UP = Gauge("signalbox_database_up", "1 when PostgreSQL answered last")
BUILD_INFO = Gauge("signalbox_build_info", "Always 1", ["version"])
TICKETS = Counter("signalbox_tickets_total", "Tickets taken in, by source and outcome", ["source", "outcome"])


def serve(address: Address, registry: CollectorRegistry = REGISTRY) -> None:
    """Show a registry's metrics at `address` (path /metrics) from a daemon thread."""
    start_http_server(address.port, addr=address.host, registry=registry)
