"""`signalbox check` and `apply` say what people set by hand and the playbook would leave so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.control import cli
from tests.support.door import Door, open_door
from tests.support.servers import TestServers


@pytest.fixture(scope="module")
def door(servers: TestServers) -> Iterator[Door]:
    with servers.fresh_database() as url, open_door(url) as opened:
        yield opened


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("kept: ")]


def test_what_was_set_by_hand_is_listed_until_it_is_as_the_playbook_says(
    door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIGNALBOX_DATABASE_URL", str(door.settings.database_url))
    monkeypatch.setenv("SIGNALBOX_REDIS_URL", "redis://127.0.0.1:1")
    door.call("PATCH", "/v1/agents/huang.bo", {"presence": "away", "skills": {"wifi": 3}})
    door.call("PATCH", "/v1/agents/li.na", {"presence": "away"})
    door.call("PATCH", "/v1/agents/li.na", {"presence": "available"})
    leave = {"from_at": "2030-01-01T00:00:00Z", "to_at": "2030-01-02T00:00:00Z"}
    for days in ([leave], []):
        assert door.call("PATCH", "/v1/agents/wang.fang", {"leave": days}).status == 200
    expected = [
        "kept: huang.bo: presence is away, set by hand (the playbook says available)",
        'kept: huang.bo: skills is {"wifi":3}, set by hand (the playbook says {"wifi":2})',
    ]
    for command in (["check", "selected"], ["apply", "selected", "--preview"]):
        assert cli.main(command) == 0
        assert told(capsys) == expected


def test_a_system_that_is_away_does_not_keep_a_playbook_from_being_proven(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIGNALBOX_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    monkeypatch.setenv("SIGNALBOX_REDIS_URL", "redis://127.0.0.1:1")
    assert cli.main(["check", "selected"]) == 0
    said = capsys.readouterr()
    assert "selected: sound." in said.out
    assert "what was set by hand is not known" in said.err
