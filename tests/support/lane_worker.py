"""A worker process for tests of the ledger: one service, whose handler writes a row of `public.effect` for each item.

    python -m tests.support.lane_worker DATABASE_URL [REDIS_URL]

`EFFECT_POISON`: ids that kill the process when they are handled. `EFFECT_HOLD`: a file; whoever finds it absent makes it and
stands still inside its transaction, so that a test knows where the process is when it is stopped or killed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from shared.ledger.process import Deps, Parts, WorkerProcess
from shared.ledger.unit import Result, Unit, Work
from shared.runtime.broker import Bells
from shared.runtime.database import connect_engine
from shared.runtime.ids import ItemIds
from shared.runtime.settings import Settings

TABLE = "create table public.effect (id bigint not null, version integer not null)"
_INSERT = "insert into public.effect select unnest(%(ids)s::bigint[]), unnest(%(versions)s::integer[])"


class Effects:
    """Writes what it handles, dies of what is poison."""

    service = "router"
    kind = "ticket"

    def __init__(self) -> None:
        self._poison = {int(one) for one in os.environ.get("EFFECT_POISON", "").split(",") if one}

    def handle(self, unit: Unit, batch: Sequence[Work]) -> list[Result]:
        ids, versions = [one.id for one in batch], [one.version for one in batch]
        unit.connection.exec_driver_sql(_INSERT, {"ids": ids, "versions": versions})
        if self._poison & set(ids):
            os.kill(os.getpid(), signal.SIGKILL)
        flag = os.environ.get("EFFECT_HOLD")
        if flag and not Path(flag).exists():
            Path(flag).touch()
            threading.Event().wait(60)  # only a signal ends this
        return [Result(one) for one in batch]


def main() -> None:
    url, redis_url = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    settings = Settings.from_environment(
        {"SIGNALBOX_DATABASE_URL": url, **({"SIGNALBOX_REDIS_URL": redis_url} if redis_url else {})}
    )
    engine = connect_engine(url, name="effects", pool_size=12)
    deps = Deps(settings, engine, Bells(redis_url), ItemIds(), playbook_number=lambda _: 1)
    process = WorkerProcess(deps, [Parts("router", (Effects(),), cap=50)])
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    process.start()
    print("ready", flush=True)
    stop.wait()
    process.stop()


if __name__ == "__main__":
    main()
