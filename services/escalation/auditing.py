"""The auditor: finds open tickets that nobody will move, within a minute, and puts them back on the agenda.

Each open ticket's watch says who is to move it and at which instant it is looked at (`escalation.ticket`). One whose instant is
well past was lost by somebody; what an audit costs depends on how many are, not on how many are open.
"""

from __future__ import annotations

import structlog

from services.escalation import store
from shared.contracts.envelope import Actor
from shared.ledger import business
from shared.ledger.process import Deps
from shared.ledger.tickets import lock
from shared.ledger.unit import Unit
from shared.runtime import metrics
from shared.runtime.loops import Loop

log = structlog.get_logger()

PERIOD_SECONDS = 15.0
GRACE_SECONDS = 30.0
"""How late a look may be before the ticket counts as lost: together with the period, an orphan is found within 60 s."""
LIMIT = 1000
INVARIANT = "open_ticket_has_next_mover"
ACTOR = Actor(kind="service", id="escalation")


class Auditor:
    """The loop of every escalation process; several do no harm."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self.loop = Loop("escalation", "auditor", PERIOD_SECONDS, self._round)

    def _round(self) -> None:
        self.run_once()

    def run_once(self) -> list[int]:
        """Find orphans, count them, and let router and escalation look at them again. Returns their ids."""
        with self._deps.engine.connect() as connection:
            found = store.orphans(connection, GRACE_SECONDS, LIMIT)
            metrics.INVARIANT_VIOLATIONS.labels(INVARIANT).set(len(found))
            if not found:
                connection.rollback()
                return []
            number = self._deps.playbook_number(connection)
            unit = Unit(connection, business.now(connection), ACTOR, number)
            for ticket in lock(connection, found).values():
                for service in ("router", "escalation"):
                    unit.wake(service, "ticket", ticket.id, ticket.lane)
            unit.flush()
            connection.commit()
        self._deps.bells.ring(unit.woken)
        log.warning("orphans_found", count=len(found), first=found[:5])
        return found
