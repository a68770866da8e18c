"""Twice and ten times what can be taken: goodput against the best, urgent tickets against the rest. All services run beside.

    python -m bench.overload [--seconds N]

The best is what 64 connections get through as fast as they are answered. Offered is an open loop: requests leave when they are due.
"""

from __future__ import annotations

import argparse
import sys
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil

from tests.faults.scenario import DUE, running
from tests.faults.test_overload import mixed
from tests.faults.world import KEY, World, world
from tests.support.open_load import Outcome, offer
from tests.support.wait import until


def main() -> int:
    """Print a line each; 0 when goodput at twice the capacity is at least 90 % of the best and urgent tickets come first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0)
    seconds = parser.parse_args().seconds
    with world() as made, running(made) as keeper:
        [gateway] = [psutil.Process(one.pid) for one in keeper.kept if one.service == "gateway"]

        def measured(name: str, rate: float | None, connections: int) -> Outcome:
            before, run = sum(gateway.cpu_times()[:2]), uuid.uuid4().hex
            outcome = offer(
                keeper.urls[0], KEY, mixed(run), rate=rate, seconds=seconds, connections=connections, patience=3
            )
            _show(name, outcome, sum(gateway.cpu_times()[:2]) - before)
            _settle(made)
            return outcome

        measured("warm", None, 16)
        best = max((measured(f"best of {n}", None, n) for n in (32, 64, 128)), key=lambda one: one.goodput())
        twice = measured("twice", 2 * best.goodput(), 800)
        tenfold = measured("tenfold", 10 * best.goodput(), 1_600)
    ratio = twice.goodput() / best.goodput()
    print(f"{'HELD ' if ratio >= 0.9 else 'MISSED '}goodput at twice the capacity {ratio:.0%} of the best (90 %)")
    first = _share(tenfold, "urgent") > _share(tenfold, "normal")
    print(
        f"{'HELD ' if first else 'MISSED '}at ten times: accepted {_share(tenfold, 'urgent'):.0%} of the urgent,"
        f" {_share(tenfold, 'normal'):.0%} of the rest"
    )
    return 0 if ratio >= 0.9 and first else 1


def _settle(made: World) -> None:
    until(lambda: made.scalar(DUE) == 0, seconds=120, what="the backlog is gone")


def _share(outcome: Outcome, name: str) -> float:
    kind = outcome.kinds[name]
    return len(kind.accepted) / max(1, sum(kind.statuses.values()))


def _show(name: str, outcome: Outcome, cpu: float) -> None:
    for kind, found in sorted(outcome.kinds.items()):
        print(
            f"{name:12} {kind:7} {dict(sorted(found.statuses.items()))} accepted p50 {found.quantile(0.5) * 1000:.0f} ms,"
            f" p99 {found.quantile(0.99) * 1000:.0f} ms"
        )
    print(f"{name:12} goodput {outcome.goodput():.0f}/s, gateway {cpu:.2f} CPU s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
