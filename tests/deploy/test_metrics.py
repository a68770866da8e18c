"""Every metric of the contract is fed by the process it belongs to, and has a plausible value after one ticket's way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from services.control.platform import RUN_ORDER
from shared.ledger.invariants import INVARIANTS
from shared.runtime.version import VERSION
from tests.support.running import RunningSystem, quick_playbook, running
from tests.support.smtp_sink import SmtpSink
from tests.support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
WORKERS = RUN_ORDER[1:]


@dataclass(frozen=True)
class Way:
    """A running system in which one ticket went all the way: assigned, announced by mail, late, escalated, answered."""

    system: RunningSystem
    ticket: str
    shown: dict[str, dict[str, list[tuple[dict[str, str], float]]]]

    def value(self, shown_by: str, name: str, /, **labels: str) -> float:
        """The sum of a service's samples with these labels; fails when there is none."""
        found = [v for given, v in self.shown[shown_by].get(name, []) if labels.items() <= given.items()]
        assert found, f"{shown_by} shows no {name}{labels}"
        return sum(found)


def _answered(system: RunningSystem, ticket: str) -> Any:
    story = system.call("GET", f"/v1/tickets/{ticket}/timeline?limit=200")["items"]
    types = {one["type"] for one in story}
    return types if {"sla.breached", "escalation.stepped", "ticket.assigned"} <= types else None


@pytest.fixture(scope="module")
def way(servers: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    folder = tmp_path_factory.mktemp("metrics")
    with servers.fresh_database() as database, servers.fresh_redis() as redis, SmtpSink() as mail:
        playbook = quick_playbook(folder / "playbook", mail.port)
        with running(database, redis, folder, playbook) as system:
            opened = system.call("POST", "/v1/tickets", {"subject": "全院网络瘫痪", "source": "web"})
            system.call("POST", "/v1/tickets", {"subject": "x", "source": "nobody-declared-this"})
            wait_for(lambda: _answered(system, opened["id"]), 60)
            wait_for(lambda: mail.messages, 60)
            owner = system.call("GET", f"/v1/tickets/{opened['id']}")["assignee"]
            by = {"actor": {"kind": "person", "id": owner}}
            system.call("POST", f"/v1/tickets/{opened['id']}/actions", {"action": "accept"} | by)
            wait_for(lambda: _complete(system), 90)
            yield Way(system, opened["id"], {name: system.scrape(name) for name in RUN_ORDER})


def _complete(system: RunningSystem) -> bool:
    """Whether the loops that sample have come round since the ticket moved."""
    clocks = dict.fromkeys(("sla", "notifier"))
    for name in clocks:
        clocks[name] = system.scrape(name)
    breached = [v for labels, v in clocks["sla"].get("signalbox_sla_clocks", []) if labels["state"] == "breached"]
    checked = any(_invariants(system.scrape(name)) for name in RUN_ORDER)
    caught_up = all(
        value < 5
        for name in WORKERS
        for _, value in system.scrape(name).get("signalbox_agenda_oldest_due_seconds", [({}, 99.0)])
    )
    return sum(breached) >= 2 and caught_up and checked and "signalbox_delivery_seconds_count" in clocks["notifier"]


@pytest.mark.parametrize("service", WORKERS)
def test_each_worker_shows_its_lag_depth_quarantine_and_what_it_handled(way: Way, service: str) -> None:
    for lane in ("urgent", "normal", "bulk"):
        assert 0 <= way.value(service, "signalbox_agenda_oldest_due_seconds", service=service, lane=lane) < 5
        assert 0 <= way.value(service, "signalbox_agenda_depth", service=service, lane=lane, state="due") < 5
        assert way.value(service, "signalbox_agenda_depth", service=service, lane=lane, state="armed") >= 0
    assert way.value(service, "signalbox_quarantine", service=service) == 0
    handled = way.value(service, "signalbox_handled_total", service=service, outcome="done")
    assert handled >= 2
    assert way.value(service, "signalbox_batch_size_sum", service=service) == handled
    assert 0 < way.value(service, "signalbox_handle_seconds_sum", service=service) < 60
    assert way.value(service, "signalbox_database_up") == 1
    assert way.value(service, "signalbox_redis_up") == 1
    assert way.value(service, "signalbox_build_info", version=VERSION) == 1


@pytest.mark.parametrize(
    ("service", "loops"),
    [
        ("gateway", {"health", "intake", "agenda", "heartbeats", "invariants", "retention"}),
        ("router", {"dispatch", "timer", "agenda", "heartbeats", "invariants"}),
        ("sla", {"dispatch", "clocks"}),
        ("escalation", {"dispatch"}),
        ("notifier", {"dispatch", "recorder", "circuits"}),
    ],
)
def test_every_loop_beats(way: Way, service: str, loops: set[str]) -> None:
    beats = {
        labels["loop"]: at
        for labels, at in way.shown[service]["signalbox_loop_heartbeat_seconds"]
        if labels["service"] == service
    }
    assert loops <= beats.keys()
    newest = max(beats.values())
    assert all(newest - at < 120 for at in beats.values())


def test_nobody_is_paged_for_a_loop_that_comes_round_more_seldom_than_the_alert_waits(way: Way) -> None:
    groups = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]
    [rule] = [rule for group in groups for rule in group["rules"] if rule.get("alert") == "SignalboxLoopSilent"]
    found = re.search(r'loop!~"(.+)"} > (\d+)', rule["expr"])
    assert found is not None
    with psycopg.connect(str(way.system.settings.database_url)) as connection:
        periods = connection.execute("select loop, max(period_seconds) from ledger.heartbeat group by 1").fetchall()
    seldom = {loop for loop, period in periods if period > float(found[2]) / 2}
    assert "forgetting" in seldom
    assert not {loop for loop in seldom if not re.fullmatch(found[1], loop)}


