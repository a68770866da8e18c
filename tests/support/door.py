"""A real gateway on a port of its own, with the shipped playbook and a key for each role; the workers are driven by the test."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine as Database

from services.control import platform, publish
from services.control.replay.engine import Engine
from services.gateway.server import serve
from shared.access import keys
from shared.ledger.invariants import INVARIANTS, violations
from shared.ledger.kinds import LANES, SERVICES
from shared.runtime.embedded import ports
from shared.runtime.settings import Address, Settings
from tests.support.wait import until

OPERATOR = "door-operator"
"""The key of an administrator who may act for persons, customers and automations."""


@dataclass(frozen=True)
class Reply:
    """An answer of the gateway."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def kind(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]

    @property
    def pointers(self) -> list[str]:
        """The places that a problem document names."""
        assert self.kind == "application/problem+json", self
        return [one["pointer"] for one in self.json.get("errors", [])]

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


@dataclass
class Door:
    """The gateway's address, the database behind it, and the workers' engine. Test people are those of the shipped playbook."""

    settings: Settings
    database: Database
    workers: Engine
    _turns: list[int] = field(default_factory=lambda: [0])

    @property
    def url(self) -> str:
        return f"http://{self.settings.http}"

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = OPERATOR,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request on a connection of its own. A body that is not bytes is sent as JSON."""
        sent = dict(headers or {})
        if key is not None:
            sent.setdefault("Authorization", f"Bearer {key}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(self.settings.http.host, self.settings.http.port, timeout=30)
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **members: Any) -> Reply:
        return self.call("GET", path, **members)

    def raw(self, data: bytes) -> bytes:
        """Send bytes, read until the gateway closes or says nothing for a second."""
        with socket.create_connection((self.settings.http.host, self.settings.http.port), timeout=1) as sock:
            sock.sendall(data)
            answer = b""
            try:
                while piece := sock.recv(65_536):
                    answer += piece
            except TimeoutError:
                pass
            return answer

    def post(self, members: Mapping[str, Any] | None = None, **more: Any) -> Reply:
        """POST a ticket of source `web`."""
        return self.call(
            "POST", "/v1/tickets", {"subject": "打印机不出纸", "source": "web"} | dict(members or {}), **more
        )

    def open(self, **members: Any) -> str:
        """The id of a new ticket."""
        answer = self.post(members)
        assert answer.status == 202, answer
        return str(answer.json["id"])

    def assigned(self, **members: Any) -> dict[str, Any]:
        """A new ticket that somebody has."""
        ticket = self.open(**members)
        self.settle()
        found: dict[str, Any] = self.get(f"/v1/tickets/{ticket}").json
        assert found["assignee"], found
        return found

    def act(self, ticket: str, name: str, *, key: str = OPERATOR, **members: Any) -> Reply:
        return self.call("POST", f"/v1/tickets/{quote(ticket)}/actions", {"action": name} | members, key=key)

    def settle(self) -> None:
        """Let every service do what is due."""
        self.workers.bells.rung |= {(service, lane) for service in SERVICES for lane in LANES}
        self.workers.settle()

    def name(self, prefix: str = "x") -> str:
        """A name that no other test of this door uses."""
        self._turns[0] += 1
        return f"{prefix}-{self._turns[0]}"

    def scalar(self, statement: str, *values: Any) -> Any:
        with self.database.connect() as connection:
            return connection.exec_driver_sql(statement, values).scalar_one_or_none()

    def broken(self) -> dict[str, Any]:
        """Invariants that do not hold."""
        with self.database.connect() as connection:
            return {one.name: rows for one in INVARIANTS if (rows := violations(connection, one))}


def free_port() -> int:
    """A port that nobody listens on now, and that no outgoing connection is given while its server is away."""
    return next(ports.candidates(uuid.uuid4().hex, None))


@contextmanager
def open_door(
    database_url: str,
    *,
    redis_url: str | None = None,
    gateway_database_url: str | None = None,
    test_mode: bool = False,
    playbook: str = "selected",
) -> Iterator[Door]:
    """A gateway until the end of the block; its invariants hold then. `gateway_database_url`: its own way to the database."""
    settings = replace(
        Settings.from_environment({}),
        database_url=database_url,
        redis_url=redis_url,
        http=Address("127.0.0.1", free_port()),
        test_mode=test_mode,
    )
    database = platform.engine(settings, "test")
    deps = platform.deps(replace(settings, redis_url=None), database, fresh=True)
    with database.connect() as connection:
        checked = publish.load(playbook, publish.years_around(datetime.now(UTC)))
        publish.publish(deps, connection, checked.playbook, by="test")
        everyone = frozenset({"person", "customer", "automation"})
        keys.create(connection, name="operator", roles=frozenset({"admin"}), act_for=everyone, key=OPERATOR)
        for role in ("lead", "agent", "integrator", "customer"):
            keys.create(connection, name=role, roles=frozenset({role}), key=role)
        connection.commit()
    door = Door(settings, database, Engine(deps, database))
    door.settle()
    own = replace(settings, database_url=gateway_database_url or database_url)
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(own, stop), name="gateway-under-test")
    thread.start()
    try:
        until(lambda: _ready(door), seconds=30, what="the gateway is ready")
        yield door
        door.settle()
        assert door.broken() == {}
    finally:
        stop.set()
        thread.join(20)
        database.dispose()
    assert not thread.is_alive()


def personal_key(door: Door, person: str, *roles: str) -> str:
    """A key that acts as a person."""
    key = f"key-of-{person}"
    with door.database.begin() as connection:
        keys.create(connection, name=person, roles=frozenset(roles or ("agent",)), person=person, key=key)
    return key


def _ready(door: Door) -> bool:
    try:
        return door.get("/readyz", key=None).status == 200
    except OSError:
        return False
