"""Named points at which a test may kill the process, as an unlucky `SIGKILL` would.

A point is a line `crash_point("lane.claimed")` at a place where dying is interesting: between two effects that have to stay
together. Off (always, except in test mode) it is one comparison. `SIGNALBOX_CRASH` arms one point and says at which passing:

    SIGNALBOX_TEST_MODE=1  SIGNALBOX_CRASH=lane.saved:3      killed at the third passing of `lane.saved` in this process

The whole process dies, by a signal that cannot be caught: no handler runs, no buffer is written, no transaction is ended.
`POINTS` names all points, so that a test can go through them; a name that is not in it arms nothing and is refused at the start.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

POINTS: Mapping[str, str] = {
    "intake.before_commit": "tickets are written, not committed; the caller has no answer",
    "intake.committed": "tickets are committed; the caller has no answer, no doorbell has rung",
    "command.committed": "a person's action or a provider's report is committed, the caller has no answer",
    "stream.read": "a batch is read from the intake stream, nothing is written",
    "stream.committed": "a batch of the stream is committed, not confirmed and not acknowledged",
    "stream.confirmed": "a batch of the stream is confirmed, not acknowledged",
    "lane.claimed": "items are claimed and locked, nothing is decided",
    "lane.saved": "a batch is decided and written, not committed",
    "lane.committed": "a batch is committed, no doorbell has rung",
    "topic.published": "topic events and their position are in Redis, nothing else has happened",
    "delivery.claimed": "deliveries are committed as `sending`, no call has begun",
    "delivery.called": "a provider has answered, the outcome is not written",
    "delivery.recorded": "outcomes are committed, nobody has been told",
}
"""Every point and what has happened when it is passed."""


class BadCrashPoint(ValueError):
    """`SIGNALBOX_CRASH` names no point, or no passing; the text lists the names."""


@dataclass(slots=True)
class Armed:
    """One point and how many passings it still lives through."""

    name: str
    left: int
    lock: threading.Lock = field(default_factory=threading.Lock)


def read_environment(environment: Mapping[str, str]) -> Armed | None:
    """What `SIGNALBOX_CRASH` arms; None when it is empty or test mode is off.

    Raises:
        BadCrashPoint: the variable is not `name` or `name:nth` of a known point with nth >= 1.
    """
    text = environment.get("SIGNALBOX_CRASH", "")
    if not text or environment.get("SIGNALBOX_TEST_MODE") != "1":
        return None
    name, _, nth = text.partition(":")
    if name not in POINTS or not (nth or "1").isdigit() or int(nth or 1) < 1:
        raise BadCrashPoint(f"SIGNALBOX_CRASH: {text!r} is not NAME:NTH with one of {', '.join(POINTS)}")
    return Armed(name, int(nth or 1))


_armed = read_environment(os.environ)


def crash_point(name: str) -> None:
    """Kill this process if `name` is armed and this is its turn; otherwise nothing."""
    if _armed is None:
        return
    if name not in POINTS:
        raise BadCrashPoint(f"{name!r} is not in POINTS")
    if name != _armed.name:
        return
    with _armed.lock:
        _armed.left -= 1
        if _armed.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
            threading.Event().wait()  # the signal is on its way; no further line may run
