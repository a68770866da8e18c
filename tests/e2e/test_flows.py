"""Tickets that go through a flow: nodes, owners, material, branches, joins, pauses, reopening."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from shared.ticket import commands as c
from tests.support.world import START, World, world, write_playbook

PLAYBOOK = """
name: flows
zone: Asia/Shanghai
triage: desk
groups:
  desk: {members: [ann, ben]}
  field: {members: [fay, gus]}
agents:
  boss: {roles: [lead]}
  ann: {manager: boss}
  ben: {manager: boss}
  fay: {manager: boss}
  gus: {manager: boss}
  quinn: {roles: [agent, quality]}
  sue: {roles: [agent, safety]}
fields:
  asset: {type: text}
  serial: {type: text}
calendars:
  day: {tz: Asia/Shanghai, weekly: {mon-fri: ["09:00-18:00"]}}
rules:
  - name: whose
    matches: first
    rules:
      - {name: all, default: true, then: {group: desk}}
sla:
  - {name: all, targets: {resolution: 24h, "node:fix": 2h}}
flows:
  - name: service
    calendar: day
    responsible: {ticket: true}
    needs: [{field: asset}]
    nodes:
      - name: triage
        stage: intake
        expected: 1h
        outcomes: [software, hardware]
        next:
          - {to: fix, when: {outcome: software}}
          - check
      - name: check
        responsible: {group: field}
        expected: 8h
        needs: [{field: serial}, {attachment: photo, count: 2}, {check: power_off}]
        jumps: [{to: triage}]
        next: fix
      - {name: fix, next: review}
      - {name: review, kind: fork, next: [quality, safety]}
      - {name: quality, responsible: {role: quality}, on_reject: vote, next: votes}
      - {name: safety, responsible: {role: safety}, on_reject: vote, next: votes}
      - name: votes
        kind: join
        next: [{to: done, when: {outcome: passed}}, {to: fix}]
      - {name: done, kind: end}
