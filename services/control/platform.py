"""What every command starts from: servers, settings with their URLs, engine, bells and caches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sqlalchemy import Engine

from shared.directory.store import DirectoryCache
from shared.ledger.process import Deps, Parts
from shared.playbook.store import Playbooks
from shared.runtime.broker import Bells
from shared.runtime.database import connect_engine
from shared.runtime.embedded.servers import EmbeddedServers
from shared.runtime.ids import ItemIds
from shared.runtime.settings import Settings

WORKERS = ("router", "sla", "escalation", "notifier")
RUN_ORDER = ("gateway", *WORKERS)
"""The order of `run` and of the metrics ports."""


@contextmanager
def servers(settings: Settings) -> Iterator[Settings]:
    """Settings with both URLs filled in; embedded servers run for those that were not given, and stop at the end."""
    with EmbeddedServers(settings.home, database_url=settings.database_url, redis_url=settings.redis_url) as both:
        yield replace(settings, database_url=both.database_url, redis_url=both.redis_url)


def engine(settings: Settings, name: str, *, pool_size: int = 8, worker: bool = True, sync: bool = True) -> Engine:
    """An engine on the settings' database."""
    assert settings.database_url is not None
    return connect_engine(settings.database_url, name=name, pool_size=pool_size, worker=worker, synchronous_commit=sync)


def deps(settings: Settings, database: Engine, *, fresh: bool = False) -> Deps:
    """What a service's bootstrap is given. `fresh` caches nothing (a virtual clock may publish between two instants)."""
    playbooks = Playbooks(max_age_seconds=0.0 if fresh else 1.0)
    return Deps(
        settings=settings,
        engine=database,
        bells=Bells(settings.redis_url),
        ids=ItemIds(),
        playbook_number=playbooks.number,
        playbooks=playbooks,
        directory=DirectoryCache(max_age_seconds=0.0 if fresh else 1.0),
    )


def parts(service: str, given: Deps) -> Parts:
    """A worker service's parts, built by its bootstrap."""
    if service == "router":
        from services.router.bootstrap import build as build_router

        return build_router(given)
    if service == "sla":
        from services.sla.bootstrap import build as build_sla

        return build_sla(given)
    if service == "escalation":
        from services.escalation.bootstrap import build as build_escalation

        return build_escalation(given)
    if service == "notifier":
        from services.notifier.bootstrap import build as build_notifier

        return build_notifier(given)
    raise ValueError(f"no such service: {service}")


@dataclass(frozen=True, slots=True)
class Ports:
    """Metrics addresses by service: base + place in `RUN_ORDER`."""

    settings: Settings

    def of(self, service: str) -> tuple[str, int]:
        return self.settings.metrics.host, self.settings.metrics.port + RUN_ORDER.index(service)
