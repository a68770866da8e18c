"""Working together on a ticket: mentions, todos, joint task groups, over the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from shared.ticket import commands as c
from tests.e2e.test_flows import PLAYBOOK
from tests.support.world import START, World, world, write_playbook

RULE = """
messages:
  rules:
    - name: mentioned
      on: [ticket.mentioned]
      audience: [{to: [mentioned]}]
      plan: [{channel: inbox}]
      templates: {any: {en: {title: you, text: "{{ ticket.number }}"}}}
"""


def _playbook(tmp_path: Path, tasks: str = "") -> Path:
    boss = "  boss: {roles: [lead]}"
    text = PLAYBOOK.replace(boss, f"{boss}\n  guest: {{roles: [customer]}}")
    return write_playbook(tmp_path / "flows", text + RULE + tasks)


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[World]:
    with world(database_url, _playbook(tmp_path)) as made:
        yield made


def test_a_mention_makes_a_todo_with_owner_state_and_due_instant_and_tells_its_owner(desk: World) -> None:
    number = desk.open()
    ticket = desk.done(number, c.Note(text="look at this, @ben", mentions=("ben",)), "ann")
    assert [(one.owner, one.state, one.due_at) for one in ticket.tasks] == [("ben", "open", START + timedelta(days=1))]
    assert desk.told(number, "ticket.mentioned") == ["ben"]
    todos = desk.call("GET", "/v1/todos", person="ben", roles=("agent",))["items"]
    assert [(one["ticket"], one["title"], one["late"]) for one in todos] == [(str(number), "look at this, @ben", False)]
    assert desk.call("GET", "/v1/todos", person="fay", roles=("agent",))["items"] == []
    desk.done(number, c.Progress(task=1, progress=100), "ben")
    assert desk.call("GET", "/v1/todos", person="ben", roles=("agent",))["items"] == []
    assert desk.call("GET", "/v1/todos?state=done", person="ben", roles=("agent",))["items"][0]["progress"] == 100


def test_somebody_who_may_not_read_the_ticket_cannot_be_mentioned(desk: World) -> None:
    number = desk.open()
    for stranger in ("guest", "nobody"):
        refused = desk.act(number, c.Note(text="psst", mentions=("ben", stranger)), "ann").refused
        assert refused is not None
        assert (refused.code, refused.reason) == ("cannot_read", f"may not read this ticket: {stranger}")
    assert desk.ticket(number).tasks == ()


def test_an_edited_note_tells_only_who_was_not_told_before(desk: World) -> None:
    number = desk.open()
    ticket = desk.done(number, c.Note(text="@ben", mentions=("ben",)), "ann")
    note = ticket.tasks[0].note
    assert note is not None
    desk.done(number, c.Progress(task=1, progress=100), "ben")
    ticket = desk.done(number, c.EditNote(note=note, text="@ben @fay", mentions=("ben", "fay")), "ann")
    assert [(one.owner, one.note) for one in ticket.tasks] == [("ben", note), ("fay", note)]
    assert sorted(desk.told(number, "ticket.mentioned")) == ["ben", "fay"]


def test_a_task_group_is_done_when_every_member_has_done_their_part(desk: World) -> None:
    number = desk.open()
    desk.done(number, c.OpenTask(title="find the cause", owner="ann", members=("ben", "fay")), "ann")
    desk.done(number, c.Progress(task=1, progress=50), "ben")
    refused = desk.act(number, c.Progress(task=1, progress=100, person="fay"), "ben").refused
    assert refused is not None
    assert refused.code == "not_owner"
    for person in ("ann", "ben", "fay"):
        assert desk.ticket(number).tasks[0].state == "open"
        desk.done(number, c.Progress(task=1, progress=100, person=person), "ann")
    assert desk.ticket(number).tasks[0].state == "done"


def test_open_tasks_close_with_the_ticket(desk: World) -> None:
    number = desk.open()
    desk.done(number, c.OpenTask(title="later", owner="ben"), "ann")
    ticket = desk.done(number, c.Resolve(), "ann")
    assert [one.state for one in ticket.tasks] == ["closed"]


def test_a_ticket_waits_for_its_tasks_where_the_playbook_says_so(database_url: str, tmp_path: Path) -> None:
    with world(database_url, _playbook(tmp_path, "tasks: {on_end: wait, due: 2h}\n")) as desk:
        number = desk.open()
        desk.done(number, c.OpenTask(title="first this", owner="ben"), "ann")
        refused = desk.act(number, c.Resolve(), "ann").refused
        assert refused is not None
        assert (refused.code, refused.reason) == ("tasks_open", "to be done first: first this")
        assert desk.ticket(number).tasks[0].due_at == START + timedelta(hours=2)
        desk.done(number, c.CloseTask(task=1, reason="not needed"), "ben")
        assert desk.done(number, c.Resolve(), "ann").status == "resolved"
