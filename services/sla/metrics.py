"""Metrics of the SLA service."""

from prometheus_client import Counter, Gauge

FAMILIES = ("first_response", "next_response", "periodic_update", "resolution", "node", "ownership")
LIVE = ("running", "paused", "breached")

CLOCKS = Gauge("signalbox_sla_clocks", "Live clocks by metric and state", ["metric", "state"])
EXPECTED = Gauge(
    "signalbox_sla_breaches_expected", "Running clocks that the forecast expects to be breached", ["metric"]
)
BREACHES = Counter("signalbox_sla_breaches_total", "Breaches", ["metric", "priority"])


def family(metric: str) -> str:
    """A closed label set: `node:x` and `ownership:y` count as their family."""
    return metric.partition(":")[0]
