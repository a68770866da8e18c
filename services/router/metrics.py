"""Metrics of the router."""

from prometheus_client import Counter, Gauge, Histogram

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

PREDICTIONS = Counter("signalbox_model_predictions_total", "Texts that a model was asked about", ["model", "outcome"])
CONFIDENCE = Histogram(
    "signalbox_model_confidence",
    "Confidence of a model's best guess: it drifts from what was measured when texts change",
    ["model"],
    buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0),
)
MODEL_MEASURED = Gauge("signalbox_model_measured", "What was measured when the model was trained", ["model", "figure"])

RULES_STOPPED = Counter(
    "signalbox_rules_stopped_total", "Tickets sent to triage because rules would take too long on them"
)
