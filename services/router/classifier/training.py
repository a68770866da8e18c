"""Learning a model: TF-IDF over words and characters, and what the whole text means where an encoder is installed; a linear
support vector machine; confidences calibrated on held-out texts.

Texts of `none` (a label that means none of the others) are not a class: so few and so different texts cannot be told
by their words. They, and held-out texts of labels never learnt, teach how high the best score must be to be believed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from services.router.classifier import sense
from services.router.classifier.model import Floats, Model, characters, confidences, points, words

SCALES = np.linspace(0.5, 20.0, 79)
NOTHINGS = np.linspace(-1.5, 1.0, 51)
SMALL = 1_000
"""Texts; above it, characters that only one text holds are left out: they cost memory and are seldom met again."""
MAX_TERMS = 300_000
"""Of one view; the most frequent are kept."""
MEANING = 1.25
"""Length of a text's point (see `sense`) beside the two views of length 1. Like `COST` chosen by cross-validation within the
training parts of the public sets: shorter serves long texts, longer serves short ones."""
ENOUGH_TO_CHOOSE = 200
"""Held-out texts from which on recipes are compared on them."""
UNEVEN = 3
"""Times the median that the most frequent label has: from there on it is tried to weigh labels more alike."""
EVENNESS = (0.0, 0.5, 1.0)
"""Power of a label's rarity that a text of it weighs: 0, texts weigh alike; 1, labels do; between them the square root."""
MOST_TOGETHER = 3
"""Recipes of which a mean is tried."""
COST = 0.5
"""Of a training text on the wrong side (C of the machine), for texts whose two views have length 1 each."""
LOOSER = 0.2
"""The same, tried too where labels are uneven: rare labels have few texts, and those are best not followed too closely."""
MANY = 10_000
"""Texts; above it `LOOSER` is not tried: there is little to win, and each recipe takes time and memory."""


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
    none: str | None = None,
    senses: bool | None = None,
) -> Model:
    """Learn from `texts`; choose calibration and the abstention threshold for `precision` on the held-out ones. Deterministic.

    `senses`: whether to learn from what texts mean, too; None: where the encoder is installed. Raises `NotEnough`.
    """
    outside = [text for text, label in zip(texts, labels, strict=True) if label == none]
    pairs = [(text, label) for text, label in zip(texts, labels, strict=True) if label != none]
    if len({label for _, label in pairs}) < 2:
        raise NotEnough("at least two labels are needed")
    if not held_texts:
        raise NotEnough("no held-out texts to choose a threshold on")
    views = [_view(words, 1), _view(characters, 2 if len(pairs) > SMALL else 1)]
    known, wanted = [text for text, _ in pairs], np.asarray([label for _, label in pairs])
    counted: csr_matrix = hstack([view.fit_transform(known) for view in views], format="csr")
    with_sense = sense.installed() if senses is None else senses
    halves = with_sense and _halved(known)
    meant = points(known, halves=halves) * np.float32(MEANING) if with_sense else None
    held = _seen(views, held_texts, with_sense, halves)
    learnt: list[_Learnt] = []
    names: tuple[str, ...] = ()
    whole = hstack([counted, csr_matrix(meant)], format="csr") if with_sense else counted
    terms = counted.shape[1]
    for recipe in _recipes(with_sense, wanted, len(held_texts)):
        names, both, bias = _columns(_fit(whole if recipe.with_meaning else counted, wanted, recipe, seed))
        weights, meanings = both[:terms], both[terms:] * np.float32(MEANING) if recipe.with_meaning else None
        learnt.append(_Learnt(weights, bias, meanings, held.scores(weights, bias, meanings)))
    places = {name: place for place, name in enumerate(names)}
    truth = np.array([places.get(one, -1) for one in held_labels])
    weights, bias, meanings, scores = _best(learnt, truth)
    apart = _seen(views, outside, with_sense, halves).scores(weights, bias, meanings) if outside else scores[:0]
    scale, nothing = _calibrate(np.vstack([scores, apart]), np.append(truth, np.full(len(apart), -1)))
    threshold, figures = _threshold(confidences(scores, scale, nothing), truth, precision)
    vocabulary = {term: int(place) for term, place in views[0].vocabulary_.items()}
    word_terms = len(vocabulary)
    vocabulary |= {term: int(place) + word_terms for term, place in views[1].vocabulary_.items()}
    idf = np.concatenate([view.idf_ for view in views]).astype(np.float32)
    return Model(
        names, vocabulary, word_terms, idf, weights, bias, meanings, scale, nothing, threshold,
        {"texts": len(pairs), "labels": len(names), "precision_wanted": precision, **figures},
    )  # fmt: skip


class _Recipe(NamedTuple):
    """How a machine is learnt. `evenness`: see `EVENNESS`; `cost`: see `COST`."""

    with_meaning: bool
    evenness: float
    cost: float


class _Seen(NamedTuple):
    """Texts as the machine sees them: their terms counted, and their points."""

    counted: csr_matrix
    meant: Floats | None

    def scores(self, weights: Floats, bias: Floats, meanings: Floats | None) -> Floats:
        found: Floats = np.asarray(self.counted @ weights + bias, dtype=np.float32)
        return found if meanings is None or self.meant is None else found + self.meant @ meanings


class _Learnt(NamedTuple):
    """What one recipe made of the texts, and its scores of the held-out ones."""

    weights: Floats
    bias: Floats
    meanings: Floats | None
    scores: Floats


