"""The full fault run: tickets by both doors while everything dies. Prints figures and a verdict line each.

    python -m bench faults                 2,000 tickets, about two minutes
    python -m bench.faults --full          20,000, and 5,000 without Redis

Sources of the judgement: the load's journal, HTTP, read-only SQL and the sinks' records (tests/faults/verdict.py).
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.faults.points import all_of_them
from tests.faults.scenario import FaultPlan, play, running
from tests.faults.verdict import Verdict, assign_seconds, judge_run
from tests.faults.world import world


def main() -> int:
    """Run both; 0 only when everything held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the size of the promise")
    parser.add_argument("--seed", type=int, default=1)
    full, seed = (args := parser.parse_args()).full, args.seed
    everything = FaultPlan(
        http=10_000 if full else 1_200,
        stream=10_000 if full else 800,
        seconds=240 if full else 50,
        kill_every_seconds=1.0,
        flush_every_seconds=20,
        restarts=2,
        crash_points=True,
        seed=seed,
        give_up_seconds=900 if full else 300,
    )
    held = _everything(everything)
    held &= _without_redis(5_000 if full else 600, 120 if full else 20, seed)
    return 0 if held else 1


def _everything(plan: FaultPlan) -> bool:
    with world() as made, running(made, crash_points=True, seed=plan.seed) as keeper:
        run = play(made, keeper, plan)
        verdict = judge_run(made, run, keeper.urls[0])
        missed = [one for one in all_of_them() if not keeper.hits[" ".join(one)]]
        killed, died = sum(keeper.killed.values()), sum(keeper.hits.values())
    print(
        f"faults: {plan.http} tickets by HTTP and {plan.stream} by stream in {run.http.seconds:.0f} s;"
        f" {killed} processes killed, {died} died at crash points, Redis flushed {run.faults.count('flush')} times,"
        f" PostgreSQL restarted {plan.restarts} times"
    )
    held = _say("0 lost, 0 doubled, 0 phantom, 0 quarantined, all invariants hold", verdict.holds, verdict)
    held &= _say("every crash point was passed by a death", not missed, missed)
    after = run.settled_after
    return held & _say(
        f"backlog gone {after or -1:.1f} s after the last fault (30)", after is not None and after < 30, ""
    )


def _without_redis(tickets: int, seconds: float, seed: int) -> bool:
    with world() as made, ExitStack() as stack:
        made.valkey.kill()
        keeper = stack.enter_context(running(made, seed=seed))
        run = play(made, keeper, FaultPlan(http=tickets, stream=0, seconds=seconds, seed=seed))
        verdict = judge_run(made, run, keeper.urls[0])
        took = assign_seconds(made, run)
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    held = _say(f"without Redis: {tickets} tickets, the same", verdict.holds, verdict)
    return held & _say(
        f"without Redis: POST to assigned p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms (5000)", p99 <= 5, ""
    )


def _say(what: str, held: bool, why: object) -> bool:
    print(f"{'HELD ' if held else 'BROKEN '}{what}")
    if isinstance(why, Verdict):
        print(f"      {why.facts}")
        why = why.wrong
    if not held:
        print(f"      {why}")
    sys.stdout.flush()
    return held


if __name__ == "__main__":
    sys.exit(main())