"""


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[World]:
    with world(database_url, write_playbook(tmp_path / "flows", PLAYBOOK)) as made:
        yield made


def _open(desk: World) -> int:
    return desk.open(kind="service", fields={"asset": "A1"})


def _nodes(desk: World, ticket: int) -> list[tuple[str, int, str | None]]:
    return [(one["name"], one["visit"], one["assignee"]) for one in desk.shown(ticket)["nodes"]]


def test_a_ticket_of_a_kind_with_a_flow_is_not_opened_without_its_material(desk: World) -> None:
    answer = desk.submit(kind="service")
    assert answer.ticket is None
    assert answer.missing == ("asset",)


def test_a_classified_ticket_stands_at_the_start_of_its_flow_and_is_given_to_the_groups_own_people(desk: World) -> None:
    ticket = desk.ticket(_open(desk))
    assert (ticket.node, ticket.visit, ticket.group) == ("triage", 1, "desk")
    assert ticket.assignee in ("ann", "ben")
    node = ticket.nodes[0]
    assert (node.stage, node.due_at, node.assignee) == ("intake", START + timedelta(hours=1), ticket.assignee)


def test_the_software_way_skips_the_hardware_check_and_stays_with_its_owner(desk: World) -> None:
    number = _open(desk)
    owner = desk.ticket(number).assignee
    desk.done(number, c.Accept(), str(owner))
    ticket = desk.done(number, c.CompleteNode(node="triage", outcome="software"), str(owner))
    assert (ticket.node, ticket.assignee, ticket.status) == ("fix", owner, "in_progress")
    assert desk.one("select count(*) from router.assignment where ended_at is null") == 1


def test_a_node_is_not_completed_while_material_is_missing_and_the_answer_lists_it(desk: World) -> None:
    number = _open(desk)
    desk.done(number, c.CompleteNode(node="triage", outcome="hardware"), "ann")
    ticket = desk.ticket(number)
    assert (ticket.node, ticket.group, ticket.assignee) == ("check", "field", ticket.assignee)
    assert ticket.assignee in ("fay", "gus")
    refused = desk.act(number, c.CompleteNode(node="check", material={"photo": ["a1"]}), "fay").refused
    assert refused is not None
    assert (refused.code, refused.missing) == ("material_missing", ("serial", "photo", "power_off"))
    desk.done(number, c.Waive(node="check", material="photo", reason="camera broken"), "boss")
    waived = desk.events(number, "flow.moved")[-1]
    assert (waived.data.step, waived.data.material, waived.data.reason, waived.actor.id) == (
        "waived", "photo", "camera broken", "boss",
    )  # fmt: skip
    given = c.CompleteNode(node="check", material={"power_off": True}, fields={"serial": "S1"})
    ticket = desk.done(number, given, str(ticket.assignee))
    assert ticket.node == "fix"
    assert ticket.fields["serial"] == "S1"
    again = desk.act(number, given, desk.events(number, "node.completed")[-1].actor.id)
    assert again.refused is None
    assert desk.ticket(number).version == ticket.version


def test_parallel_branches_have_owners_of_their_own_and_join_once(desk: World) -> None:
    number = _open(desk)
    desk.done(number, c.CompleteNode(node="triage", outcome="software"), "ann")
    desk.done(number, c.CompleteNode(node="fix"), "ann")
    assert sorted(_nodes(desk, number)) == [("quality", 1, "quinn"), ("safety", 1, "sue")]
    assert desk.ticket(number).group == "role:quality"
    assert desk.one("select count(*) from router.assignment where ended_at is null") == 2
    desk.done(number, c.Accept(), "sue")
    assert [one.accepted for one in desk.ticket(number).nodes] == [False, True]
    ticket = desk.done(number, c.CompleteNode(node="quality"), "quinn")
    assert (ticket.node, ticket.assignee, ticket.status) == ("safety", "sue", "in_progress")
    ticket = desk.done(number, c.CompleteNode(node="safety"), "sue")
    assert ticket.status == "resolved"
    assert desk.one("select count(*) from router.assignment where ended_at is null") == 0
    assert desk.types(number).count("node.completed") == 4


def test_a_vote_against_sends_the_case_back_and_its_owner_goes_on(desk: World) -> None:
    number = _open(desk)
    owner = str(desk.ticket(number).assignee)
    desk.done(number, c.CompleteNode(node="triage", outcome="software"), owner)
    desk.done(number, c.CompleteNode(node="fix"), owner)
    desk.done(number, c.CompleteNode(node="quality", outcome="rejected"), "quinn")
    assert _nodes(desk, number) == [("fix", 2, owner)]


def test_a_declared_jump_goes_back_and_an_undeclared_one_is_refused(desk: World) -> None:
    number = _open(desk)
    desk.done(number, c.CompleteNode(node="triage", outcome="hardware"), "ann")
    assert desk.act(number, c.Jump(node="check", to="fix"), "fay").refused.code == "unsafe_jump"
    ticket = desk.done(number, c.Jump(node="check", to="triage"), "fay")
    assert (ticket.node, ticket.visit, ticket.group) == ("triage", 2, "desk")


def test_a_pause_moves_the_nodes_instant_by_the_open_time_lost(desk: World) -> None:
    number = _open(desk)
    desk.wait(minutes=30)
    desk.done(number, c.Pause(reason="customer"), "ann")
    desk.wait(hours=24)
    ticket = desk.done(number, c.Resume(), "ann")
    assert ticket.nodes[0].due_at == START + timedelta(hours=25)


def test_a_ticket_is_not_resolved_past_its_flow_but_may_be_closed_and_goes_through_it_again(desk: World) -> None:
    number = _open(desk)
    assert desk.act(number, c.Resolve(), "ann").refused.code == "flow_open"
    ticket = desk.done(number, c.Close(reason="by mistake"), "boss")
    assert ticket.nodes == ()
    assert desk.one("select count(*) from router.assignment where ended_at is null") == 0
    ticket = desk.done(number, c.Reopen(), "boss")
    assert (ticket.node, ticket.visit, ticket.status) == ("triage", 2, "assigned")


def test_a_clock_runs_for_each_visit_of_a_node(desk: World) -> None:
    number = _open(desk)
    desk.done(number, c.CompleteNode(node="triage", outcome="software"), "ann")
    clocks = {one["metric"]: one for one in desk.shown(number)["clocks"]}
    assert clocks["node:fix"]["due_at"] == START + timedelta(hours=2)
    desk.wait(minutes=10)
    desk.done(number, c.CompleteNode(node="fix"), "ann")
    clocks = {one["metric"]: one for one in desk.shown(number)["clocks"]}
    assert clocks["node:fix"]["state"] == "met"


def test_a_branch_that_nobody_can_take_waits_and_is_given_when_somebody_is_there(desk: World) -> None:
    desk.presence("sue", "away")
    number = _open(desk)
    desk.done(number, c.CompleteNode(node="triage", outcome="software"), "ann")
    desk.done(number, c.CompleteNode(node="fix"), "ann")
    assert sorted(_nodes(desk, number)) == [("quality", 1, "quinn"), ("safety", 1, None)]
    queued = desk.events(number, "ticket.queued")
    assert [(one.data.node, one.data.visit) for one in queued] == [("safety", 1)]
    desk.wait(minutes=3)
    assert len(desk.events(number, "ticket.queued")) == 1  # said once, however often it is looked at
    desk.presence("sue", "available")
    desk.wait(minutes=1)
    assert sorted(_nodes(desk, number)) == [("quality", 1, "quinn"), ("safety", 1, "sue")]
