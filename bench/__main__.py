"""`make bench`: every benchmark in turn, or those that are named, each measuring against a reference or a limit in the same run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = (
    "rules",
    "assignment",
    "classifier",
    "lookahead",
    "hostile",
    "fanout_drivers",
    "fanout",
    "notify_faults",
    "notify_promises",
    "oneclick",
    "board",
    "stalls",
    "recompute",
    "forecast",
    "topics",
    "overload",
    "faults",
    "reference_pipeline",
    "latency",
    "timers",
    "overdue",
    "contention",
    "replay",
)


def main() -> int:
    """Run all, or the named ones; 0 only when each succeeded."""
    failed = 0
    for name in sys.argv[1:] or BENCHMARKS:
        print(f"\n== {name}", flush=True)
        failed += subprocess.run([sys.executable, "-m", f"bench.{name}"], cwd=Path(__file__).parents[1]).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
