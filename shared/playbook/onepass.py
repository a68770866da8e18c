"""All words or all patterns of many rules, sought in one pass over a text; and which patterns would spoil it.

RE2 runs a set as an automaton that it builds while it reads: 20,000 words cost 3 µs a KiB, as one does. A counted repetition that
may begin at many places at once (`[ab]*a[ab]{200}c`) makes it build a state for each character, a thousand times as dear; whether
a pattern does so only trying tells.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from math import prod
from time import thread_time

import re2

PATTERN_US = 4.0
"""Of one pattern, for a KiB."""
DEAR_US = 100.0
_SET_BYTES = 32 << 20
_PROBE = 256
_PROBES = 8
_HARMLESS = 10
"""So many repetitions make at most about a thousand states, which an automaton soon has."""
_COUNTS = re.compile(r"\{(\d*),?(\d*)\}")

OnePass = Callable[[str], list[int]]
"""The places of those that a text has. Without the place after the last one it is no answer: RE2 ran out of its memory."""


def one_pass(needles: Sequence[str], *, literal: bool) -> OnePass:
    """Compile one RE2 set; its last member fits every text.

    RE2 answers "nothing found" when its automaton outgrows its memory. The last member tells that apart.
    """
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _SET_BYTES
    found = re2.Set.SearchSet(options)
    for needle in needles:
        found.Add(re2.escape(needle) if literal else needle)
    found.Add("")
    try:
        found.Compile()
    except re2.error:  # larger than its memory
        return lambda text: []
    match: OnePass = found.Match
    return match


@lru_cache(maxsize=32_768)
def pattern_price(pattern: str) -> float:
    """Microseconds of CPU to seek a pattern in a KiB of the worst text that a few tries find; `PATTERN_US` below `DEAR_US`.

    Only patterns that repeat something often are tried. What a first text costs is not asked: that one builds the automaton.
    """
    if prod(max(map(int, filter(None, found.groups())), default=1) for found in _COUNTS.finditer(pattern)) <= _HARMLESS:
        return PATTERN_US
    match, price = one_pass([pattern], literal=False), 0.0
    for few in _letters(pattern):
        chance = random.Random(pattern)
        spent = [_seconds(match, "".join(chance.choices(few, k=_PROBE))) for _ in range(3)]
        price = max(price, min(spent[1:]) * 1e6 * 1_024 / _PROBE)
        if price >= DEAR_US:
            return price
    return PATTERN_US


def is_dear(pattern: str) -> bool:
    """Would it make a pass slow for all that are sought in it?"""
    return pattern_price(pattern) >= DEAR_US


def _seconds(match: OnePass, text: str) -> float:
    began = thread_time()
    match(text)
    return thread_time() - began


def _letters(pattern: str) -> Iterable[list[str]]:
    """Two that stand beside each other in the pattern, each time, then all of them."""
    known = [one for one in _COUNTS.sub("", pattern) if one.isalnum()] or ["a"]
    pairs = dict.fromkeys(frozenset(pair) for pair in pairwise(known))
    return [sorted(few) for few in (*list(pairs)[:_PROBES], frozenset(known))]
