"""Metrics of escalation."""

from prometheus_client import Counter

ESCALATIONS = Counter("signalbox_escalations_total", "Escalations, by level and what happened", ["level", "outcome"])
