"""A service desk on a virtual clock: the real services on a database of its own, its gateway on a real port."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvicorn

from services.control import platform, publish
from services.control.replay.engine import Engine
from services.gateway.api.base import Context
from services.gateway.app import build
from services.gateway.server import context_of
from services.notifier.channels.base import Kind, Outcome
from services.notifier.sending import Job
from shared.access import keys
from shared.contracts.envelope import Actor
from shared.contracts.intake import RequesterIn, TicketIn
from shared.runtime.settings import Settings
from tests.support.waiting import wait_for

START = datetime(2026, 3, 3, 2, 0, tzinfo=UTC)  # a Tuesday, ten in the morning in Shanghai
ASKING = RequesterIn(id="n1", name="护士", email="n1@clinic.example")
LINK = re.compile(r"http://[^\s]+(/a/[\w-]+)")
CODE = re.compile(r"(?:验证码|[Cc]ode)[\s：:]*(\d{6})")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the gateway answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def numbered(job: Job) -> Outcome:
    """The answer of a provider that takes everything and numbers it."""
    return Outcome(Kind.ACCEPTED, provider_id=f"null-{job.row.id}")


@dataclass(slots=True)
class Door:
    """The gateway on a real port; one kept connection for each thread."""

    port: int
    _local: threading.local = field(default_factory=threading.local)

    def call(self, method: str, path: str, body: bytes | dict[str, Any] | None = None, **headers: str) -> Reply:
        """One request. A dictionary goes as a form, or as JSON when `content_type` says so. Header names use underscores."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, dict):
            as_json = sent.get("content-type", "") == "application/json"
            sent.setdefault("content-type", "application/x-www-form-urlencoded")
            body = json.dumps(body).encode() if as_json else urlencode(body).encode()
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        except (http.client.HTTPException, OSError):
            connection.close()
            self._local.connection = None
            raise

    @contextmanager
    def stream(self, path: str, **headers: str) -> Iterator[Iterator[Any]]:
        """Server-sent events of a path, each as its decoded data; a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", path, None, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        try:
            yield (json.loads(line[6:]) for line in iter(answer.readline, b"") if line.startswith(b"data: "))
        finally:
            connection.close()


@contextmanager
def door_of(settings: Settings) -> Iterator[tuple[Door, Context]]:
    """A gateway process's HTTP side in this process."""
    context = context_of(settings)
    context.health.start()
    server = uvicorn.Server(uvicorn.Config(build(context), host="127.0.0.1", port=0, log_config=None, access_log=False))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield Door(server.servers[0].sockets[0].getsockname()[1]), context
    finally:
        server.should_exit = True
        thread.join(10)
        context.commits.stop()
        context.hub.stop()
        context.health.stop()
        context.pool.shutdown(wait=False, cancel_futures=True)
        context.deps.engine.dispose()


class Desk:
    """A desk with a playbook (by default the shipped `selected`). `sent` holds every message that left."""

    def __init__(self, database_url: str, playbook: str = "selected", home: Path | None = None) -> None:
        settings = replace(Settings.from_environment({}), database_url=database_url, redis_url=None)
        self.settings = settings if home is None else replace(settings, home=home)
        self.database = platform.engine(self.settings, "test")
        self.deps = platform.deps(self.settings, self.database, fresh=True)
        self.sent: list[Job] = []
        self.answer = numbered
        """What the provider answers."""
        self.engine = Engine(self.deps, self.database, on_send=self._sent, answer=lambda job: self.answer(job))
        self.engine.start_at(START)
        self.now = START
        self.publish(playbook)

    def publish(self, playbook: str) -> None:
        """Publish a playbook by name or folder."""
        with self.database.connect() as connection:
            checked = publish.load(playbook, publish.years_around(START))
            publish.publish(self.deps, connection, checked.playbook, by="test")
        self.engine.settle()

    def publish_changed(self, change: Callable[[str], str]) -> None:
        """Publish the shipped `selected` with the text of its files changed."""
        with tempfile.TemporaryDirectory() as folder:
            self.publish(str(changed_copy(Path(folder), lambda _, text: change(text))))

    def _sent(self, jobs: Sequence[Job]) -> None:
        self.sent += jobs

    def open(self, **members: Any) -> int:
        """One ticket, and whatever the services do about it now."""
        return self.open_many([members])[0]

    def open_many(self, many: Sequence[dict[str, Any]]) -> list[int]:
        """Tickets opened together."""
        from services.gateway.intake import Intake, Submission

        wanted = [TicketIn(**{"subject": "打印机不出纸", "source": "web", "requester": ASKING} | one) for one in many]
        actor = Actor(kind="customer", id="n1")
        answers = Intake(self.deps).open_many([Submission(one, actor) for one in wanted])
        self.engine.move_to(self.now)
        return [answer.ticket.id for answer in answers if answer.ticket is not None]

    def act(self, ticket_id: int, command: Any, person: str) -> Any:
        """A person's action, and what follows from it now."""
        from services.gateway.actions import act

        with self.database.connect() as connection:
            outcome = act(self.deps, connection, ticket_id, command, Actor(kind="person", id=person), "test")
        self.engine.move_to(self.now)
        return outcome

    def settle(self) -> None:
        """Let the services do what is due now (after a call over HTTP)."""
        self.engine.move_to(self.now)

    def wait(self, **length: float) -> None:
        """Let time pass."""
        self.now += timedelta(**length)
        self.engine.run_until(self.now)

    def key(self, person: str, *roles: str) -> str:
        """A personal API key."""
        with self.database.begin() as connection:
            return keys.create(connection, name=person, roles=frozenset(roles or ("agent",)), person=person)

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """Rows of a query."""
        with self.database.connect() as connection:
            return list(connection.exec_driver_sql(statement, values))

    def version(self, ticket_id: int) -> int:
        """A ticket's version: it moves with everything that happens to it."""
        return int(self.rows("select version from ledger.ticket where id = %s", ticket_id)[0].version)

    def close(self) -> None:
        self.database.dispose()


def changed_copy(folder: Path, change: Callable[[str, str], str], name: str = "selected") -> Path:
    """A copy of a shipped playbook with each file's text changed: `change(file name, text) -> text`."""
    source = Path(publish.__file__).parents[2] / "playbooks" / name
    target = folder / "playbook"
    shutil.copytree(source, target)
    for file in target.glob("*.yaml"):
        file.write_text(change(file.name, file.read_text(encoding="utf-8")), encoding="utf-8")
    return target
