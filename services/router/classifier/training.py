"""Learning a model: TF-IDF over the terms, a linear support vector machine, confidences calibrated on held-out texts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from services.router.classifier.model import Floats, Model, terms

SCALES = np.linspace(0.5, 20.0, 79)
MAX_TERMS = 400_000


class NotEnough(ValueError):
    """The texts cannot be learnt from: fewer than two labels, or nothing to hold out."""


def train(
    texts: Sequence[str],
    labels: Sequence[str],
    held_texts: Sequence[str],
    held_labels: Sequence[str],
    *,
    precision: float = 0.95,
    seed: int = 0,
) -> Model:
    """Learn from `texts`; choose calibration and the abstention threshold for `precision` on the held-out ones. Deterministic.

    Raises `NotEnough`.
    """
    if len(set(labels)) < 2:
        raise NotEnough("at least two labels are needed")
    if not held_texts:
        raise NotEnough("no held-out texts to choose a threshold on")
    vectorizer = TfidfVectorizer(
        analyzer=lambda text: list(terms(text)), sublinear_tf=True, max_features=MAX_TERMS, dtype=np.float32
    )
    features: csr_matrix = vectorizer.fit_transform(texts)
    machine = LinearSVC(C=1.0, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        machine.fit(features, np.asarray(labels))
    names, weights, bias = _columns(machine)
    raw = vectorizer.transform(held_texts) @ weights + bias
    scores: Floats = np.asarray(raw, dtype=np.float32)
    truth = np.array([{name: place for place, name in enumerate(names)}.get(one, -1) for one in held_labels])
    scale = _calibrate(scores, truth)
    threshold, figures = _threshold(scores * scale, truth, precision)
    vocabulary = {term: int(place) for term, place in vectorizer.vocabulary_.items()}
    return Model(
        names, vocabulary, vectorizer.idf_.astype(np.float32), weights, bias, float(scale), threshold,
        {"texts": len(texts), "labels": len(names), "precision_wanted": precision, **figures},
    )  # fmt: skip


def _columns(machine: LinearSVC) -> tuple[tuple[str, ...], Floats, Floats]:
    names = tuple(str(one) for one in machine.classes_)
    weights, bias = machine.coef_.T.astype(np.float32), machine.intercept_.astype(np.float32)
    if len(names) == 2:  # one column for two labels: the other is its mirror
        weights, bias = np.hstack([-weights, weights]), np.hstack([-bias, bias])
    return names, np.ascontiguousarray(weights), bias


def _chances(scaled: Floats) -> Floats:
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    found: Floats = powers / powers.sum(axis=1, keepdims=True)
    return found


def _calibrate(scores: Floats, truth: np.ndarray) -> float:
    """The scale under which the held-out labels are most likely (those of unknown labels say nothing)."""
    known = truth >= 0
    if not known.any():
        return 4.0
    rows = np.arange(int(known.sum()))
    losses = [
        -np.log(np.maximum(_chances(scores[known] * scale)[rows, truth[known]], 1e-12)).mean() for scale in SCALES
    ]
    return float(SCALES[int(np.argmin(losses))])


def _threshold(scaled: Floats, truth: np.ndarray, precision: float) -> tuple[float, dict[str, float]]:
    """The lowest confidence from which on answers are right at least `precision` of the time; and what that gives."""
    chances = _chances(scaled)
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == truth
    order = np.argsort(-confidence, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    good = np.nonzero(share >= precision)[0]
    if len(good) == 0:
        return 1.01, {"accuracy": float(right.mean()), "answered": 0.0, "precision": 0.0}
    last = int(good[-1])
    figures = {"accuracy": float(right.mean()), "answered": (last + 1) / len(order), "precision": float(share[last])}
    return float(confidence[order[last]]), figures
