"""A trained model: its vocabulary and weights, and what it says of a text."""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FORMAT = 1
_WORD = re.compile(r"(?u)\b\w+\b")
_SPACE = re.compile(r"\s+")
MAX_CHARACTERS = 20_000
"""Of a text; what is beyond says little more about its label and would cost time without bound."""

Floats = npt.NDArray[np.float32]


class BadModel(ValueError):
    """The file is no model of this format."""


def terms(text: str) -> Iterator[str]:
    """Word 1-2-grams (`w:`) and character 2-5-grams within words padded by spaces (`c:`), lower-cased."""
    lowered = _SPACE.sub(" ", text[:MAX_CHARACTERS].lower())
    words = _WORD.findall(lowered)
    yield from (f"w:{word}" for word in words)
    yield from (f"w:{one} {two}" for one, two in pairwise(words))
    for token in lowered.split():
        padded = f" {token} "
        for size in range(2, 6):
            for start in range(max(1, len(padded) - size + 1)):
                yield "c:" + padded[start : start + size]


@dataclass(frozen=True, slots=True)
class Answer:
    """`label` None: it abstains. `guesses`: the three best with their confidences, best first."""

    label: str | None
    best: str
    confidence: float
    guesses: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Model:
    """`weights` is terms × labels; `scale` turns scores into calibrated confidences; below `threshold` it abstains."""

    labels: tuple[str, ...]
    vocabulary: Mapping[str, int]
    idf: Floats
    weights: Floats
    bias: Floats
    scale: float
    threshold: float
    figures: Mapping[str, Any]

    def predict(self, text: str) -> Answer:
        """What the model says of a text."""
        counts: dict[int, int] = {}
        for term in terms(text):
            place = self.vocabulary.get(term)
            if place is not None:
                counts[place] = counts.get(place, 0) + 1
        scores = self.bias.copy()
        if counts:
            places = np.fromiter(counts, dtype=np.int64, count=len(counts))
            often = np.fromiter(counts.values(), dtype=np.float32, count=len(counts))
            values: Floats = ((np.log(often) + 1) * self.idf[places]).astype(np.float32)
            values /= math.sqrt(float(values @ values)) or 1.0
            scores = scores + values @ self.weights[places]
        return self.answer(scores)

    def answer(self, scores: Floats) -> Answer:
        """Scores of all labels as an answer."""
        scaled = scores * self.scale
        chances = np.exp(scaled - scaled.max())
        chances /= chances.sum()
        order = np.argsort(-chances, kind="stable")[:3]
        guesses = tuple((self.labels[place], round(float(chances[place]), 6)) for place in order)
        best, confidence = guesses[0]
        return Answer(best if confidence >= self.threshold else None, best, confidence, guesses)

    def dumps(self) -> bytes:
        """The model as bytes; the same model gives the same bytes."""
        head = {
            "format": FORMAT,
            "labels": self.labels,
            "terms": sorted(self.vocabulary, key=self.vocabulary.__getitem__),
            "scale": self.scale,
            "threshold": self.threshold,
            "figures": dict(self.figures),
        }
        buffer = io.BytesIO()
        text = np.frombuffer(json.dumps(head, ensure_ascii=False, sort_keys=True).encode(), dtype=np.uint8)
        np.savez_compressed(buffer, head=text, idf=self.idf, weights=self.weights.astype(np.float16), bias=self.bias)
        return buffer.getvalue()


def loads(data: bytes) -> Model:
    """Read a model. Raises `BadModel`; never runs anything of the file."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            head = json.loads(archive["head"].tobytes().decode())
            idf, weights, bias = archive["idf"], archive["weights"].astype(np.float32), archive["bias"]
        if head["format"] != FORMAT:
            raise BadModel(f"format {head['format']}, this version reads {FORMAT}")
        vocabulary = {term: place for place, term in enumerate(head["terms"])}
        if weights.shape != (len(vocabulary), len(head["labels"])) or idf.shape != (len(vocabulary),):
            raise BadModel("vocabulary and weights have different sizes")
        return Model(
            tuple(head["labels"]), vocabulary, idf.astype(np.float32), weights, bias.astype(np.float32),
            float(head["scale"]), float(head["threshold"]), head["figures"],
        )  # fmt: skip
    except BadModel:
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise BadModel(f"not a model file: {error}") from error


def load(path: Path) -> Model:
    """Read a model file. Raises `BadModel`, or `OSError`."""
    return loads(path.read_bytes())
