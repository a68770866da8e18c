"""Learning a forecast from samples of the past: logistic regression, calibrated on the newest part (scikit-learn)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from services.sla.forecast.history import Sample
from services.sla.forecast.model import Forecast

FEWEST = 200
"""Ended clocks below which nothing is learned."""
HELD_OUT = 0.25
"""The newest part of the past, by tickets: not learned from, but calibrated on."""
SMOOTHING = 30.0
"""Clocks that the whole counts for in the share of a queue or kind."""
POINTS = 60


class TooLittle(ValueError):
    """There is too little history to learn from, or only one outcome in it."""


def train(samples: Sequence[Sample], *, strength: float = 3.0) -> Forecast:
    """A model from samples of clocks that have ended.

    Every look counts the same: weighting a clock by how often it was looked at would tell at a look how long the clock was yet
    to run. Raises `TooLittle`.
    """
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.isotonic import IsotonicRegression
    from sklearn.linear_model import LogisticRegression

    ordered = sorted(samples, key=lambda one: one.at)
    last = {_clock(one): one for one in ordered}  # in the order in which they were first seen
    clocks = list(last)
    bad = sum(one.breached for one in last.values())
    if len(clocks) < FEWEST or bad in (0, len(clocks)):
        raise TooLittle(f"{len(clocks)} ended clocks, {bad} of them breached")
    old = set(clocks[: int(len(clocks) * (1 - HELD_OUT))])
    learn = [one for one in samples if _clock(one) in old]
    hold = [one for one in samples if _clock(one) not in old]
    if len({one.breached for one in learn}) < 2 or not hold:
        raise TooLittle("the older part of the history holds one outcome only")
    queues = _log_odds([last[key] for key in old], "queue:")
    kinds = _log_odds([last[key] for key in old], "kind:")
    vectors = DictVectorizer(sparse=True)
    table = vectors.fit_transform([_columns(one, queues, kinds) for one in learn])
    fit = LogisticRegression(C=strength, max_iter=500, solver="lbfgs")
    fit.fit(table, [one.breached for one in learn])
    weights = dict(zip(vectors.get_feature_names_out(), map(float, fit.coef_[0]), strict=True))
    raw = Forecast(bias=float(fit.intercept_[0]), weights=weights, queues=queues, kinds=kinds, scores=(), shares=())
    curve = IsotonicRegression(y_min=0.002, y_max=0.998, out_of_bounds="clip")
    scores = [raw.probability(one.features) for one in hold]
    curve.fit(scores, [float(one.breached) for one in hold])
    points = _points(scores, lambda xs: [float(y) for y in curve.predict(xs)])
    made = Forecast(
        bias=raw.bias, weights=weights, queues=queues, kinds=kinds,
        scores=tuple(x for x, _ in points), shares=tuple(y for _, y in points),
    )  # fmt: skip
    base = fmean(one.breached for one in learn)
    figures = {
        "clocks": len(clocks),
        "breached": bad,
        "held_out_clocks": len(clocks) - len(old),
        "held_out_brier": brier(hold, made),
        "held_out_brier_of_base_rate": fmean((base - one.breached) ** 2 for one in hold),
    }
    return Forecast(
        bias=made.bias, weights=weights, queues=queues, kinds=kinds, scores=made.scores, shares=made.shares, figures=figures
    )  # fmt: skip


def brier(samples: Sequence[Sample], model: Forecast) -> float:
    """Mean squared distance of the probabilities from what came."""
    return fmean((model.probability(one.features) - one.breached) ** 2 for one in samples)


def _clock(one: Sample) -> tuple[int, str, int]:
    return one.ticket, one.metric, one.cycle


def _log_odds(lasts: Sequence[Sample], prefix: str) -> dict[str, float]:
    """For each queue or kind: the log odds of a breach, drawn towards the whole where it was seen seldom."""
    base = sum(one.breached for one in lasts) / len(lasts)
    counts: dict[str, list[int]] = {}
    for one in lasts:
        key = next(name for name in one.features if name.startswith(prefix)).removeprefix(prefix)
        kept = counts.setdefault(key, [0, 0])
        kept[0] += 1
        kept[1] += one.breached
    return {
        key: _odds((bad + SMOOTHING * base) / (count + SMOOTHING)) - _odds(base) for key, (count, bad) in counts.items()
    }


def _odds(share: float) -> float:
    share = min(max(share, 1e-4), 1 - 1e-4)
    return math.log(share / (1 - share))


def _columns(one: Sample, queues: dict[str, float], kinds: dict[str, float]) -> dict[str, float]:
    columns: dict[str, float] = {}
    for name, value in one.features.items():
        way, colon, key = name.partition(":")
        if colon and way in ("queue", "kind"):
            known = (queues if way == "queue" else kinds).get(key, 0.0)
            columns[way] = known
            columns[f"{way} now"] = known * value
        else:
            columns[name] = value
    return columns


def _points(scores: Sequence[float], shown: Callable[[list[float]], list[float]]) -> list[tuple[float, float]]:
    """The calibration curve at a few of the scores, spread over all of them."""
    ordered: list[Any] = sorted(set(scores))
    step = max(1, len(ordered) // POINTS)
    chosen = [*ordered[::step], ordered[-1]]
    return list(dict(zip(chosen, shown(chosen), strict=True)).items())
