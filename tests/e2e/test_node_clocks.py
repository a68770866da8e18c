"""A clock for each node of a flow, through the real services: it starts, warns, breaches, waits and ends with its own visit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.ticket import commands as c
from tests.support.world import START, World, world, write_playbook

PLAYBOOK = """
name: nodes
zone: UTC
triage: desk
groups:
  desk: {members: [ann]}
agents:
  boss: {roles: [lead]}
  ann: {manager: boss}
  quinn: {roles: [agent, quality], manager: boss}
  sue: {roles: [agent, safety], manager: boss}
rules:
  - {name: whose, matches: first, rules: [{name: all, default: true, then: {group: desk}}]}
sla:
  - name: all
    targets: {"node:look": 1h, "node:*": 3h}
    warn: [30m]
chains:
  - {name: up, steps: [{targets: [{manager: 1}]}]}
watch:
  - {on: sla.breached, chain: up}
flows:
  - name: case
    responsible: {ticket: true}
    nodes:
      - {name: look, next: review, jumps: [{to: mend}]}
      - {name: mend, next: review, jumps: [{to: look}]}
      - {name: review, kind: fork, next: [quality, safety]}
      - {name: quality, responsible: {role: quality}, next: both}
      - {name: safety, responsible: {role: safety}, next: both}
      - {name: both, kind: join, next: done}
      - {name: done, kind: end}
"""
Clocks = dict[tuple[str, int], dict[str, Any]]


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[World]:
    with world(database_url, write_playbook(tmp_path / "nodes", PLAYBOOK)) as made:
        yield made


def clocks(desk: World, number: int) -> Clocks:
    return {(one["metric"], one["cycle"]): one for one in desk.shown(number)["clocks"]}


def states(desk: World, number: int) -> dict[tuple[str, int], tuple[str, datetime | None]]:
    return {key: (one["state"], one["due_at"]) for key, one in clocks(desk, number).items()}


def told(desk: World, number: int, kind: str) -> list[tuple[str, datetime]]:
    return [(one.data.metric, one.happened_at) for one in desk.events(number, kind)]


def test_each_node_has_its_own_target_and_its_clock_ends_with_its_visit(desk: World) -> None:
    number = desk.open(kind="case")
    assert states(desk, number) == {("node:look", 1): ("running", START + timedelta(hours=1))}
    desk.wait(minutes=20)
    desk.done(number, c.CompleteNode(node="look"), "ann")
    at = START + timedelta(minutes=20)
    found = clocks(desk, number)
    assert (found["node:look", 1]["state"], found["node:look", 1]["stopped_at"]) == ("met", at)
    branches = {key: value for key, value in states(desk, number).items() if key[0] != "node:look"}
    assert branches == dict.fromkeys([("node:quality", 1), ("node:safety", 1)], ("running", at + timedelta(hours=3)))


def test_branches_warn_and_breach_apart_and_a_breach_reaches_the_manager(desk: World) -> None:
    number = desk.open(kind="case")
    desk.done(number, c.CompleteNode(node="look"), "ann")
    desk.wait(hours=1)
    desk.done(number, c.CompleteNode(node="quality"), "quinn")
    desk.wait(hours=1, minutes=45)
    due = START + timedelta(hours=3)
    assert told(desk, number, "sla.warned") == [("node:safety", due - timedelta(minutes=30))]
    assert told(desk, number, "sla.breached") == []
    desk.wait(minutes=30)
    assert told(desk, number, "sla.breached") == [("node:safety", due)]
    assert desk.events(number, "escalation.stepped")[-1].data.targets == ("boss",)
    found = clocks(desk, number)
    assert (found["node:quality", 1]["state"], found["node:safety", 1]["breached_at"]) == ("met", due)
    desk.done(number, c.CompleteNode(node="safety"), "sue")
    assert clocks(desk, number)["node:safety", 1]["state"] == "breached"
    assert desk.ticket(number).status == "resolved"
    assert desk.ticket(number).escalation is None


def test_a_jump_cancels_the_clock_of_the_node_it_leaves_and_coming_back_is_a_new_cycle(desk: World) -> None:
    number = desk.open(kind="case")
    desk.wait(minutes=10)
    desk.done(number, c.Jump(node="look", to="mend"), "ann")
    desk.wait(minutes=10)
    desk.done(number, c.Jump(node="mend", to="look"), "ann")
    assert states(desk, number) == {
        ("node:look", 1): ("cancelled", START + timedelta(hours=1)),
        ("node:mend", 1): ("cancelled", START + timedelta(minutes=10, hours=3)),
        ("node:look", 2): ("running", START + timedelta(minutes=20, hours=1)),
    }
    desk.wait(hours=2)
    assert told(desk, number, "sla.breached") == [("node:look", START + timedelta(minutes=20, hours=1))]


def test_a_pause_of_the_ticket_stops_the_clock_of_its_node(desk: World) -> None:
    number = desk.open(kind="case")
    desk.wait(minutes=20)
    desk.done(number, c.Pause(reason="customer"), "ann")
    desk.wait(hours=5)
    (paused,) = clocks(desk, number).values()
    assert (paused["paused"], paused["due_at"], desk.events(number, "sla.warned")) == (True, None, [])
    desk.done(number, c.Resume(), "ann")
    assert clocks(desk, number)["node:look", 1]["due_at"] == START + timedelta(hours=6)
