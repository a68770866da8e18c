"""Published classifiers as this process has them: read once a version, asked by rules that name them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection

from services.router import metrics
from services.router import model_store as store
from services.router.domain.answers import Predict, Prediction
from shared.playbook.routing import ModelUse
from shared.runtime.clock import monotonic

if TYPE_CHECKING:
    from services.router.classifier.model import Model

log = structlog.get_logger()


@dataclass(slots=True)
class Models:
    """Current models by name. What is current is believed for `max_age_seconds`. Threads may share one.

    A model that cannot be read counts as not published: the ticket says so, and its rules go on without it.
    """

    max_age_seconds: float = 1.0
    _current: dict[str, int] = field(default_factory=dict)
    _loaded: dict[str, tuple[int, Model | None]] = field(default_factory=dict)
    _read_at: float = -1e9
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def predict_on(self, connection: Connection) -> Predict:
        """Something that answers for a text, reading new versions through this connection."""

        def predict(use: ModelUse, text: str) -> Prediction | None:
            found = self._model(connection, use.name)
            if found is None:
                return None
            version, model = found
            answer = model.predict(text)
            threshold = model.threshold if use.threshold is None else use.threshold
            label = answer.best if answer.confidence >= threshold else None
            metrics.PREDICTIONS.labels(use.name, "abstained" if label is None else "answered").inc()
            metrics.CONFIDENCE.labels(use.name).observe(answer.confidence)
            return Prediction(label, answer.confidence, answer.guesses, f"{use.name}@{version}")

        return predict

    def _model(self, connection: Connection, name: str) -> tuple[int, Model] | None:
        with self._lock:
            at = monotonic()
            if at - self._read_at >= self.max_age_seconds:
                self._current, self._read_at = store.current_versions(connection), at
            version = self._current.get(name)
            if version is None:
                return None
            known = self._loaded.get(name)
            if known is None or known[0] != version:
                known = self._loaded[name] = (version, self._load(connection, name, version))
            return None if known[1] is None else (version, known[1])

    def _load(self, connection: Connection, name: str, version: int) -> Model | None:
        from services.router.classifier.model import BadModel, loads  # late: numpy is paid for by those who use models

        try:
            model = loads(store.data_of(connection, name, version))
        except BadModel as error:
            log.error("model_unreadable", model=name, version=version, error=str(error))
            return None
        for figure in ("answered", "precision"):
            if isinstance(value := model.figures.get(figure), int | float):
                metrics.MODEL_MEASURED.labels(name, figure).set(value)
        return model
