"""A small world: a playbook published on a database of its own, the real handlers, business time in hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from services.control import platform, publish
from services.control.replay.engine import Engine
from services.gateway import attachments, queries
from services.gateway.actions import Outcome, act
from services.gateway.intake import Answer, Intake, Submission
from shared.access import keys
from shared.access.principals import SYSTEM
from shared.contracts.envelope import Actor, New
from shared.contracts.events import AgentChanged
from shared.contracts.intake import RequesterIn, TicketIn
from shared.ledger import reader
from shared.ledger.invariants import INVARIANTS, violations
from shared.ledger.tickets import read
from shared.ledger.unit import Unit
from shared.runtime.settings import Settings
from shared.ticket import projection
from shared.ticket.state import Ticket
from tests.support.desk import Door, door_of

PNG = bytes.fromhex("89504e470d0a1a0a0000000d494844520000000100000001080600000015c489")
START = datetime(2026, 3, 3, 2, 0, tzinfo=UTC)
"""A Tuesday, ten in the morning in Shanghai."""


class World:
    """Services on a movable clock. People act through the gateway's own functions."""

    def __init__(self, database_url: str, playbook: str, start: datetime = START) -> None:
        settings = replace(Settings.from_environment({}), database_url=database_url, redis_url=None)
        self.settings = settings
        self.closing = ExitStack()
        self._door: Door | None = None
        self._keys: dict[tuple[str, ...], str] = {}
        self.database = platform.engine(settings, "test")
        self.deps = platform.deps(settings, self.database, fresh=True)
        self.engine = Engine(self.deps, self.database, ask=True)
        self.engine.start_at(start)
        self.now = start
        self.publish(playbook)

    def publish(self, playbook: str | Path) -> None:
        """Publish a playbook by name or folder."""
        with self.database.connect() as connection:
            checked = publish.load(str(playbook), publish.years_around(self.now))
            publish.publish(self.deps, connection, checked.playbook, by="test")
        self.engine.settle()

    @property
    def door(self) -> Door:
        """A real gateway, for requests without a key."""
        if self._door is None:
            self._door = self.closing.enter_context(door_of(self.settings))[0]
        return self._door

    def restart(self) -> None:
        """Every process anew: nothing is kept but the database."""
        self.database.dispose()
        self.database = platform.engine(self.settings, "test")
        self.deps = platform.deps(self.settings, self.database, fresh=True)
        self.engine = Engine(self.deps, self.database, ask=True)

    def submit(self, **members: Any) -> Answer:
        """Hand a ticket in; the answer says what became of it."""
        given = {"subject": "something", "source": "api", "requester": RequesterIn(id="r1", name="Requester")}
        ticket = TicketIn(**(given | members))
        answer = Intake(self.deps).open_many([Submission(ticket, Actor(kind="customer", id="r1"))])[0]
        self.engine.move_to(self.now)
        return answer

    def open(self, **members: Any) -> int:
        """Open a ticket that must be accepted; its id."""
        answer = self.submit(**members)
        assert answer.ticket is not None, answer.fault
        return answer.ticket.id

    def act(self, ticket_id: int, command: Any, person: str = "", kind: str = "person") -> Outcome:
        """A person's action, and what follows from it at once."""
        with self.database.connect() as connection:
            outcome = act(self.deps, connection, ticket_id, command, Actor(kind=kind, id=person or "somebody"), "test")
        self.engine.move_to(self.now)
        return outcome

    def done(self, ticket_id: int, command: Any, person: str = "") -> Ticket:
        """An action that must succeed; the ticket after it."""
        outcome = self.act(ticket_id, command, person)
        assert outcome.refused is None, outcome.refused
        return self.ticket(ticket_id)

    def wait(self, **length: float) -> None:
        """Let time pass; whatever falls due happens at its instant."""
        self.now += timedelta(**length)
        self.engine.run_until(self.now)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        status: int = 200,
        person: str = "",
        roles: tuple[str, ...] = ("admin",),
    ) -> Any:
        """One request at a real gateway, with a key of those roles (of that person); the decoded answer."""
        wanted = (person, *roles)
        if wanted not in self._keys:
            with self.database.begin() as connection:
                self._keys[wanted] = keys.create(
                    connection, name=person or "test", roles=frozenset(roles), person=person or None,
                    act_for=frozenset({"person", "customer"}),
                )  # fmt: skip
        answer = self.door.call(
            method, path, body, authorization=f"Bearer {self._keys[wanted]}", content_type="application/json"
        )
        assert answer.status == status, (answer.status, answer.body)
        return answer.json if answer.headers.get("content-type", "").endswith("json") else answer.body.decode()

    def attach(self, ticket_id: int, name: str, data: bytes = PNG) -> str:
        """Attach a file; its id."""
        with self.database.connect() as connection:
            found = attachments.attach(
                self.deps,
                attachments.PostgresStore(),
                connection,
                ticket_id,
                name,
                data,
                Actor(kind="person", id="test"),
                "test",
            )
        assert isinstance(found, tuple), found
        return found[0].id

    def get(self, path: str, status: int = 200) -> Any:
        """GET as an administrator."""
        return self.call("GET", path, status=status)

    def ticket(self, ticket_id: int) -> Ticket:
        with self.database.connect() as connection:
            found = read(connection, ticket_id)
        assert found is not None
        return found

    def shown(self, ticket_id: int) -> dict[str, Any]:
        """The ticket as `GET /v1/tickets/{id}` has it."""
        with self.database.connect() as connection:
            return queries.ticket(self.deps, connection, ticket_id, SYSTEM)

    def events(self, ticket_id: int, *types: str) -> list[Any]:
        """Recorded events of a ticket, of these types (all without)."""
        with self.database.connect() as connection:
            story = reader.stream(connection, "ticket", ticket_id)
        return [one for one in story if not types or one.type in types]

    def types(self, ticket_id: int) -> list[str]:
        return [one.type for one in self.events(ticket_id)]

    def told(self, ticket_id: int, event: str) -> list[str]:
        """Who was sent something about events of this type, once for each message."""
        with self.database.connect() as connection:
            rows = queries.view(connection, "notifier.v_delivery", ticket_id, "id")
        return [
            row["recipient"] for row in rows if row["event"] == event and row["state"] not in ("suppressed", "failed")
        ]

    def presence(self, person: str, presence: str) -> None:
        """Somebody goes away or comes back, as `PATCH /v1/agents/{id}` has it."""
        with self.database.begin() as connection:
            row = connection.exec_driver_sql(
                "select id, version, state from ledger.item where kind = 'agent' and key = %s for update", (person,)
            ).one()
            unit = Unit(connection, self.now, Actor(kind="person", id=person), 1, given=True)
            version = unit.append("agent", row.id, row.version, [New(AgentChanged(agent=person, presence=presence))])
            unit.bump("agent", row.id, version, row.state | {"presence": presence})
            unit.wake("router", "agent", row.id, "urgent")
            unit.flush()
        self.deps.directory.forget()
        self.engine.move_to(self.now)

    def one(self, sql: str, *values: Any) -> Any:
        """A single value."""
        with self.database.connect() as connection:
            return connection.exec_driver_sql(sql, values).scalar_one()

    def check(self) -> None:
        """Every invariant holds, and every ticket is what its events make it."""
        with self.database.connect() as connection:
            broken = {one.name: rows for one in INVARIANTS if (rows := violations(connection, one))}
            ids = connection.exec_driver_sql("select id from ledger.ticket").scalars().all()
            for number in ids:
                assert projection.project(reader.stream(connection, "ticket", number)) == read(connection, number)
            failed = connection.exec_driver_sql("select service, id, error from ledger.agenda where failures > 0").all()
        assert broken == {}
        assert failed == []


@contextmanager
def world(database_url: str, playbook: str | Path, start: datetime = START) -> Iterator[World]:
    """A world, checked at the end."""
    made = World(database_url, str(playbook), start)
    try:
        yield made
        made.check()
    finally:
        made.closing.close()
        made.database.dispose()


def write_playbook(folder: Path, text: str) -> Path:
    """A playbook of one file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "base.yaml").write_text(text, encoding="utf-8")
    return folder
