"""A routing desk on a virtual clock: real PostgreSQL, the real services, a playbook that the test writes down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from services.control import platform, publish
from services.control.replay.engine import Engine
from services.gateway import queries
from services.gateway.actions import Outcome, act
from services.gateway.api.operations import AgentPatch, LeaveIn, change_agent
from services.gateway.intake import Answer, Intake, Submission
from shared.access.principals import SYSTEM
from shared.contracts.envelope import Actor
from shared.contracts.intake import RequesterIn, TicketIn
from shared.ledger.invariants import INVARIANTS, violations
from shared.playbook.source import read_document
from shared.runtime.settings import Settings

START = datetime(2026, 3, 3, 2, 0, tzinfo=UTC)
"""A Tuesday."""

ONE_RULE: list[dict[str, Any]] = [
    {"name": "all", "rules": [{"name": "everything", "default": True, "then": {"group": "desk"}}]}
]


def playbook(**sections: Any) -> dict[str, Any]:
    """Sections of a playbook: a desk with three people of capacity 2, and a triage with a lead, unless named otherwise."""
    groups = {
        "desk": {"members": ["ann", "bob", "cai"], "lead": "lee"},
        "triage": {"members": ["lee"], "lead": "lee"},
    }
    agents = {name: {"capacity": 2} for name in ("ann", "bob", "cai")} | {"lee": {"capacity": 40}}
    return {"name": "test", "groups": groups, "agents": agents, "rules": ONE_RULE} | sections


class RoutingDesk:
    """A desk under a playbook; every act is followed by all that it sets off."""

    def __init__(self, database_url: str, sections: dict[str, Any], *, ask: bool = False) -> None:
        settings = replace(Settings.from_environment({}), database_url=database_url, redis_url=None)
        self.database = platform.engine(settings, "test")
        self.deps = platform.deps(settings, self.database, fresh=True)
        self.engine = Engine(self.deps, self.database, ask=ask)
        self.engine.start_at(START)
        self.now = START
        self.live = False
        self.publish(sections)

    def settle(self) -> None:
        """Let everything happen that is due; when worker processes are `live` that is their business."""
        if not self.live:
            self.engine.move_to(self.now)

    def go_live(self) -> None:
        """Business time is real time from now on, and worker processes do the work."""
        self.live = True
        with self.database.begin() as connection:
            connection.exec_driver_sql("delete from ledger.clock")

    def publish(self, sections: dict[str, Any]) -> None:
        checked = publish.check(read_document(sections), publish.years_around(START))
        with self.database.connect() as connection:
            publish.publish(self.deps, connection, checked.playbook, by="test")
        self.settle()

    def post(self, *tickets: dict[str, Any]) -> list[Answer]:
        """Take tickets in together, and let nothing happen yet."""
        submissions = []
        for members in tickets:
            asked = members.get("requester")
            given = {"subject": "no paper", "source": "web"} | members
            if isinstance(asked, dict):
                given["requester"] = RequesterIn(**asked)
            submissions.append(Submission(TicketIn(**given), Actor(kind="customer", id="someone")))
        return Intake(self.deps).open_many(submissions)

    def open(self, **members: Any) -> int:
        answer = self.post(members)[0]
        assert answer.ticket is not None, answer
        self.settle()
        return answer.ticket.id

    def act(self, ticket_id: int, command: Any, person: str, kind: str = "person") -> Outcome:
        with self.database.connect() as connection:
            outcome = act(self.deps, connection, ticket_id, command, Actor(kind=kind, id=person), "test")
        self.settle()
        return outcome

    def person(
        self,
        who: str,
        *,
        presence: Any = None,
        skills: dict[str, int] | None = None,
        leave: list[tuple[datetime, datetime, str | None]] | None = None,
    ) -> None:
        """Somebody's presence, skills or leave is set by hand."""
        away = None if leave is None else [LeaveIn(from_at=a, to_at=b, delegate=c) for a, b, c in leave]
        with self.database.connect() as connection:
            patch = AgentPatch(presence=presence, skills=skills, leave=away)
            change_agent(self.deps, connection, who, patch, Actor(kind="person", id=who), "test")
        self.settle()

    def wait(self, **length: float) -> None:
        self.now += timedelta(**length)
        self.engine.run_until(self.now)

    def ticket(self, ticket_id: int) -> dict[str, Any]:
        with self.database.connect() as connection:
            return queries.ticket(self.deps, connection, ticket_id, SYSTEM)

    def owner(self, ticket_id: int) -> str | None:
        found: str | None = self.ticket(ticket_id)["assignee"]
        return found

    def types(self, ticket_id: int) -> list[str]:
        return [row["type"] for row in self.timeline(ticket_id)]

    def timeline(self, ticket_id: int) -> list[dict[str, Any]]:
        with self.database.connect() as connection:
            return queries.timeline(self.deps, connection, ticket_id, SYSTEM)

    def explain(self, ticket_id: int) -> dict[str, Any]:
        with self.database.connect() as connection:
            return queries.explain(self.deps, connection, ticket_id, SYSTEM)

    def scalar(self, statement: str, *values: Any) -> Any:
        with self.database.connect() as connection:
            return connection.exec_driver_sql(statement, values).scalar_one_or_none()

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.database.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement, values)]

    def broken(self) -> dict[str, list[tuple[Any, ...]]]:
        """Invariants that do not hold."""
        with self.database.connect() as connection:
            return {one.name: rows for one in INVARIANTS if (rows := violations(connection, one))}


@contextmanager
def routing_desk(database_url: str, sections: dict[str, Any], *, ask: bool = False) -> Iterator[RoutingDesk]:
    """A desk whose invariants are asked at the end."""
    desk = RoutingDesk(database_url, sections, ask=ask)
    try:
        yield desk
        assert desk.broken() == {}
    finally:
        desk.database.dispose()
