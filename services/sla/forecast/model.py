"""What a trained forecast says of a clock's features. Plain numbers: no library is needed to ask it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

import msgspec

FORMAT = 1


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """Weights by feature; what was never seen weighs nothing. `scores` and `shares`: the calibration curve, both rising.

    `queues`, `kinds`: how often promises were broken in the past, as log odds against the whole. `figures`: how it did on the
    newest part of the past.
    """

    format: int = FORMAT
    bias: float
    weights: dict[str, float]
    queues: dict[str, float]
    kinds: dict[str, float]
    scores: tuple[float, ...]
    shares: tuple[float, ...]
    figures: dict[str, Any] = {}

    def probability(self, features: Mapping[str, float]) -> float:
        """How likely a clock of these features is to be breached, 0 to 1."""
        score = self.bias
        for name, value in features.items():
            if name.startswith(("queue:", "kind:")):
                way, _, key = name.partition(":")
                known = (self.queues if way == "queue" else self.kinds).get(key, 0.0)
                score += known * (self.weights.get(f"{way} now", 0.0) * value + self.weights.get(way, 0.0))
            else:
                score += self.weights.get(name, 0.0) * value
        return self._calibrated(1 / (1 + math.exp(-max(-30.0, min(30.0, score)))))

    def _calibrated(self, score: float) -> float:
        """Between two points of the curve in a straight line; flat outside."""
        place = bisect_right(self.scores, score)
        if place == 0 or not self.scores:
            return self.shares[0] if self.shares else score
        if place == len(self.scores):
            return self.shares[-1]
        left, right = self.scores[place - 1], self.scores[place]
        part = (score - left) / (right - left) if right > left else 0.0
        return self.shares[place - 1] + part * (self.shares[place] - self.shares[place - 1])


def load(data: bytes | str) -> Forecast:
    """A stored model. Raises `ValueError` for what is none of this format."""
    found = msgspec.json.decode(data, type=Forecast)
    if found.format != FORMAT:
        raise ValueError(f"a forecast of format {found.format}; this version reads {FORMAT}")
    return found
