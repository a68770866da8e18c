"""Retention of what the gateway keeps for repeats: an `Idempotency-Key` is remembered for `KEPT_DAYS` days."""

from __future__ import annotations

from sqlalchemy import Engine

from shared.runtime.loops import Loop

PERIOD_SECONDS = 600.0
KEPT_DAYS = 7
BATCH = 5_000

_FORGET = """
delete from gateway.idempotency where (principal, key) in (
    select principal, key from gateway.idempotency
    where created_at < clock_timestamp() - make_interval(days => %(days)s) order by created_at limit %(batch)s)
"""


class Forgetting:
    """Deletes old keys in small transactions; several gateways may do so at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.loop = Loop("gateway", "retention", PERIOD_SECONDS, self.forget)

    def forget(self) -> float:
        """Delete one batch; returns the seconds to wait: short while there is more."""
        with self._engine.begin() as connection:
            gone = connection.exec_driver_sql(_FORGET, {"days": KEPT_DAYS, "batch": BATCH}).rowcount
        return 0.2 if gone == BATCH else PERIOD_SECONDS
