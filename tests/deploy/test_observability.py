"""Alerts, panels and runbooks agree with the code: every metric and label exists, every alert has its page, every rule its test."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "signalbox.json"
ADDED = {"job", "instance", "le"}
"""Labels that scraping and histograms add."""

CONTRACT = {
    "signalbox_agenda_oldest_due_seconds": {"service", "lane"},
    "signalbox_agenda_depth": {"service", "lane", "state"},
    "signalbox_handled_total": {"service", "outcome"},
    "signalbox_handle_seconds": {"service"},
    "signalbox_batch_size": {"service"},
    "signalbox_tickets_total": {"source", "outcome"},
    "signalbox_assign_seconds": {"lane"},
    "signalbox_timer_lateness_seconds": {"service"},
    "signalbox_sla_clocks": {"metric", "state"},
    "signalbox_sla_breaches_total": {"metric", "priority"},
    "signalbox_escalations_total": {"level", "outcome"},
    "signalbox_deliveries_total": {"channel", "provider", "outcome"},
    "signalbox_delivery_seconds": {"channel"},
    "signalbox_provider_breaker": {"provider", "state"},
    "signalbox_quarantine": {"service"},
    "signalbox_invariant_violations": {"invariant"},
    "signalbox_loop_heartbeat_seconds": {"service", "loop"},
    "signalbox_redis_up": set(),
    "signalbox_database_up": set(),
    "signalbox_build_info": {"version"},
}


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """Series names that the code can show, each with its labels."""
    for path in ROOT.glob("services/*/metrics.py"):
        import_module(f"services.{path.parent.name}.metrics")
    import_module("shared.runtime.metrics")
    found: dict[str, set[str]] = {}
    for collector in set(REGISTRY._names_to_collectors.values()):
        if isinstance(collector, MetricWrapperBase):
            for metric in collector.describe():
                for suffix in {"counter": ("_total",), "histogram": ("", "_bucket", "_sum", "_count")}.get(
                    metric.type, ("",)
                ):
                    found[metric.name + suffix] = set(collector._labelnames)
    return found


def alerts() -> list[dict[str, object]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    """(where, expression) of every alert and panel."""
    for rule in alerts():
        yield str(rule["alert"]), str(rule["expr"])
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def test_every_metric_of_the_contract_is_in_the_code_with_exactly_its_labels(known: dict[str, set[str]]) -> None:
    assert {name: known.get(name) for name in CONTRACT} == CONTRACT


def test_every_metric_and_label_that_an_alert_or_a_panel_asks_for_exists(known: dict[str, set[str]]) -> None:
    seen = 0
    for where, expression in expressions():
        for name, matchers in re.findall(r"(signalbox_\w+)(?:\{([^}]*)\})?", expression):
            assert name in known, f"{where}: {name} is shown by nobody"
            asked = set(re.findall(r"(\w+)\s*(?:=|!)~?", matchers))
            assert asked <= known[name] | ADDED, f"{where}: {name} has no label {asked - known[name]}"
            seen += 1
        grouped = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", expression) for label in labels.split(",")}
        had = set().union(*(known[name] for name in re.findall(r"signalbox_\w+", expression)))
        assert grouped <= had | ADDED, f"{where}: groups by {grouped - had}"
    assert seen > 40


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    runbooks = {str(rule["annotations"]["runbook"]) for rule in alerts()}  # type: ignore[index]
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert runbooks == there
    for rule in alerts():
        text = (ROOT / str(rule["annotations"]["runbook"])).read_text()  # type: ignore[index]
        assert str(rule["alert"]) in text
        assert "## Look" in text
        assert "## Do" in text


def test_every_alert_is_tested_by_a_case_in_which_it_fires_and_says_how_bad_it_is() -> None:
    cases = yaml.safe_load((ALERTS.parent / "alerts.test.yml").read_text())["tests"]
    fired = {one["alertname"] for case in cases for one in case["alert_rule_test"] if one["exp_alerts"]}
    assert fired == {rule["alert"] for rule in alerts()}
    assert {rule["labels"]["severity"] for rule in alerts()} == {"page", "ticket"}  # type: ignore[index]


def test_the_dashboard_shows_age_lateness_throughput_breaches_and_deliveries_and_no_panel_twice() -> None:
    panels = [one for one in json.loads(DASHBOARD.read_text())["panels"] if one["type"] != "row"]
    titles = [one["title"] for one in panels]
    assert {"Agenda age", "Timer lateness", "Throughput", "Breaches", "Deliveries"} <= set(titles)
    assert len(set(titles)) == len(titles)
    assert all(one["description"] and one["targets"] for one in panels)


@pytest.mark.parametrize(
    "arguments", ["check rules alerts.yml", "check config prometheus.yml", "test rules alerts.test.yml"]
)
def test_promtool_finds_the_rules_sound_and_their_cases_true(arguments: str) -> None:
    promtool = shutil.which("promtool", path=f"{ROOT / '.ci/tools/usr/bin'}:{os.environ['PATH']}")
    if promtool is None:
        warnings.warn("promtool is not here: the alert rules are NOT tested on this machine", stacklevel=1)
        pytest.skip("promtool is not here: the alert rules are NOT tested on this machine")
    done = subprocess.run(
        [promtool, *arguments.split()], cwd=ALERTS.parent, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
