"""A chain through real processes: every one of them killed in its middle, its webhooks at a real endpoint, its task group."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.control.platform import RUN_ORDER
from shared.contracts.providers import standard
from tests.support.http_sink import Answer, HttpSink
from tests.support.running import RunningSystem, running
from tests.support.waiting import wait_for
from tests.support.world import write_playbook

SECRET = "whsec_" + base64.b64encode(b"what the plant and the desk share").decode()
DELAY = timedelta(seconds=15)
PLAYBOOK = """
name: plant
zone: UTC
triage: desk
groups:
  desk: {{members: [ann]}}
agents:
  ann: {{manager: boss}}
  boss: {{roles: [lead]}}
  eve: {{roles: [expert]}}
rules:
  - name: whose
    matches: first
    rules:
      - {{name: all, default: true, then: {{group: desk, kind: fault}}}}
flows:
  - name: fault
    responsible: {{ticket: true}}
    nodes:
      - {{name: work, expected: 1s, expected_in: wall, next: done}}
      - {{name: done, kind: end}}
chains:
  - name: standing
    steps:
      - {{actions: [urge, {{do: webhook, to: mes}}]}}
      - after: {delay}s
        targets: [{{manager: 1}}, {{role: expert}}]
        actions: [{{do: task_group, to: together}}, {{do: webhook, to: mes}}]
      - {{after: 1h, targets: [{{role: expert}}]}}
    fallback: boss
watch:
  - {{on: node, chain: standing}}
channels:
  - {{name: inbox, driver: inbox}}
  - {{name: mes, driver: webhook, base_url: "{url}/mes", secrets: {{secret: {{env: PLANT_SECRET}}}}, allow: ["127.0.0.0/8"]}}
  - name: other
    driver: webhook
    base_url: "{url}/other"
    secrets: {{secret: {{env: OTHER_SECRET}}}}
    allow: ["127.0.0.0/8"]
    weight: 1000
messages:
  default_locale: en
  rules:
    - name: plant
      on: [escalation.stepped]
      urgency: urgent
      audience: [{{to: [webhooks]}}]
      plan: [{{channel: webhook}}]
      templates: {{any: {{en: {{title: stands, text: "{{{{ ticket.number }}}} stands still"}}}}}}
    - name: people
      on: [escalation.stepped]
      urgency: urgent
      audience: [{{to: [targets, urged]}}]
      plan: [{{channel: inbox}}]
      templates: {{any: {{en: {{title: stands, text: "{{{{ ticket.number }}}} stands still"}}}}}}
"""


@pytest.fixture
def mes() -> Iterator[HttpSink]:
    with HttpSink() as sink:
        yield sink


@pytest.fixture
def system(
    database_url: str, redis_url: str, tmp_path: Path, mes: HttpSink, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunningSystem]:
    monkeypatch.setenv("PLANT_SECRET", SECRET)
    monkeypatch.setenv("OTHER_SECRET", "whsec_" + base64.b64encode(b"somebody else's").decode())
    book = write_playbook(tmp_path / "plant", PLAYBOOK.format(url=mes.url, delay=int(DELAY.total_seconds())))
    with running(database_url, redis_url, tmp_path, book, [RUN_ORDER[:2], RUN_ORDER[2:]]) as made:
        yield made


def steps(system: RunningSystem, ticket: str) -> list[dict[str, Any]]:
    story = system.call("GET", f"/v1/tickets/{ticket}/timeline?limit=200")["items"]
    return [one for one in story if one["type"] == "escalation.stepped"]


def next_instant(system: RunningSystem, ticket: str) -> datetime:
    with psycopg.connect(str(system.settings.database_url)) as connection:
        row = connection.execute(
            "select next_at from escalation.escalation where ticket_id = %s and ended_at is null", (int(ticket),)
        ).fetchone()
    assert row is not None
    found: datetime = row[0]
    return found


def test_every_process_killed_in_the_middle_of_a_chain_leaves_the_next_step_at_its_instant_and_its_webhooks_signed(
    system: RunningSystem, mes: HttpSink
) -> None:
    mes.script("/mes", Answer(status=503))  # the first call is refused once, and repeated
    ticket = str(system.call("POST", "/v1/tickets", {"subject": "press 7 stands", "source": "api"})["id"])
    first = wait_for(lambda: steps(system, ticket), 30)[0]
    due = next_instant(system, ticket)
    assert due == datetime.fromisoformat(first["happened_at"]) + DELAY

    dead = system.kill()
    assert datetime.now(UTC) < due
    assert len(dead) == 2
    for services in dead:
        system.start(*services)
    system.ready()
    back = datetime.now(UTC)

    second = wait_for(lambda: steps(system, ticket)[1:], 40)[0]
    at = datetime.fromisoformat(second["happened_at"])
    assert (
        due <= at < max(due, back) + timedelta(seconds=1)
    )  # a busy machine may need longer to start them than the chain waits
    assert set(second["data"]["targets"]) == {"boss", "eve"}
    assert system.call("GET", f"/v1/tickets/{ticket}")["tasks"][0]["title"] == "together"
    mine = system.call("GET", "/v1/todos?person=eve")["items"]
    assert [(one["ticket"], one["title"], one["owner"]) for one in mine] == [(ticket, "together", "boss")]

    calls = wait_for(lambda: len({one.headers["webhook-id"] for one in mes.to("/mes") if one.acknowledged}) == 2, 40)
    assert calls
    assert len(steps(system, ticket)) == 2
    for call in mes.to("/mes"):
        standard.verify([SECRET], call.headers, call.body, call.arrived_at)  # raises when it is not ours
        assert json.loads(call.body)["text"] == f"T-{ticket} stands still"
    assert mes.to("/other") == []  # an endpoint is called by its own name
    told = system.call("GET", f"/v1/deliveries?ticket={ticket}")["items"]
    assert sorted((one["recipient"], one["event"]) for one in told if one["recipient"] != "robot:mes") == [
        ("ann", "escalation.stepped"), ("boss", "escalation.stepped"), ("eve", "escalation.stepped"),
    ]  # fmt: skip