def _best(learnt: Sequence[_Learnt], truth: np.ndarray) -> _Learnt:
    """Who is right most often on the held-out texts: one recipe, or the mean of some, which is as cheap to ask as one. Of equals
    the first, those of fewer recipes before those of more."""
    chosen: tuple[_Learnt, ...] = ()
    most = -1.0
    for size in range(1, MOST_TOGETHER + 1):
        for group in combinations(learnt, size):
            right = float(np.mean(np.sum([one.scores for one in group], axis=0).argmax(axis=1) == truth))
            if right > most:
                most, chosen = right, group
    return chosen[0] if len(chosen) == 1 else _mean(chosen)


def _mean(group: Sequence[_Learnt]) -> _Learnt:
    """Linear machines together are one; of those without meanings the weights of meanings are 0."""
    share = np.float32(1 / len(group))
    known = [one.meanings for one in group if one.meanings is not None]
    meanings: Floats | None = np.asarray(np.sum(known, axis=0), dtype=np.float32) * share if known else None
    weights, bias, scores = (
        np.asarray(np.sum(parts, axis=0), dtype=np.float32) * share
        for parts in zip(*((one.weights, one.bias, one.scores) for one in group), strict=True)
    )
    return _Learnt(weights, bias, meanings, scores)


def _recipes(senses: bool, labels: np.ndarray, held: int) -> Iterator[_Recipe]:
    """What is tried, and the best on the held-out texts taken (or the mean of some): with what texts mean or without; where labels
    are uneven, also how far rare ones are brought to the weight of frequent ones, and how closely the texts are followed. With few
    held-out texts there is one recipe: a choice between some would be a choice by chance.
    """
    first = _Recipe(senses, 0.0, COST)
    yield first
    if held < ENOUGH_TO_CHOOSE:
        return
    _, counts = np.unique(labels, return_counts=True)
    uneven = counts.max() >= UNEVEN * np.median(counts)
    costs = (COST, LOOSER) if uneven and len(labels) <= MANY else (COST,)
    for with_meaning in (True, False) if senses else (False,):
        for evenness, cost in product(EVENNESS if uneven else (0.0,), costs):
            one = _Recipe(with_meaning, evenness, cost)
            if one != first:
                yield one


def _fit(features: csr_matrix, labels: np.ndarray, recipe: _Recipe, seed: int) -> LinearSVC:
    _, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights = (len(labels) / (len(counts) * counts)) ** recipe.evenness
    machine = LinearSVC(C=recipe.cost, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return machine.fit(features, labels, sample_weight=weights[places])


def _halved(texts: Sequence[str]) -> bool:
    """Have most texts a first line and a rest?"""
    return 2 * sum(sense.halves(text) is not None for text in texts) >= len(texts)


def _view(analyzer: Callable[[str], Iterator[str]], least: int) -> TfidfVectorizer:
    """TF-IDF over the terms that at least `least` texts hold."""
    return TfidfVectorizer(analyzer=analyzer, sublinear_tf=True, min_df=least, max_features=MAX_TERMS, dtype=np.float32)


def _seen(views: Sequence[TfidfVectorizer], texts: Sequence[str], with_sense: bool, halves: bool) -> _Seen:
    counted: csr_matrix = hstack([view.transform(texts) for view in views], format="csr")
    return _Seen(counted, points(texts, halves=halves) if with_sense else None)


def _columns(machine: LinearSVC) -> tuple[tuple[str, ...], Floats, Floats]:
    names = tuple(str(one) for one in machine.classes_)
    weights, bias = machine.coef_.T.astype(np.float32), machine.intercept_.astype(np.float32)
    if len(names) == 2:  # one column for two labels: the other is its mirror
        weights, bias = np.hstack([-weights, weights]), np.hstack([-bias, bias])
    return names, np.ascontiguousarray(weights), bias


def _calibrate(scores: Floats, truth: np.ndarray) -> tuple[float, float | None]:
    """The scale, and the score of "none of these", under which the held-out labels are most likely.

    Without texts of none (`truth` -1) only the scale is learnt, and `nothing` is None.
    """
    known, outside = scores[truth >= 0], scores[truth < 0]
    if not len(known):
        return 4.0, None
    own = truth[truth >= 0]
    scale = min(SCALES, key=lambda one: _loss(known, own, float(one), None))
    if not len(outside):
        return float(scale), None
    everything, all_own = np.vstack([known, outside]), np.append(own, np.full(len(outside), -1))
    return min(
        ((float(one), float(nothing)) for one in SCALES[::3] for nothing in NOTHINGS[::2]),
        key=lambda pair: _loss(everything, all_own, *pair),
    )


def _loss(scores: Floats, truth: np.ndarray, scale: float, nothing: float | None) -> float:
    """Mean negative log likelihood; those of none (`truth` -1) weigh as much, together, as the others."""
    chances = confidences(scores, scale, nothing)
    inside = truth >= 0
    right = chances[np.arange(len(truth)), truth]
    right[~inside] = 1 - chances[~inside].sum(axis=1)
    losses = -np.log(np.maximum(right, 1e-12))
    return float(losses[inside].mean()) + (float(losses[~inside].mean()) if nothing is not None else 0.0)


def _threshold(chances: Floats, truth: np.ndarray, precision: float) -> tuple[float, dict[str, float]]:
    """The lowest confidence from which on answers are right at least `precision` of the time; and what that gives.

    Where all of them together are, the lowest that happened to be seen is no bound: there a calibrated confidence of
    `precision` is enough.
    """
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == truth
    order = np.argsort(-confidence, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    good = np.nonzero(share >= precision)[0]
    if len(good) == 0:
        return 1.01, {"accuracy": float(right.mean()), "answered": 0.0, "precision": 0.0}
    last = int(good[-1])
    figures = {"accuracy": float(right.mean()), "answered": (last + 1) / len(order), "precision": float(share[last])}
    lowest = float(confidence[order[last]])
    return (min(lowest, precision) if last == len(order) - 1 else lowest), figures
