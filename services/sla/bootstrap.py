"""Composition root of the SLA service."""

from __future__ import annotations

from services.sla.counting import ClockCount
from services.sla.forecast.live import Forecaster
from services.sla.handlers import KeepClocks, rules_of
from shared.ledger.process import Deps, Parts


def build(deps: Deps) -> Parts:
    """The service, ready to run."""
    forecaster = Forecaster(deps.engine)
    loops = (ClockCount(deps.engine).loop, forecaster.loop)
    return Parts("sla", handlers=(KeepClocks(deps, forecaster=forecaster),), loops=loops, cap=400, warm=rules_of)
