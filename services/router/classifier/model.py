"""A trained model: its vocabulary and weights, and what it says of a text."""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from services.router.classifier import sense

FORMAT = 4
"""1 had other terms and no score for "none of these": its weights mean nothing here, so it is refused, not converted. 2 had no
weights of what a text means, and is read as a model without them. 3 had one point for a text, never two."""
READ = (2, 3, FORMAT)
_TOKEN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]|[^\W\u3400-\u4dbf\u4e00-\u9fff]+|[?!\uff1f\uff01]")
_SPACE = re.compile(r"\s+")
MAX_CHARACTERS = 20_000
"""Of a text; what is beyond says little more about its label and would cost time without bound."""

Floats = npt.NDArray[np.float32]


class BadModel(ValueError):
    """The file is no model of this format."""


def words(text: str) -> Iterator[str]:
    """`w:` and 1-3-grams of tokens: a word, one Chinese character, or a question or exclamation mark; lower-cased."""
    tokens = _TOKEN.findall(_plain(text))
    for size in range(1, 4):
        yield from ("w:" + " ".join(tokens[start : start + size]) for start in range(len(tokens) - size + 1))


def characters(text: str) -> Iterator[str]:
    """`c:` and character 1-5-grams over the bounds of words, lower-cased."""
    plain = _plain(text)
    for size in range(1, 6):
        yield from ("c:" + plain[start : start + size] for start in range(len(plain) - size + 1))


def _plain(text: str) -> str:
    return _SPACE.sub(" ", text[:MAX_CHARACTERS].lower())


@dataclass(frozen=True, slots=True)
class Answer:
    """`label` None: it abstains. `guesses`: the three best with their confidences, best first."""

    label: str | None
    best: str
    confidence: float
    guesses: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Model:
    """`weights` is terms × labels; `scale` turns scores into calibrated confidences; below `threshold` it abstains.

    The first `word_terms` of the vocabulary are words, the others characters; each view is brought to length 1 by
    itself. `meanings` weighs what the text means (see `sense`), as one point or, with twice the rows, as those of its
    first line and of the rest; None: learnt without. `nothing` is the score of
    "none of these labels", which takes its share of the confidence; None: never learnt.
    """

    labels: tuple[str, ...]
    vocabulary: Mapping[str, int]
    word_terms: int
    idf: Floats
    weights: Floats
    bias: Floats
    meanings: Floats | None
    scale: float
    nothing: float | None
    threshold: float
    figures: Mapping[str, Any]

    def predict(self, text: str) -> Answer:
        """What the model says of a text."""
        scores = self.bias.copy()
        for view in (words, characters):
            counts: dict[int, int] = {}
            for term in view(text):
                place = self.vocabulary.get(term)
                if place is not None:
                    counts[place] = counts.get(place, 0) + 1
            if counts:
                places = np.fromiter(counts, dtype=np.int64, count=len(counts))
                often = np.fromiter(counts.values(), dtype=np.float32, count=len(counts))
                values: Floats = ((np.log(often) + 1) * self.idf[places]).astype(np.float32)
                values /= math.sqrt(float(values @ values)) or 1.0
                scores = scores + values @ self.weights[places]
        if self.meanings is not None:
            scores = scores + points([text], halves=len(self.meanings) != sense.NUMBERS)[0] @ self.meanings
        return self.answer(scores)

    def answer(self, scores: Floats) -> Answer:
        """Scores of all labels as an answer."""
        chances = confidences(scores[np.newaxis], self.scale, self.nothing)[0]
        order = np.argsort(-chances, kind="stable")[:3]
        guesses = tuple((self.labels[place], round(float(chances[place]), 6)) for place in order)
        best, confidence = guesses[0]
        return Answer(best if confidence >= self.threshold else None, best, confidence, guesses)

    def dumps(self) -> bytes:
        """The model as bytes; the same model gives the same bytes."""
        head = {
            "format": FORMAT,
            "sense": None if self.meanings is None else sense.NAME,
            "labels": self.labels,
            "terms": sorted(self.vocabulary, key=self.vocabulary.__getitem__),
            "word_terms": self.word_terms,
            "scale": self.scale,
            "nothing": self.nothing,
            "threshold": self.threshold,
            "figures": dict(self.figures),
        }
        buffer = io.BytesIO()
        text = np.frombuffer(json.dumps(head, ensure_ascii=False, sort_keys=True).encode(), dtype=np.uint8)
        parts: dict[str, Any] = {} if self.meanings is None else {"meanings": self.meanings.astype(np.float16)}
        np.savez_compressed(
            buffer, head=text, idf=self.idf, weights=self.weights.astype(np.float16), bias=self.bias, **parts
        )
        return buffer.getvalue()


def points(texts: Sequence[str], *, halves: bool) -> Floats:
    """Rows of what each text means: one point, or those of its halves side by side."""
    return sense.encode_halves(texts) if halves else sense.encode(texts)


def confidences(scores: Floats, scale: float, nothing: float | None) -> Floats:
    """Rows of scores as chances of the labels; what they lack to 1 is the chance of "none of these"."""
    scaled = scores * scale
    none = np.full((len(scores), 1), -np.inf if nothing is None else nothing * scale, dtype=np.float32)
    whole = np.hstack([scaled, none])
    powers = np.exp(whole - whole.max(axis=1, keepdims=True))
    found: Floats = (powers / powers.sum(axis=1, keepdims=True))[:, :-1].astype(np.float32)
    return found


def loads(data: bytes) -> Model:
    """Read a model. Raises `BadModel`; never runs anything of the file."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            head = json.loads(archive["head"].tobytes().decode())
            if head["format"] not in READ:
                raise BadModel(f"format {head['format']}, this version reads {READ[0]} to {FORMAT}: train it again")
            meanings = _meanings(archive, head.get("sense"))
            idf, weights, bias = archive["idf"], archive["weights"].astype(np.float32), archive["bias"]
        vocabulary = {term: place for place, term in enumerate(head["terms"])}
        if weights.shape != (len(vocabulary), len(head["labels"])) or idf.shape != (len(vocabulary),):
            raise BadModel("vocabulary and weights have different sizes")
        if meanings is not None and meanings.shape not in [(n * sense.NUMBERS, len(head["labels"])) for n in (1, 2)]:
            raise BadModel(f"weights of meanings have the shape {meanings.shape}")
        return Model(
            tuple(head["labels"]), vocabulary, int(head["word_terms"]), idf.astype(np.float32), weights, bias.astype(np.float32),
            meanings, float(head["scale"]), None if head["nothing"] is None else float(head["nothing"]),
            float(head["threshold"]), head["figures"],
        )  # fmt: skip
    except BadModel:
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise BadModel(f"not a model file: {error}") from error


def _meanings(archive: Mapping[str, Any], encoder: str | None) -> Floats | None:
    if encoder is None:
        return None
    if encoder != sense.NAME or not sense.installed():
        raise BadModel(
            f"it was learnt with the sentence encoder {encoder!r}, which is not installed (the extra `sense`)"
        )
    found: Floats = archive["meanings"].astype(np.float32)
    return found


def load(path: Path) -> Model:
    """Read a model file. Raises `BadModel`, or `OSError`."""
    return loads(path.read_bytes())
