"""Whom a worker died of, and sessions whose process stands still: looked for all the time, in every process.

One statement looks; only where there is something to do a transaction follows.
"""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy import Connection, Engine

from shared.ledger import sql
from shared.ledger.lane import ADVISORY_SPACE, CRASH_LIMIT, STUCK_SECONDS, SUSPECT_PAUSE_SECONDS

log = structlog.get_logger()


def audit(engine: Engine, connection: Connection, own_worker: int) -> int:
    """Blame what dead workers had in hand, and end sessions that stand still. Returns how many items were blamed.

    `connection` (of `looking`) is for the look; what is to be done has a transaction of its own.
    """
    found = connection.exec_driver_sql(sql.TROUBLE, wanted(own_worker)).one()
    return mend(engine, own_worker, stuck=found.stuck, dead=found.dead)


def wanted(own_worker: int) -> dict[str, Any]:
    """The parameters of `sql.TROUBLE`."""
    return {"worker": own_worker, "space": ADVISORY_SPACE, "seconds": STUCK_SECONDS}


def mend(engine: Engine, own_worker: int, *, stuck: bool, dead: bool) -> int:
    """Do what a look found necessary. Returns how many items were blamed."""
    if stuck:
        release_stuck(engine)
    return audit_journal(engine, own_worker) if dead else 0


def audit_journal(engine: Engine, own_worker: int) -> int:
    """Find what dead workers had in hand and is still due; those items are suspects now. Returns how many were blamed."""
    blamed = 0
    with engine.begin() as connection:
        dead = connection.exec_driver_sql(sql.DEAD_JOURNALS, {"worker": own_worker, "space": ADVISORY_SPACE}).all()
        for row in dead:
            rows = connection.exec_driver_sql(
                sql.BLAME,
                {
                    "service": row.service,
                    "kind": row.kind,
                    "ids": row.ids,
                    "alone": len(row.ids) == 1,
                    "limit": CRASH_LIMIT,
                    "pause": SUSPECT_PAUSE_SECONDS,
                },
            ).all()
            blamed += len(rows)
            if rows:
                log.warning("worker_died", worker=row.worker, service=row.service, items=[one.id for one in rows][:10])
    return blamed


def release_stuck(engine: Engine, seconds: float = STUCK_SECONDS) -> int:
    """End sessions whose client stopped in the middle of a transaction; what they held is free again. Returns how many."""
    with engine.begin() as connection:
        ended = connection.exec_driver_sql(sql.RELEASE, {"seconds": seconds}).all()
    for row in ended:
        log.warning("session_ended", of=row.application_name, why=f"stood still for {seconds:.0f} s in a transaction")
    return len(ended)
