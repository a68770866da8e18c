"""`signalbox key`: keys are made and shown once, act as their person, and are refused when they are revoked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from services.control import cli
from tests.support.door import Door, open_door
from tests.support.servers import TestServers
from tests.support.wait import until

Key = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def door(servers: TestServers) -> Iterator[Door]:
    with servers.fresh_database() as url, open_door(url) as opened:
        yield opened


@pytest.fixture
def key(door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Key:
    """Runs the command; gives its exit code and what it said on both outputs."""
    monkeypatch.setenv("SIGNALBOX_DATABASE_URL", str(door.settings.database_url))
    monkeypatch.setenv("SIGNALBOX_REDIS_URL", "redis://127.0.0.1:1")

    def run(*given: str) -> tuple[int, str, str]:
        code = cli.main(["key", *given])
        said = capsys.readouterr()
        return code, said.out.strip(), said.err

    return run


def test_a_personal_key_acts_as_its_person_with_the_roles_of_the_playbook(door: Door, key: Key) -> None:
    code, made, _ = key("create", "Sun Li's phone", "--person", "sun.li")
    assert code == 0
    ticket = door.open(subject="the printer is out of paper")
    assert door.act(ticket, "note", key=made, text="seen").status == 200
    timeline = door.get(f"/v1/tickets/{ticket}/timeline").json["items"]
    assert timeline[-1]["actor"] == {"kind": "person", "id": "sun.li"}
    listed = key("list")[1].splitlines()
    assert any(line.endswith("Sun Li's phone: agent lead, person sun.li") for line in listed)
    assert all(made not in line for line in listed)


def test_a_revoked_key_is_refused(door: Door, key: Key) -> None:
    made = key("create", "portal", "--role", "integrator", "--act-for", "customer")[1]
    assert door.get("/v1/tickets", key=made).status == 200
    number = next(
        line.split()[0] for line in key("list")[1].splitlines() if " portal: integrator, acts for customer" in line
    )
    assert key("revoke", number)[0] == 0
    until(lambda: door.get("/v1/tickets", key=made).status == 401, seconds=10, what="the key is refused")
    assert "revoked 20" in key("list")[1]
    assert key("revoke", number)[2] == f"signalbox: key revoke: no key {number} is in force (signalbox key list)\n"


@pytest.mark.parametrize("given", [("--person", "nobody"), ("--person", "nobody", "--role", "agent")])
def test_a_key_is_for_somebody_who_is_there(key: Key, given: tuple[str, ...]) -> None:
    code, out, err = key("create", "x", *given)
    assert (code, out) == (1, "")
    assert err == "signalbox: key create: there is nobody called 'nobody' in the published playbook\n"


def test_a_key_of_nobody_names_its_roles(key: Key) -> None:
    assert key("create", "x")[2] == "signalbox: key create: name its --role, or the --person it is for\n"
