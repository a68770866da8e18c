"""A whole system in real time: the five services as `signalbox run` starts them, each in a process of its own, over given servers.

Their standard error is kept line by line, for tests that read the logs.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import urllib3
from prometheus_client.parser import text_string_to_metric_families

from services.control import platform
from services.control.commands.up import prepare
from shared.runtime.embedded import ports
from shared.runtime.settings import Settings
from tests.support.waiting import wait_for

READY_SECONDS = 120.0
"""Five interpreters start on a machine that may have other things to do."""
ADMIN_KEY = "sb_test_key_of_the_running_system"
SHIPPED = Path(__file__).resolve().parents[2] / "playbooks"
QUICK = """
sla:
  - name: quick
    targets: {first_response: 3s, resolution: 2h}
"""


def quick_playbook(folder: Path, mail_port: int) -> Path:
    """The shipped `selected` with a first response promised within three seconds, and mail in place of SMS."""
    folder.mkdir()
    for path in (SHIPPED / "selected").glob("*.yaml"):
        text = path.read_text()
        text = text.replace("{channel: sms", "{channel: mail").replace(":18025", f":{mail_port}")
        text = re.sub(r"\nsla:\n.*?(?=\nchains:)", QUICK, text, flags=re.DOTALL)
        (folder / path.name).write_text(text)
    return folder


@dataclass(slots=True)
class RunningSystem:
    """Processes by the services that each of them runs."""

    settings: Settings
    log: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    http: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(timeout=5, retries=False))

    def start(self, *services: str, env: dict[str, str] | None = None) -> None:
        """One process that runs these services."""
        environment = dict(
            os.environ,
            SIGNALBOX_DATABASE_URL=str(self.settings.database_url),
            SIGNALBOX_REDIS_URL=str(self.settings.redis_url),
            SIGNALBOX_HTTP=str(self.settings.http),
            SIGNALBOX_METRICS=str(self.settings.metrics),
            SIGNALBOX_HOME=str(self.settings.home),
            SIGNALBOX_ADMIN_KEY=ADMIN_KEY,
            **(env or {}),
        )
        with self.log.open("ab") as log:
            self.processes["+".join(services)] = subprocess.Popen(
                [sys.executable, "-m", "services.control.cli", "run", *services],
                env=environment, stdin=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip

    def ready(self) -> None:
        """Wait until the gateway answers and the loops of every service come round."""
        wait_for(lambda: self._status("/readyz") == 200, READY_SECONDS)
        for service in (name for joined in self.processes for name in joined.split("+")):
            wait_for(lambda service=service: "signalbox_loop_heartbeat_seconds" in self.scrape(service), READY_SECONDS)

    def stop(self, *names: str) -> None:
        """Stop processes in good order (all by default)."""
        for name in names or tuple(self.processes):
            self.processes[name].send_signal(signal.SIGTERM)
        for name in names or tuple(self.processes):
            process = self.processes.pop(name)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def kill(self) -> list[tuple[str, ...]]:
        """SIGKILL to every process, all at once; returns the services of each."""
        dead = [tuple(name.split("+")) for name in self.processes]
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
        self.processes.clear()
        return dead

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """An HTTP call with the administrator's key; its decoded answer."""
        answer = self.http.request(
            method,
            f"http://{self.settings.http}{path}",
            body=None if body is None else orjson.dumps(body),
            headers={"Authorization": f"Bearer {ADMIN_KEY}"} | headers,
        )
        return orjson.loads(answer.data)

    def scrape(self, service: str) -> dict[str, list[tuple[dict[str, str], float]]]:
        """What a service's metrics port shows: samples by name; empty while it does not answer."""
        host, port = platform.Ports(self.settings).of(service)
        try:
            text = self.http.request("GET", f"http://{host}:{port}/metrics").data.decode()
        except urllib3.exceptions.HTTPError:
            return {}
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for metric in text_string_to_metric_families(text):
            for sample in metric.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found

    def lines(self) -> list[dict[str, Any]]:
        """Every log line so far, decoded; fails on a line that is no JSON object."""
        return [orjson.loads(line) for line in self.log.read_bytes().splitlines()]

    def _status(self, path: str) -> int:
        try:
            return self.http.request("GET", f"http://{self.settings.http}{path}").status
        except urllib3.exceptions.HTTPError:
            return 0


@contextmanager
def running(
    database_url: str, redis_url: str, folder: Path, playbook: Path | str, processes: Sequence[Sequence[str]] = ()
) -> Iterator[RunningSystem]:
    """A prepared system whose processes are up; by default one for each service."""
    base = ports.block(6)
    settings = Settings.from_environment(
        {
            "SIGNALBOX_DATABASE_URL": database_url,
            "SIGNALBOX_REDIS_URL": redis_url,
            "SIGNALBOX_HTTP": f"127.0.0.1:{base + 5}",
            "SIGNALBOX_METRICS": f"127.0.0.1:{base}",
            "SIGNALBOX_HOME": str(folder / "home"),
            "SIGNALBOX_PLAYBOOK": str(playbook),
            "SIGNALBOX_ADMIN_KEY": ADMIN_KEY,
        }
    )
    prepare(settings)
    system = RunningSystem(settings, folder / "services.log")
    try:
        for services in processes or [(name,) for name in platform.RUN_ORDER]:
            system.start(*services)
        system.ready()
        yield system
    finally:
        system.stop()
