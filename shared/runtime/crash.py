"""Named crash points: places where a test kills the process with SIGKILL, to prove that nothing is lost or doubled there.

Off (and free: one comparison) unless `SIGNALBOX_TEST_MODE=1` and `SIGNALBOX_CRASH=name:nth` say otherwise.
"""

from __future__ import annotations

import os
import signal

POINTS = (
    "lane.claimed",
    "lane.saved",
    "lane.committed",
    "intake.before_commit",
    "intake.committed",
    "command.committed",
    "delivery.claimed",
    "delivery.called",
    "delivery.recorded",
)
"""Every name that `crash_point` is called with; a test visits them all."""


def _armed() -> tuple[str, int]:
    spec = os.environ.get("SIGNALBOX_CRASH", "") if os.environ.get("SIGNALBOX_TEST_MODE") == "1" else ""
    name, _, nth = spec.partition(":")
    if name and name not in POINTS:
        raise ValueError(f"SIGNALBOX_CRASH: no crash point {name!r} (known: {', '.join(POINTS)})")
    return name, int(nth or 1)


_name, _nth = _armed()


def crash_point(name: str) -> None:
    """Die here by SIGKILL when this point was chosen, at its nth visit."""
    global _nth
    if name != _name:
        return
    _nth -= 1
    if _nth == 0:
        os.kill(os.getpid(), signal.SIGKILL)
