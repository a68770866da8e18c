"""Composition root of the router."""

from __future__ import annotations

from services.router import answer_store
from services.router.asking.fetcher import Fetcher
from services.router.compiled import compiled
from services.router.handlers import RouteTickets
from services.router.people import MindPeople, look_again
from shared.ledger.process import Deps, Parts
from shared.runtime.loops import Loop

LOOK_SECONDS = 1.0
QUIET_LOOK_SECONDS = 1.8
"""While nobody waits; who begins to wait just after a look is still looked at within two seconds."""
CLEAN_SECONDS = 60.0


def build(deps: Deps) -> Parts:
    """The service, ready to run."""
    fetcher = Fetcher(deps)
    loops = (
        Loop("router", "drain", LOOK_SECONDS, lambda: _look(deps)),
        Loop("router", "clean", CLEAN_SECONDS, lambda: _clean(deps)),
    )
    handlers = (RouteTickets(deps, asker=fetcher), MindPeople(deps))
    return Parts("router", handlers=handlers, loops=loops, background=(fetcher,), cap=300, warm=compiled)


def _look(deps: Deps) -> float:
    return QUIET_LOOK_SECONDS if look_again(deps) is None else LOOK_SECONDS


def _clean(deps: Deps) -> None:
    with deps.engine.begin() as connection:
        answer_store.clean(connection)
