"""Metrics of the SLA service."""

from prometheus_client import Counter, Gauge

CLOCKS = Gauge("signalbox_sla_clocks", "Clocks by metric and state", ["metric", "state"])
BREACHES = Counter("signalbox_sla_breaches_total", "Breaches", ["metric", "priority"])
