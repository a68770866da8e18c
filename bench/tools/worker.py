"""A worker process of a benchmark: the real services of `run`, the notifier with a sender that calls nobody.

    python -m bench.tools.worker DATABASE_URL REDIS_URL SERVICE… [--profile FILE] [--lanes urgent,normal,bulk]

Says `ready` when it could start, begins at the line `go`, answers `cpu` with its CPU seconds, drains and ends at end of input.
"""

from __future__ import annotations

import argparse
import cProfile
import sys
import threading
import time
from dataclasses import replace

import structlog

from services.control import platform
from services.notifier.bootstrap import build_silent
from shared.ledger.kinds import LANES
from shared.ledger.process import Parts, WorkerProcess
from shared.runtime import clock
from shared.runtime.settings import Settings


def main() -> None:
    """Run until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("redis")
    parser.add_argument("services", nargs="+")
    parser.add_argument("--profile")
    parser.add_argument("--lanes", default=",".join(LANES))
    args = parser.parse_args()
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr), processors=[structlog.processors.JSONRenderer()]
    )
    sys.setswitchinterval(0.001)
    if args.profile:
        _profile_threads(args.profile)
    settings = replace(Settings.from_environment({}), database_url=args.database, redis_url=args.redis)
    engine = platform.engine(settings, "+".join(args.services), pool_size=4 + 4 * len(args.services))
    deps = platform.deps(settings, engine)
    process = WorkerProcess(deps, [_parts(name, deps) for name in args.services], lanes=args.lanes.split(","))
    print("ready", flush=True)
    started = False
    for line in sys.stdin:
        if line.strip() == "go":
            process.start()
            started = True
            print("started", flush=True)
        else:
            print(clock.cpu_seconds(), flush=True)
    if started:
        process.stop()
    if args.profile:
        _write_profiles(args.profile)


def _parts(name: str, deps: object) -> Parts:
    return build_silent(deps) if name == "notifier" else platform.parts(name, deps)  # type: ignore[arg-type]


_profiles: list[cProfile.Profile] = []


def _profile_threads(_: str) -> None:
    """Profile every thread that starts from now on, by its CPU time: waiting costs nothing."""
    run = threading.Thread.run

    def profiled(self: threading.Thread) -> None:
        profile = cProfile.Profile(time.thread_time)
        _profiles.append(profile)
        profile.enable()
        try:
            run(self)
        finally:
            profile.disable()

    threading.Thread.run = profiled  # type: ignore[method-assign]


def _write_profiles(path: str) -> None:
    import pstats

    kept = [one for one in _profiles if one.getstats()]
    stats = pstats.Stats(kept[0])
    for one in kept[1:]:
        stats.add(one)
    stats.dump_stats(path)


if __name__ == "__main__":
    main()
