"""Composition root of the SLA service."""

from __future__ import annotations

from services.sla.counting import ClockCount
from services.sla.handlers import KeepClocks
from shared.ledger.process import Deps, Parts


def build(deps: Deps) -> Parts:
    """The service, ready to run."""
    return Parts("sla", handlers=(KeepClocks(deps),), loops=(ClockCount(deps.engine).loop,), cap=400)
