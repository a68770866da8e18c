"""Nothing stands still unseen: stalls, chains, acknowledgement, pauses, and the auditor, through the services."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.escalation.auditing import Auditor
from shared.ticket import commands as c
from tests.support.world import START, World, world, write_playbook

PLAYBOOK = """
name: chains
zone: UTC
triage: desk
groups:
  desk: {members: [ann]}
  back: {members: [bob]}
agents:
  vp: {roles: [lead]}
  boss: {roles: [lead], manager: vp}
  ann: {manager: boss}
  bob: {manager: boss}
  oona: {roles: [lead]}
fields:
  quiet: {type: bool}
  loud: {type: bool}
taxonomy:
  priority: {values: [urgent, high, normal], default: normal}
rules:
  - name: whose
    matches: first
    rules:
      - {name: all, default: true, then: {group: desk}}
calendars:
  night: {tz: UTC, weekly: {mon-sun: ["04:00-05:00"]}}
sla:
  - {name: all, targets: {resolution: 10h}, warn: [1h]}
flows:
  - name: quietly
    responsible: {ticket: true}
    nodes:
      - {name: work, expected: 1h, next: wait}
      - name: wait
        timers: [{after: 30m, to: later}]
        expected: 2h
        chain: own
        next: done
      - {name: later, next: done}
      - {name: done, kind: end}
chains:
  - name: stall
    steps:
      - {actions: [urge]}
      - {after: 10m, targets: [{manager: 1}]}
      - {after: 10m, targets: [{manager: 2}, {person: oona, copy: true}], actions: [raise_priority, {do: task_group, to: together}]}
    repeat: {every: 30m, max: 1}
    acknowledge: {expires: 1h}
    fallback: vp
  - name: own
    steps:
      - {before: 20m, relative_to: due, targets: [{person: oona}]}
      - {relative_to: due, targets: [{manager: 1}]}
    fallback: vp
  - name: breach
    steps:
      - {before: 2h, relative_to: due, targets: [{manager: 1}]}
      - {relative_to: due, targets: [{manager: 2}]}
    fallback: vp
  - name: hand
    steps:
      - {targets: [{person: oona}]}
      - {after: 20m, allowed_hours: night, targets: [{manager: 1}]}
      - {after: 0s, actions: [{do: reassign, to: back}]}
    fallback: vp
watch:
  - {on: node, chain: stall, when: {kind: quietly, fields.loud: true}}
  - {on: unaccepted, chain: stall, after: 30m, when: {fields.loud: true}}
  - {on: sla.breached, chain: breach, when: {fields.loud: true}}
  - {on: manual, chain: hand}
