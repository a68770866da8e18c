"""What an acknowledgement stops: the chain, and the messages that have not gone yet; and who may waive what a node asks for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.ticket import commands as c
from tests.support.world import World, world, write_playbook

PLAYBOOK = """
name: quiet
zone: UTC
triage: desk
groups: {desk: {members: [ann]}}
agents:
  ann: {manager: boss}
  boss: {roles: [lead], contacts: {email: boss@desk.example}}
  vp: {roles: [lead], contacts: {email: vp@desk.example}}
rules: [{name: whose, matches: first, rules: [{name: all, default: true, then: {group: desk, kind: job}}]}]
flows:
  - name: job
    responsible: {ticket: true}
    nodes:
      - {name: work, expected: 1h, expected_in: wall, needs: [{check: tested}, {check: signed, waivable: false}], next: done}
      - {name: done, kind: end}
chains:
  - name: up
    steps: [{targets: [{manager: 1}]}, {after: 30m, targets: [{person: vp}]}]
    fallback: boss
watch: [{on: node, chain: up}]
channels:
  - {name: inbox, driver: inbox}
  - {name: mail, channel: mail, driver: smtp, base_url: "smtp://127.0.0.1:9", settings: {from_address: a@desk.example}, allow: ["127.0.0.0/8"]}
messages:
  default_locale: en
  rules:
    - name: escalated
      on: [escalation.stepped]
      urgency: urgent
      audience: [{to: [targets]}]
      plan: [{channel: inbox}, {channel: mail, wait: 10m, until: acknowledged}]
      templates: {any: {en: {title: stands, text: "{{ ticket.number }} stands still"}}}
"""  # noqa: E501


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[World]:
    with world(database_url, write_playbook(tmp_path / "quiet", PLAYBOOK)) as made:
        yield made


def messages(desk: World, ticket: int) -> list[tuple[str, str, str]]:
    items: list[dict[str, Any]] = desk.get(f"/v1/deliveries?ticket={ticket}")["items"]
    return sorted((one["recipient"], one["channel"], one["state"]) for one in items)


def stalled(desk: World) -> int:
    number = desk.open()
    desk.done(number, c.Accept(), "ann")
    desk.wait(minutes=61)
    return number


def test_an_acknowledgement_stops_the_chain_and_the_message_that_has_not_gone_yet(desk: World) -> None:
    number = stalled(desk)
    assert messages(desk, number) == [("boss", "inbox", "sent"), ("boss", "mail", "planned")]
    desk.done(number, c.Acknowledge(), "boss")
    desk.wait(hours=2)
    assert messages(desk, number) == [("boss", "inbox", "sent"), ("boss", "mail", "cancelled")]
    assert len(desk.events(number, "escalation.stepped")) == 1


def test_without_one_the_message_goes_when_its_time_comes_and_the_chain_goes_on(desk: World) -> None:
    number = stalled(desk)
    desk.wait(minutes=10)
    assert ("boss", "mail", "planned") not in messages(desk, number)
    assert ("boss", "mail", "cancelled") not in messages(desk, number)
    desk.wait(minutes=30)
    assert [one.data.targets for one in desk.events(number, "escalation.stepped")] == [("boss",), ("vp",)]


def test_a_waiver_needs_the_right_and_a_reason_and_is_on_the_record_with_who_gave_it(desk: World) -> None:
    number = desk.open()
    path = f"/v1/tickets/{number}/actions"
    waive = {"action": "waive", "node": "work", "material": "tested", "reason": "no bench free"}
    desk.call("POST", path, waive, status=403, person="ann", roles=("agent",))
    desk.call("POST", path, waive | {"reason": " "}, status=422, person="boss", roles=("lead",))
    refused = desk.call("POST", path, waive | {"material": "signed"}, status=409, person="boss", roles=("lead",))
    assert "cannot be waived" in refused["detail"]
    desk.call("POST", path, waive, person="boss", roles=("lead",))
    missing = desk.call(
        "POST", path, {"action": "complete_node", "node": "work"}, status=409, person="ann", roles=("agent",)
    )
    assert missing["missing"] == ["signed"]
    items = desk.get(f"/v1/tickets/{number}/timeline?limit=200")["items"]
    (waived,) = [one for one in items if one["type"] == "flow.moved" and one["data"]["step"] == "waived"]
    assert (waived["actor"]["id"], waived["data"]["material"], waived["data"]["reason"]) == (
        "boss",
        "tested",
        "no bench free",
    )
    done = desk.call(
        "POST",
        path,
        {"action": "complete_node", "node": "work", "material": {"signed": True}},
        person="ann",
        roles=("agent",),
    )
    assert done["status"] == "resolved"
