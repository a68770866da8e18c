"""Composition root of the router."""

from __future__ import annotations

from services.router.handlers import MindPeople, RouteTickets
from shared.ledger.process import Deps, Parts


def build(deps: Deps) -> Parts:
    """The service, ready to run."""
    return Parts("router", handlers=(RouteTickets(deps), MindPeople(deps)), cap=200)
