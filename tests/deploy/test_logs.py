"""One ticket can be followed through the logs of all services by its id, and what one request set off by its correlation id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.control.platform import RUN_ORDER
from tests.support.running import RunningSystem, quick_playbook, running
from tests.support.smtp_sink import SmtpSink
from tests.support.waiting import wait_for


@pytest.fixture
def system(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[RunningSystem]:
    with SmtpSink() as mail:
        playbook = quick_playbook(tmp_path / "playbook", mail.port)
        # two processes: lines of services that share one, and of another, are told apart by what they say
        with running(database_url, redis_url, tmp_path, playbook, [RUN_ORDER[:2], RUN_ORDER[2:]]) as made:
            yield made


def test_a_tickets_way_can_be_followed_through_the_logs_by_ticket_event_and_correlation_id(
    system: RunningSystem,
) -> None:
    opened = system.call(
        "POST", "/v1/tickets", {"subject": "全院网络瘫痪", "source": "web"}, **{"X-Request-Id": "call-1"}
    )
    ticket = opened["id"]
    owner = wait_for(lambda: system.call("GET", f"/v1/tickets/{ticket}")["assignee"], 60)
    wait_for(lambda: _way(system, ticket, {"sla.started"}), 60)
    by = {"actor": {"kind": "person", "id": owner}}
    system.call("POST", f"/v1/tickets/{ticket}/actions", {"action": "accept"} | by, **{"X-Request-Id": "call-2"})
    way = wait_for(lambda: _way(system, ticket, {"ticket.accepted", "sla.breached", "delivery.sent"}), 60)
    assert all(line["event_id"] and line["correlation"] and line["timestamp"] for line in way)
    of_ticket = [line["event_id"] for line in way if not line["type"].startswith("delivery.")]
    recorded = system.call("GET", f"/v1/tickets/{ticket}/timeline?limit=200")["items"]
    assert sorted(of_ticket) == sorted(f"ticket-{ticket}-{one['version']}" for one in recorded[: len(of_ticket)])
    by_type = {line["type"]: line for line in way}
    set_off = {kind for kind, line in by_type.items() if line["correlation"] == "call-1"}
    assert {"ticket.opened", "ticket.classified", "ticket.assigned", "sla.started"} <= set_off
    assert by_type["ticket.accepted"]["correlation"] == "call-2"
    assert by_type["ticket.accepted"]["actor"] == f"person:{owner}"
    assert by_type["delivery.sent"]["correlation"] == f"ticket-{ticket}"
    assert {line["actor"] for line in way} >= {"service:router", "service:sla", "service:notifier"}
    assert {line["service"] for line in way} == {"gateway+router", "sla+escalation+notifier"}
    assert all(line["service"] for line in system.lines())


def _way(system: RunningSystem, ticket: str, wanted: set[str]) -> list[dict[str, Any]] | None:
    lines = [line for line in system.lines() if line.get("ticket") == ticket]
    return lines if wanted <= {line["type"] for line in lines} else None
