"""Waiting for something to become so, instead of for time to pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], *, seconds: float = 10.0, what: str = "", every_seconds: float = 0.02) -> T:
    """The first true value of `condition`; fails with `what` and its last value when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {seconds:g} s: {what or condition} (last: {value!r})")
        time.sleep(every_seconds)
    return value
