"""A small playbook whose promises a test writes, on a desk with a virtual clock and a gateway on a real port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.control.cli import main
from shared.access import keys
from tests.support.desk import Desk, Door, Reply, door_of

BASE: dict[str, Any] = {
    "zone": "UTC",
    "sources": ["web", "phone"],
    "triage": "one",
    "fields": {"contract": {"type": "choice", "values": ["gold", "basic"]}},
    "taxonomy": {"priority": {"values": ["low", "normal", "urgent"], "default": "normal"}},
    "rules": [
        {"name": "all", "matches": "first", "rules": [{"name": "rest", "default": True, "then": {"group": "one"}}]}
    ],
    "groups": {"one": {"members": ["anna", "ben"]}, "two": {"members": ["carl"]}},
    "agents": {
        "anna": {"name": "Anna", "manager": "dora"},
        "ben": {"name": "Ben", "manager": "dora"},
        "carl": {"name": "Carl", "manager": "dora"},
        "dora": {"name": "Dora"},
    },
    "calendars": {"office": {"tz": "UTC", "weekly": {"mon-fri": ["09:00-17:00"]}}},
    "channels": [{"name": "inbox", "channel": "inbox", "driver": "inbox"}],
}


def playbook(folder: Path, name: str = "book", **sections: Any) -> Path:
    """A folder with the base playbook and these sections; returns its path."""
    target = folder / name
    target.mkdir(exist_ok=True)
    (target / "playbook.yaml").write_text(yaml.safe_dump(BASE | sections, allow_unicode=True), encoding="utf-8")
    return target


class Promises(Desk):
    """The desk with words for clocks, and its gateway at `door`."""

    door: Door
    admin: str
    home: Path
    forget: Callable[[], None]
    """Lets the gateway ask for the current version again, which it else does each second."""

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, key: str | None = None) -> Reply:
        """One request with the administrator's key (or another), and what follows from it now."""
        reply = self.door.call(
            method, path, body, authorization=f"Bearer {key or self.admin}", content_type="application/json"
        )
        self.settle()
        return reply

    def post(self, **members: Any) -> str:
        """A ticket over HTTP; its id."""
        ticket = {"subject": "no paper", "source": "web", "requester": {"id": "c1", "name": "C"}} | members
        reply = self.call("POST", "/v1/tickets", ticket)
        assert reply.status == 202, reply.body
        return str(reply.json["id"])

    def does(self, ticket: str, action: str, person: str = "anna", **members: Any) -> Reply:
        """A person's (or `c1`'s) action over HTTP; must succeed."""
        kind = "customer" if person == "c1" else "automation" if person.startswith("bot") else "person"
        body = {"action": action, "actor": {"kind": kind, "id": person}} | members
        reply = self.call("POST", f"/v1/tickets/{ticket}/actions", body)
        assert reply.status == 200, reply.body
        return reply

    def ticket_of(self, ticket: str) -> dict[str, Any]:
        """The ticket over HTTP."""
        reply = self.call("GET", f"/v1/tickets/{ticket}")
        assert reply.status == 200, reply.body
        return dict(reply.json)

    def clocks(self, ticket: str) -> dict[tuple[str, int], dict[str, Any]]:
        """Its clocks by (metric, cycle), instants as datetimes."""
        found = {}
        for clock in self.ticket_of(ticket)["clocks"]:
            for name, value in clock.items():
                if name.endswith("_at") and isinstance(value, str):
                    clock[name] = datetime.fromisoformat(value)
                elif name == "warned_at":
                    clock[name] = [datetime.fromisoformat(one) for one in value]
            found[clock["metric"], clock["cycle"]] = clock
        return found

    def events(self, ticket: str, *types: str) -> list[Any]:
        """Its events of these types (all when none is named), oldest first."""
        rows = self.rows("select * from ledger.event where kind = 'ticket' and id = %s order by version", int(ticket))
        return [row for row in rows if not types or row.type in types]


@contextmanager
def promising(database_url: str, folder: Path, **sections: Any) -> Iterator[Promises]:
    """A desk under a playbook with these sections."""
    desk = Promises(database_url, str(playbook(folder, **sections)))
    desk.home = folder
    with door_of(desk.settings) as (door, context):
        desk.door, desk.forget = door, context.deps.playbooks.forget
        with desk.database.begin() as connection:
            every = frozenset({"person", "customer", "automation"})
            desk.admin = keys.create(connection, name="admin", roles=frozenset({"admin"}), act_for=every)
        yield desk
    desk.close()


def signalbox(*arguments: str) -> int:
    """The command, in this process, over the servers that the environment names."""
    return main(arguments)


def commands_on(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of this test work on the desk's database; nobody hears a doorbell."""
    monkeypatch.setenv("SIGNALBOX_DATABASE_URL", database_url)
    monkeypatch.setenv("SIGNALBOX_REDIS_URL", "redis://127.0.0.1:1/0")


def apply(desk: Promises, *options: str, **sections: Any) -> int:
    """`signalbox apply` of the base playbook with these sections, and what follows from it now; the exit code."""
    done = signalbox("apply", str(playbook(desk.home, **sections)), *options)
    desk.settle()
    desk.forget()
    return done
