"""A mass of armed clocks, some due each second: how late they fire, what they cost while nothing is due, what a crash does to them.

    python -m bench.timers [--armed 100000] [--rate 200] [--seconds 20] [--idle]

Full size: --armed 1000000 --rate 1000 --seconds 60. With --idle only what they cost while nothing is due, which hardly depends
on how many are armed. A clock that is due warns: the event, what it wakes and the next instant are written, and lateness ends
with that commit (the server's own record of it). Twice: on a healthy system, and with `kill -9` of a worker while clocks are
due. In between a clock is armed for two seconds ahead, behind all others.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from bench.tools import desk, stock
from bench.tools.house import House, Worker, house
from bench.tools.meter import Verdicts, cpu_seconds, load, percentile, resident_bytes
from shared.ledger.process import Deps
from shared.runtime.clock import monotonic, pause

SERVICES = ("router", "sla", "escalation", "notifier")
IDLE_SECONDS, IDLE_TIMES = 10.0, 6
"""What is read once at a start (every invariant, over all that is armed) is over after the first of them; the median counts."""
IDLE = "idle CPU, workers and PostgreSQL"
LEAD_SECONDS = 25.0
FEW = 10_000


def main() -> int:
    """Measure and say whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--armed", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=200, help="clocks due each second")
    parser.add_argument("--seconds", type=int, default=20, help="how long clocks are due")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--idle", action="store_true", help="only the idle part")
    args = parser.parse_args()
    verdicts = Verdicts()
    with house(track_commit_timestamp="on") as made:
        if args.idle:
            _only_idle(made, args, verdicts)
            return 1 if verdicts.failed else 0
        few = _memory(made, args.workers)
        _healthy(made, args, few, verdicts)
        _crashed(made, args, verdicts)
    return 1 if verdicts.failed else 0


def _memory(made: House, workers: int) -> float:
    """What the workers hold with few clocks armed."""
    deps, source = _begin(made, "few")
    stock.far(deps, source, FEW)
    hands = _start(made, workers)
    pause(3.0)
    found = _resident(hands)
    made.stop_workers()
    deps.engine.dispose()
    return found


def _only_idle(made: House, args: argparse.Namespace, verdicts: Verdicts) -> None:
    deps, _, hands = _armed(made, "idle", args)
    verdicts.most(IDLE, _idle(made, hands), 1, "% of a core")
    deps.engine.dispose()


def _healthy(made: House, args: argparse.Namespace, few: float, verdicts: Verdicts) -> None:
    deps, source, hands = _armed(made, "healthy", args)
    many = _resident(hands)
    verdicts.most(
        f"memory of the workers, {args.armed:,} armed against {FEW:,}", (many - few) / few * 100, 10, "% more"
    )
    verdicts.most(IDLE, _idle(made, hands), 1, "% of a core")
    last, ids = _position(deps), _due(deps, source, args)
    ahead = _two_seconds_ahead(deps, source)
    pause(LEAD_SECONDS + args.seconds)
    fired = _wait(deps, last, len(ids) + 1, 30)
    late = _lateness(deps, last)
    print(f"     {fired:,} fired, earliest {min(late):.2f} ms, max {max(late):.0f} ms  [{load()}]", flush=True)
    verdicts.least("fired", fired, len(ids) + 1)
    verdicts.least("earliest after its instant", min(late), 0, "ms")
    verdicts.most("lateness p50", percentile(late, 0.5), 100, "ms")
    verdicts.most("lateness p99", percentile(late, 0.99), 100, "ms")
    verdicts.most("a clock two seconds ahead, behind all others", _lateness(deps, last, ahead)[0], 100, "ms")
    made.stop_workers()
    deps.engine.dispose()


def _crashed(made: House, args: argparse.Namespace, verdicts: Verdicts) -> None:
    deps, source = _begin(made, "crashed")
    stock.far(deps, source, args.armed)
    made.tidy()
    hands = _start(made, args.workers)
    last, ids = _position(deps), _due(deps, source, args)
    pause(LEAD_SECONDS)
    for turn in range(3):
        pause(args.seconds / 4)
        victim = turn % len(hands)
        os.kill(hands[victim].pid, signal.SIGKILL)
        hands[victim].process.wait()
        hands[victim] = made.worker(SERVICES)
        hands[victim].tell("go")
    fired = _wait(deps, last, len(ids), args.seconds + 60)
    late = _lateness(deps, last)
    with deps.engine.connect() as connection:
        doubled = connection.exec_driver_sql(
            """select count(*) from (select from ledger.event where type = 'sla.warned' and position > %s
            group by id, data ->> 'metric', data ->> 'threshold' having count(*) > 1) twice""",
            (last,),
        ).scalar_one()
    print(f"     {fired:,} fired under three kill -9  [{load()}]", flush=True)
    verdicts.most("lost under kill -9", len(ids) - fired, 0)
    verdicts.most("doubled under kill -9", doubled, 0)
    verdicts.least("earliest under kill -9", min(late), 0, "ms")
    verdicts.most("latest under kill -9", max(late) / 1000, 20, "s")
    made.stop_workers()
    deps.engine.dispose()


