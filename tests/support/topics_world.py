"""A gateway on a real port and a notifier in this process, over one database and one Redis: what topics are tested in."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import redis as redis_client
import uvicorn
from sqlalchemy import Engine

from services.control import platform, publish
from services.gateway.app import build
from services.gateway.server import context_of
from shared.access import keys
from shared.contracts.events import TicketReplied
from shared.ledger import business
from shared.ledger.process import Deps, WorkerProcess
from shared.runtime.settings import Address, Settings
from tests.support.door import free_port
from tests.support.ledger import act, open_some

START = datetime(2026, 3, 3, 2, 0, tzinfo=UTC)
KEYS = {"integrator": "sb_integrator", "agent": "sb_agent"}


def until(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first true value of `what`, asked again and again; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    waiting = threading.Event()
    while not (found := what()):
        assert time.monotonic() < deadline, "did not come true in time"
        waiting.wait(0.02)
    return found


@dataclass(slots=True)
class World:
    """`base` is the gateway's address; `now` business time, in the test's hand."""

    settings: Settings
    database: Engine
    deps: Deps
    base: str
    redis: redis_client.Redis
    now: datetime = START

    def call(self, method: str, path: str, body: Any = None, *, key: str = "integrator", **headers: str) -> Any:
        """(status, decoded body) of a request."""
        status, raw, _ = self.raw(method, path, body, key=key, **headers)
        return status, json.loads(raw) if raw else None

    def raw(self, method: str, path: str, body: Any = None, *, key: str = "integrator", **headers: str) -> Any:
        """(status, bytes, headers) of a request."""
        request = urllib.request.Request(
            self.base + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {KEYS[key]}"} | {n.replace("_", "-"): v for n, v in headers.items()},
        )
        try:
            with urllib.request.urlopen(request, timeout=40) as response:
                return response.status, response.read(), response.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers

    def open(self, count: int) -> list[int]:
        """So many tickets, opened in one transaction (no router runs)."""
        return open_some(self.database, count)

    def reply(self, ticket_id: int, text: str = "on it") -> None:
        """One more event of a ticket."""
        act(self.database, ticket_id, TicketReplied(author="agent", text=text))

    def events(self, after: str = "", *, settled: bool = True, **query: Any) -> list[dict[str, Any]]:
        """All topic events after a cursor, page by page; `settled`: wait until all that is committed may be read (transactions
        of other databases of the same server hold the log back too).
        """
        if settled:
            until(lambda: int(self.call("GET", "/v1/events?after=latest")[1]["next"]) >= self._committed())
        found: list[dict[str, Any]] = []
        while True:
            extra = "".join(f"&{name}={value}" for name, value in query.items())
            status, page = self.call("GET", f"/v1/events?after={after}&limit=500{extra}")
            assert status == 200, page
            found += page["items"]
            if not page["items"]:
                return found
            after = page["next"]

    def _committed(self) -> int:
        with self.database.connect() as connection:
            return int(connection.exec_driver_sql("select coalesce(max(position), 0) from ledger.event").scalar_one())

    def move(self, **length: float) -> None:
        """Move business time."""
        self.now += timedelta(**length)
        with self.database.begin() as connection:
            business.freeze(connection, self.now)

    def stream(self, name: str = "all") -> list[tuple[str, dict[str, Any]]]:
        """(entry id, event) of a topic stream."""
        rows: Any = self.redis.xrange(f"signalbox:topic:{name}")
        return [(entry.decode(), json.loads(members[b"event"])) for entry, members in rows]

    @contextmanager
    def notifier(self) -> Iterator[WorkerProcess]:
        """A notifier process, for as long as the block runs."""
        process = WorkerProcess(self.deps, [platform.parts("notifier", self.deps)])
        process.start()
        try:
            yield process
        finally:
            process.stop()


@contextmanager
def gateway(settings: Settings) -> Iterator[Callable[..., Any]]:
    """A gateway in this process over given servers; gives `call(method, path, body=None)` of an integrator."""
    port = free_port()
    settings = replace(settings, http=Address("127.0.0.1", port), test_mode=True)
    database = platform.engine(settings, "keys", pool_size=2)
    with database.begin() as connection:
        for role, key in KEYS.items():
            keys.create(connection, name=role, roles=frozenset({role}), key=key)
    with _serving(settings):
        made = World(
            settings, database, platform.deps(settings, database), f"http://127.0.0.1:{port}", _redis(settings)
        )
        yield made.call
        made.redis.close()
    database.dispose()


def _redis(settings: Settings) -> redis_client.Redis:
    return redis_client.Redis.from_url(str(settings.redis_url))


@contextmanager
def _serving(settings: Settings) -> Iterator[None]:
    context = context_of(settings)
    context.health.start()
    server = uvicorn.Server(uvicorn.Config(build(context), host="127.0.0.1", port=settings.http.port, log_config=None))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.started)
        yield
    finally:
        server.should_exit = True
        thread.join(10)
        context.commits.stop()
        context.health.stop()
        context.pool.shutdown(wait=False, cancel_futures=True)
        context.deps.engine.dispose()


@contextmanager
def world(database_url: str, redis_url: str) -> Iterator[World]:
    """A gateway over the shipped playbook, with keys of two roles, and business time in hand."""
    port = free_port()
    environment = {"SIGNALBOX_HTTP": f"127.0.0.1:{port}", "SIGNALBOX_TEST_MODE": "1"}
    settings = replace(Settings.from_environment(environment), database_url=database_url, redis_url=redis_url)
    database = platform.engine(settings, "test", pool_size=16)
    deps = platform.deps(settings, database)
    with database.begin() as connection:
        business.freeze(connection, START)
        for role, key in KEYS.items():
            keys.create(connection, name=role, roles=frozenset({role}), key=key)
    with database.connect() as connection:
        checked = publish.load("selected", publish.years_around(START))
        publish.publish(deps, connection, checked.playbook, by="test")
    made = World(settings, database, deps, f"http://127.0.0.1:{port}", _redis(settings))
    try:
        with _serving(settings):
            yield made
    finally:
        made.redis.close()
        database.dispose()
