"""CPU of processes and servers, percentiles, and the lines in which a benchmark says what it found."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system CPU of these processes, their living descendants, and the children they have waited for.

    A process that ends between two readings without being waited for by one of them is missed.
    """
    parents: dict[int, list[int]] = {}
    times: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = _stat(int(entry.name))
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
                times[int(entry.name)] = sum(map(int, fields[11:15])) / _TICK
    todo, total = list(pids), 0.0
    while todo:
        pid = todo.pop()
        total += times.get(pid, 0.0)
        todo += parents.get(pid, [])
    return total


def resident_bytes(pid: int) -> int:
    """Private and shared memory of a process, the shared part by its share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


@dataclass(slots=True)
class Verdicts:
    """Figures against their bounds; `failed` counts those outside."""

    failed: int = 0

    def most(self, what: str, value: float, bound: float, unit: str = "") -> None:
        """`value` may be at most `bound`."""
        self._say(what, value <= bound, f"{value:,.4g} {unit}".strip(), f"<= {bound:,g}")

    def least(self, what: str, value: float, bound: float, unit: str = "") -> None:
        """`value` must be at least `bound`."""
        self._say(what, value >= bound, f"{value:,.4g} {unit}".strip(), f">= {bound:,g}")

    def _say(self, what: str, good: bool, value: str, bound: str) -> None:
        self.failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {what}: {value} ({bound})", flush=True)


def load() -> str:
    """How busy the machine is, said beside every figure."""
    return f"load {os.getloadavg()[0]:.1f}"