# ---- the stock ---------------------------------------------------------------------------------------------------------


def _begin(made: House, name: str) -> tuple[Deps, int]:
    made.fresh(name)
    deps = made.deps()
    desk.apply(deps)
    source = stock.original(deps)
    with deps.engine.begin() as connection:
        connection.exec_driver_sql("update ledger.agenda set due_at = null where kind = 'agent'")
    return deps, source


def _armed(made: House, name: str, args: argparse.Namespace) -> tuple[Deps, int, list[Worker]]:
    """A house in which so many clocks are armed far ahead, with its workers, which have come to rest."""
    deps, source = _begin(made, name)
    stock.far(deps, source, args.armed)
    made.tidy()
    _alone(made)
    hands = _start(made, args.workers)
    pause(3.0)
    return deps, source, hands


def _start(made: House, count: int) -> list[Worker]:
    hands = [made.worker(SERVICES) for _ in range(count)]
    for one in hands:
        one.tell("go")
    return hands


def _due(deps: Deps, source: int, args: argparse.Namespace) -> list[int]:
    """Tickets whose clocks warn evenly from a little ahead on, in no order."""
    count = args.rate * args.seconds
    begin = stock.now(deps) + timedelta(seconds=LEAD_SECONDS)
    at = [begin + timedelta(seconds=(index * 7919 % count) / args.rate) for index in range(count)]
    return stock.copies(deps, source, at)


def _two_seconds_ahead(deps: Deps, source: int) -> int:
    return stock.copies(deps, source, [stock.now(deps) + timedelta(seconds=2)])[0]


# ---- reading -----------------------------------------------------------------------------------------------------------


def _position(deps: Deps) -> int:
    with deps.engine.connect() as connection:
        return int(connection.exec_driver_sql("select last_value from ledger.position_seq").scalar_one())


def _count(deps: Deps, last: int) -> int:
    with deps.engine.connect() as connection:
        return int(
            connection.exec_driver_sql(
                "select count(*) from ledger.event where position > %s and type = 'sla.warned'", (last,)
            ).scalar_one()
        )


def _wait(deps: Deps, last: int, count: int, seconds: float) -> int:
    """Until all have fired, not looked at before they should have: counting reads what was just made, and is work too."""
    deadline = monotonic() + seconds
    while (fired := _count(deps, last)) < count and monotonic() < deadline:
        pause(2.0)
    return fired


def _lateness(deps: Deps, last: int, ticket: int | None = None) -> list[float]:
    """Milliseconds from each instant to the commit of its event."""
    with deps.engine.connect() as connection:
        rows: Sequence[Any] = connection.exec_driver_sql(
            """select happened_at, pg_xact_commit_timestamp(txid::xid) as committed from ledger.event
            where position > %s and type = 'sla.warned' and (%s::bigint is null or id = %s)""",
            (last, ticket, ticket),
        ).all()
    return [_milliseconds(row.committed, row.happened_at) for row in rows]


def _milliseconds(later: datetime, earlier: datetime) -> float:
    return (later - earlier).total_seconds() * 1000


def _resident(hands: Sequence[Worker]) -> float:
    return float(sum(resident_bytes(one.pid) for one in hands))


def _alone(made: House) -> None:
    """Show what PostgreSQL does while nobody asks it anything: what idle workers cannot go below."""
    before, started = made.postgres_cpu(), monotonic()
    pause(2 * IDLE_SECONDS)
    share = (made.postgres_cpu() - before) / (monotonic() - started) * 100
    print(f"     PostgreSQL alone, no worker: {share:.2f} % of a core  [{load()}]", flush=True)


def _idle(made: House, hands: Sequence[Worker]) -> float:
    """The median of some stretches, in per cent of a core; all are shown."""
    pids, found, server = [one.pid for one in hands], [], []
    for _ in range(IDLE_TIMES):
        workers, postgres, started = cpu_seconds(pids), made.postgres_cpu(), monotonic()
        pause(IDLE_SECONDS)
        seconds = monotonic() - started
        server.append((made.postgres_cpu() - postgres) / seconds * 100)
        found.append((cpu_seconds(pids) - workers) / seconds * 100 + server[-1])
    both = ", ".join(f"{one:.1f} ({part:.1f})" for one, part in zip(found, server, strict=True))
    print(f"     idle, each {IDLE_SECONDS:.0f} s (of it PostgreSQL): {both} % of a core  [{load()}]", flush=True)
    return median(found)


if __name__ == "__main__":
    sys.exit(main())
