"""`up`: one process for each service, restarted when one dies, all of one process group, drained on Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field

import structlog

from services.control import platform
from shared.runtime.clock import monotonic
from shared.runtime.settings import Settings

log = structlog.get_logger()

RESTART_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses before a restart, growing while a service keeps dying within `STEADY_SECONDS`."""
STEADY_SECONDS = 30.0
DRAIN_SECONDS = 15.0


@dataclass(slots=True)
class _Child:
    service: str
    process: subprocess.Popen[bytes]
    started_at: float
    falls: int = 0


@dataclass(slots=True)
class Supervisor:
    """Starts a process for each service and keeps it running until `stop` is set."""

    settings: Settings
    services: tuple[str, ...] = platform.RUN_ORDER
    _children: dict[str, _Child] = field(default_factory=dict)

    def run(self, stop: threading.Event) -> None:
        """Start all, restart what dies, drain at the end."""
        for service in self.services:
            self._children[service] = _Child(service, self._spawn(service), monotonic())
        try:
            while not stop.wait(0.1):
                for child in self._children.values():
                    if child.process.poll() is not None:
                        self._restart(child, stop)
        finally:
            self._drain()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by service."""
        return {service: child.process.pid for service, child in self._children.items()}

    def _spawn(self, service: str) -> subprocess.Popen[bytes]:
        environment = dict(
            os.environ,
            SIGNALBOX_DATABASE_URL=str(self.settings.database_url),
            SIGNALBOX_REDIS_URL=str(self.settings.redis_url),
            SIGNALBOX_HTTP=str(self.settings.http),
            SIGNALBOX_METRICS=str(self.settings.metrics),
            SIGNALBOX_HOME=str(self.settings.home),
        )
        command = [sys.executable, "-m", "services.control.cli", "run", service]
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)

    def _restart(self, child: _Child, stop: threading.Event) -> None:
        steady = monotonic() - child.started_at > STEADY_SECONDS
        child.falls = 0 if steady else child.falls + 1
        pause = RESTART_SECONDS[min(child.falls, len(RESTART_SECONDS) - 1)]
        log.warning("service_died", died=child.service, exit_code=child.process.returncode, restart_in=pause)
        if not stop.wait(pause):
            child.process, child.started_at = self._spawn(child.service), monotonic()

    def _drain(self) -> None:
        for child in self._children.values():
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
        deadline = monotonic() + DRAIN_SECONDS
        for child in self._children.values():
            try:
                child.process.wait(max(0.1, deadline - monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("service_killed", killed=child.service)
                child.process.kill()
                child.process.wait()
