"""Runs the gateway: HTTP by uvicorn, the intake queues beside it, all over one context."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import structlog
import uvicorn

from services.gateway.api.base import Context
from services.gateway.app import build
from services.gateway.commit import GroupCommit
from services.gateway.forgetting import Forgetting
from services.gateway.health import Health
from services.gateway.http_protocol import protocol
from services.gateway.intake import Intake
from services.gateway.streams import IntakeQueues
from shared.access.keys import KeyCache
from shared.directory.store import DirectoryCache
from shared.ledger.housekeeping import Housekeeping
from shared.ledger.kinds import SERVICES
from shared.ledger.process import Deps
from shared.playbook.store import Playbooks
from shared.runtime.broker import Bells
from shared.runtime.database import connect_engine
from shared.runtime.ids import ItemIds
from shared.runtime.settings import Settings

log = structlog.get_logger()

THREADS = 16


def context_of(settings: Settings) -> Context:
    """A context on the settings' servers; the health watch is started by `serve`."""
    assert settings.database_url is not None
    engine = connect_engine(
        settings.database_url, name="gateway", pool_size=THREADS + 6, worker=False, statement_timeout_seconds=20
    )
    playbooks = Playbooks()
    deps = Deps(
        settings=settings,
        engine=engine,
        bells=Bells(settings.redis_url),
        ids=ItemIds(),
        playbook_number=playbooks.number,
        playbooks=playbooks,
        directory=DirectoryCache(),
    )
    intake = Intake(deps)
    return Context(
        deps=deps,
        intake=intake,
        commits=GroupCommit(intake),
        keys=KeyCache(),
        health=Health(engine),
        pool=ThreadPoolExecutor(THREADS, thread_name_prefix="http"),
        test_mode=settings.test_mode,
    )


def serve(settings: Settings, stop: threading.Event) -> None:
    """Serve until `stop` is set; then requests in hand are finished and queues are left to others."""
    context = context_of(settings)
    context.health.start()
    queues = IntakeQueues(context.deps, context.intake)
    queues.start()
    housekeeping = Housekeeping(context.deps.engine, ["gateway"], SERVICES)
    housekeeping.start()
    forgetting = Forgetting(context.deps.engine).loop
    forgetting.start()
    server = uvicorn.Server(
        uvicorn.Config(
            build(context),
            host=settings.http.host,
            port=settings.http.port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
            server_header=False,
            http=protocol(context.admission, context.intake.is_urgent),
            ws="none",
        )
    )
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.run, name="http", daemon=True)
    thread.start()
    try:
        while not stop.wait(0.2):
            if not thread.is_alive():
                raise OSError(f"the HTTP server at {settings.http} ended; is the port in use?")
    finally:
        server.should_exit = True
        thread.join(8)
        queues.stop()
        forgetting.stop()
        housekeeping.stop()
        context.commits.stop()
        context.hub.stop()
        context.health.stop()
        context.pool.shutdown(wait=False, cancel_futures=True)
        context.deps.engine.dispose()