def test_the_gateway_counts_tickets_by_declared_source_and_shows_the_lag_of_services_that_may_be_down(way: Way) -> None:
    assert way.value("gateway", "signalbox_tickets_total", source="web", outcome="accepted") == 1
    assert way.value("gateway", "signalbox_tickets_total", source="other", outcome="accepted") == 1
    sources = {labels["source"] for labels, _ in way.shown["gateway"]["signalbox_tickets_total"]}
    assert "nobody-declared-this" not in sources
    shown = {labels["service"] for labels, _ in way.shown["gateway"]["signalbox_agenda_oldest_due_seconds"]}
    assert shown == set(WORKERS)


def test_the_router_shows_how_long_assigning_took(way: Way) -> None:
    assert way.value("router", "signalbox_assign_seconds_count", lane="urgent") == 1
    assert 0 < way.value("router", "signalbox_assign_seconds_sum", lane="urgent") < 5


def test_the_sla_service_shows_live_clocks_breaches_and_how_late_its_timers_were(way: Way) -> None:
    assert way.value("sla", "signalbox_sla_clocks", metric="first_response", state="breached") == 2
    assert way.value("sla", "signalbox_sla_clocks", metric="resolution", state="running") == 2
    assert way.value("sla", "signalbox_sla_breaches_total", metric="first_response", priority="urgent") == 1
    late = way.value("sla", "signalbox_timer_lateness_seconds_sum", service="sla")
    assert 0 <= late / way.value("sla", "signalbox_timer_lateness_seconds_count", service="sla") < 1


def test_escalation_counts_what_was_raised_and_each_step_by_level(way: Way) -> None:
    assert way.value("escalation", "signalbox_escalations_total", level="0", outcome="raised") >= 1
    assert way.value("escalation", "signalbox_escalations_total", level="1", outcome="stepped") >= 1


def test_the_notifier_counts_deliveries_by_provider_and_shows_their_time_and_the_circuits(way: Way) -> None:
    assert way.value("notifier", "signalbox_deliveries_total", channel="mail", provider="mail", outcome="accepted") >= 1
    assert way.value("notifier", "signalbox_deliveries_total", channel="inbox", outcome="accepted") >= 1
    assert 0 < way.value("notifier", "signalbox_delivery_seconds_sum", channel="mail") < 60
    assert way.value("notifier", "signalbox_provider_breaker", provider="mail", state="closed") == 1
    assert way.value("notifier", "signalbox_provider_breaker", provider="mail", state="open") == 0


def test_exactly_one_process_checks_the_invariants_and_all_hold(way: Way) -> None:
    checking = [found for name in RUN_ORDER if (found := _invariants(way.shown[name]))]
    assert checking == [dict.fromkeys((one.name for one in INVARIANTS), 0)]


def _invariants(shown: dict[str, list[tuple[dict[str, str], float]]]) -> dict[str, float]:
    """The ledger's invariants as one process shows them (services may show more, of their own)."""
    found = {labels["invariant"]: value for labels, value in shown.get("signalbox_invariant_violations", [])}
    return {one.name: found[one.name] for one in INVARIANTS if one.name in found}


def test_services_that_share_a_process_each_show_their_own_metrics_and_nothing_twice(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    with running(database_url, redis_url, tmp_path, "selected", [RUN_ORDER]) as system:
        opened = system.call("POST", "/v1/tickets", {"subject": "打印机不出纸", "source": "web"})
        wait_for(lambda: system.call("GET", f"/v1/tickets/{opened['id']}")["assignee"], 60)
        shown = wait_for(lambda: _all_five(system), 60)
    assert [name for name in RUN_ORDER if "signalbox_tickets_total" in shown[name]] == ["gateway"]
    assert [name for name in RUN_ORDER if "signalbox_assign_seconds_count" in shown[name]] == ["router"]
    for name in WORKERS:
        assert {labels["service"] for labels, _ in shown[name]["signalbox_handled_total"]} == {name}
    assert all(shown[name]["signalbox_build_info"] for name in RUN_ORDER)


def _all_five(system: RunningSystem) -> Any:
    shown = {name: system.scrape(name) for name in RUN_ORDER}
    return shown if all("signalbox_handled_total" in shown[name] for name in WORKERS) else None
