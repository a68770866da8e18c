"""House-keeping of the notifier: links that ended long ago, windows and storms that are over."""

from __future__ import annotations

from datetime import timedelta

import structlog
from sqlalchemy import Engine

from services.notifier import gathering
from shared.access import links
from shared.ledger import business
from shared.runtime.loops import Loop

log = structlog.get_logger()

KEPT = timedelta(days=7)
"""A link that ended says so for as long; then it is an unknown one."""
PERIOD_SECONDS = 600.0


def forget(engine: Engine) -> int:
    """One round; any number of workers may run it at once. Returns how many rows went."""
    with engine.begin() as connection:
        before = business.now(connection) - KEPT
        gone = links.forget(connection, before) + gathering.forget(connection, before)
    if gone:
        log.info("forgotten", rows=gone)
    return gone


def loop(engine: Engine) -> Loop:
    """The loop that does it."""

    def step() -> None:
        forget(engine)

    return Loop("notifier", "forgetting", PERIOD_SECONDS, step)
