"""Composition root of escalation."""

from __future__ import annotations

from services.escalation.auditing import Auditor
from services.escalation.handlers import WatchTickets, compiled
from shared.ledger.process import Deps, Parts


def build(deps: Deps) -> Parts:
    """The service, ready to run."""
    return Parts("escalation", handlers=(WatchTickets(deps),), loops=(Auditor(deps).loop,), cap=400, warm=compiled)
