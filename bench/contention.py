"""A thousand hot tickets: two workers of every service and people on the same ones all the while.

    python -m bench.contention [--tickets 1000] [--seconds 15] [--people 2] [--alone]

A person locks a ticket, decides and appends, as an action over HTTP does behind the door; counted from the call to the commit.
`--alone` gives each service two processes of its own instead of two processes with all services.
"""

from __future__ import annotations

import argparse
import random
import sys
from concurrent.futures import ThreadPoolExecutor

from bench.tools import desk
from bench.tools.house import house
from bench.tools.meter import Verdicts, load, percentile
from services.gateway.actions import act
from shared.contracts.envelope import Actor
from shared.ledger.process import Deps
from shared.runtime.clock import monotonic, pause
from shared.ticket import commands as c

SERVICES = ("router", "sla", "escalation", "notifier")
COMMANDS = (
    c.Note(text="seen"),
    c.Reply(text="on it"),
    c.Set(fields={"amount": 1}),
    c.Set(priority="high"),
    c.Set(priority="low"),
)


def main() -> int:
    """Measure and say whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickets", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--alone", action="store_true")
    args = parser.parse_args()
    layout = [(one,) for one in SERVICES for _ in range(2)] if args.alone else [SERVICES, SERVICES]
    verdicts = Verdicts()
    with house() as made:
        made.fresh("hot")
        deps = made.deps("people")
        desk.apply(deps)
        hands = [made.worker(services) for services in layout]
        for one in hands:
            one.tell("go")
        ids = desk.fill(deps, args.tickets)
        pause(1.0)
        until = monotonic() + args.seconds
        with ThreadPoolExecutor(args.people) as people:
            found = [people.submit(_person, deps, ids, random.Random(n), until) for n in range(args.people)]
            took = [one for each in found for one in each.result()]
        with deps.engine.connect() as connection:
            deadlocks = connection.exec_driver_sql(
                "select deadlocks from pg_stat_database where datname = current_database()"
            ).scalar_one()
            failed = connection.exec_driver_sql("select count(*) from ledger.agenda where failures > 0").scalar_one()
        print(
            f"     {len(took):,} actions, p50 {percentile(took, 0.5):.1f}, p99 {percentile(took, 0.99):.1f},"
            f" max {max(took):.0f} ms  [{load()}]",
            flush=True,
        )
        verdicts.most("deadlocks", deadlocks, 0)
        verdicts.most("items that failed", failed, 0)
        verdicts.most("people's actions, p99", percentile(took, 0.99), 100, "ms")
        made.stop_workers()
        deps.engine.dispose()
    return 1 if verdicts.failed else 0


def _person(deps: Deps, ids: list[int], chance: random.Random, until: float) -> list[float]:
    """Milliseconds of each action."""
    took, who = [], Actor(kind="person", id="lead0")
    while monotonic() < until:
        begun = monotonic()
        with deps.engine.connect() as connection:
            act(deps, connection, chance.choice(ids), chance.choice(COMMANDS), who, "hot")
        took.append((monotonic() - begun) * 1000)
    return took


if __name__ == "__main__":
    sys.exit(main())