"""


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[World]:
    with world(database_url, write_playbook(tmp_path / "chains", PLAYBOOK)) as made:
        yield made


def _steps(desk: World, ticket: int) -> list[tuple[float, tuple[str, ...], str | None]]:
    """Minutes since the start, who was told, who was urged; of every step."""
    return [
        ((one.happened_at - START) / timedelta(minutes=1), one.data.targets, one.data.urged)
        for one in desk.events(ticket, "escalation.stepped")
    ]


def test_a_stall_that_no_rule_watches_is_recorded_once_however_often_the_ticket_is_looked_at(desk: World) -> None:
    number = desk.open(kind="quietly")
    desk.done(number, c.Accept(), "ann")
    desk.wait(hours=2)
    for _ in range(3):
        desk.done(number, c.Note(text="still at it"), "ann")
        desk.done(number, c.Set(fields={"quiet": True}), "ann")
        desk.done(number, c.Set(fields={"quiet": False}), "ann")
    assert desk.types(number).count("node.stalled") == 1
    assert desk.one("select count(*) from escalation.stall") == 1


def test_a_stalled_node_is_urged_then_goes_up_the_chain_and_is_recorded_with_level_and_shares(desk: World) -> None:
    number = desk.open(kind="quietly", fields={"loud": True})
    desk.done(number, c.Accept(), "ann")
    desk.wait(minutes=40)
    desk.done(number, c.Transfer(agent="bob"), "ann")
    desk.done(number, c.Accept(), "bob")
    desk.wait(minutes=45)
    assert _steps(desk, number)[:3] == [(60, (), "bob"), (70, ("boss",), None), (80, ("vp",), None)]
    stalled = desk.events(number, "node.stalled")[0].data
    assert (stalled.owner, stalled.dwell_seconds, stalled.shares) == ("bob", 3600, {"ann": 2400, "bob": 1200})
    assert desk.one("select level from escalation.stall") == 3
    ticket = desk.ticket(number)
    assert ticket.priority == "high"
    assert [(one.title, one.owner, one.state) for one in ticket.tasks] == [("together", "vp", "open")]


def test_a_restart_of_everything_in_the_middle_of_a_chain_leaves_the_next_step_at_its_instant(desk: World) -> None:
    number = desk.open(kind="quietly", fields={"loud": True})
    desk.done(number, c.Accept(), "ann")
    desk.wait(minutes=65)
    assert _steps(desk, number) == [(60, (), "ann")]
    desk.restart()
    desk.wait(minutes=30)
    assert _steps(desk, number) == [(60, (), "ann"), (70, ("boss",), None), (80, ("vp",), None)]


def test_completing_the_node_ends_its_chain(desk: World) -> None:
    number = desk.open(kind="quietly", fields={"loud": True})
    desk.done(number, c.Accept(), "ann")
    desk.wait(minutes=65)
    assert desk.ticket(number).escalation == 1
    ticket = desk.done(number, c.CompleteNode(node="work"), "ann")
    assert (ticket.escalation, ticket.running) == (None, ())
    desk.wait(minutes=10)
    assert len(_steps(desk, number)) == 1


def test_an_acknowledgement_reaches_its_own_chain_only_expires_and_resumes_at_the_same_step(desk: World) -> None:
    number = desk.open(kind="quietly", fields={"loud": True})
    desk.done(number, c.Accept(), "ann")
    desk.wait(minutes=71)
    desk.done(number, c.Escalate(), "ann")  # the running chain's next step, now
    assert [minute for minute, _, _ in _steps(desk, number)] == [60, 70, 71]
    desk.done(number, c.Acknowledge(), "vp")
    ticket = desk.ticket(number)
    assert (ticket.escalation, ticket.held, ticket.holders) == (None, (1,), ("vp",))
    assert desk.act(number, c.Acknowledge(), "vp").refused is None  # again, harmless
    desk.wait(minutes=59)
    assert len(_steps(desk, number)) == 3
    desk.wait(minutes=2)
    assert _steps(desk, number)[3][:2] == (131, ("vp",))
    assert desk.ticket(number).escalation == 1


def test_a_pause_freezes_what_is_left_of_a_chains_delay_and_one_begun_while_paused_waits(desk: World) -> None:
    number = desk.open(fields={"loud": True})
    desk.wait(minutes=35)
    assert _steps(desk, number) == [(30, (), "ann")]
    desk.done(number, c.Pause(reason="customer"), "ann")
    desk.wait(hours=2)
    assert len(_steps(desk, number)) == 1
    desk.done(number, c.Resume(), "ann")
    desk.wait(minutes=6)
    assert _steps(desk, number)[1][0] == 160  # five of the ten minutes were left
    other = desk.open()
    desk.done(other, c.Pause(), "ann")
    desk.done(other, c.Escalate(), "ann")
    desk.wait(hours=1)
    assert _steps(desk, other) == []
    desk.done(other, c.Resume(), "ann")
    assert len(_steps(desk, other)) == 1


def test_an_assignment_that_is_paused_unaccepted_does_not_stall_meanwhile(desk: World) -> None:
    number = desk.open(fields={"loud": True})
    desk.wait(minutes=10)
    desk.done(number, c.Pause(), "ann")
    desk.wait(hours=1)
    desk.done(number, c.Resume(), "ann")
    desk.wait(minutes=19)
    assert desk.events(number, "node.stalled") == []
    desk.wait(minutes=2)
    assert desk.events(number, "node.stalled")[0].happened_at == START + timedelta(minutes=90)


def test_a_step_before_the_due_instant_comes_before_it_and_moves_with_it(desk: World) -> None:
    number = desk.open(fields={"loud": True})
    desk.done(number, c.Accept(), "ann")
    desk.wait(hours=1)
    desk.done(number, c.Pause(), "ann")
    desk.wait(hours=3)
    desk.done(number, c.Resume(), "ann")
    desk.wait(hours=10)
    due = desk.shown(number)["clocks"][0]["due_at"]
    assert due == START + timedelta(hours=13)
    assert [minute for minute, _, _ in _steps(desk, number)] == [11 * 60, 13 * 60]


def test_a_node_may_name_its_own_chain_and_its_timer_moves_the_case(desk: World) -> None:
    number = desk.open(kind="quietly")
    desk.done(number, c.Accept(), "ann")
    desk.done(number, c.CompleteNode(node="work"), "ann")
    assert desk.ticket(number).node == "wait"
    desk.wait(minutes=31)
    ticket = desk.ticket(number)
    assert (ticket.node, ticket.assignee) == ("later", "ann")
    moved = desk.events(number, "flow.moved")[-1]
    assert (moved.data.step, moved.happened_at, moved.actor.id) == (
        "expired",
        START + timedelta(minutes=30),
        "escalation",
    )


def test_escalate_now_waits_for_allowed_hours_then_reassigns_and_exhausts_to_the_fallback(desk: World) -> None:
    number = desk.open()
    desk.done(number, c.Escalate(reason="it burns"), "ann")
    assert _steps(desk, number) == [(0, ("oona",), None)]
    desk.wait(hours=1, minutes=59)
    assert len(_steps(desk, number)) == 1
    desk.wait(hours=3)
    assert [minute for minute, _, _ in _steps(desk, number)] == [0, 120, 120]  # 04:00, when the calendar opens
    ticket = desk.ticket(number)
    assert (ticket.group, ticket.assignee) == ("back", "bob")
    exhausted = desk.events(number, "escalation.exhausted")
    assert [one.data.fallback for one in exhausted] == ["vp"]
    assert ticket.escalation is None, [(o.type, o.data) for o in desk.events(number)]


def test_every_open_ticket_has_a_mover_and_an_instant_and_a_lost_one_is_found(desk: World) -> None:
    number = desk.open()
    assert desk.one("select mover from escalation.v_mover where ticket_id = %s", number) == "ann"
    auditor = Auditor(desk.deps)
    assert auditor.run_once() == []
    with desk.database.begin() as connection:
        connection.exec_driver_sql("update ledger.agenda set due_at = null where id = %s", (number,))
    desk.now += timedelta(days=2)
    desk.engine.start_at(desk.now)
    assert auditor.run_once() == [number]
    desk.engine.move_to(desk.now)
    assert auditor.run_once() == []


def test_what_waits_for_its_turn_after_an_outage_is_late_and_not_lost(desk: World) -> None:
    desk.open()
    desk.now += timedelta(days=2)
    desk.engine.start_at(desk.now)  # everything is due, and nobody has looked yet
    assert Auditor(desk.deps).run_once() == []
