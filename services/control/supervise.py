"""`up`: the services in two processes, restarted when one dies, all of one process group, drained on Ctrl-C.

The door has a process of its own, so that people are answered whatever the backlog; the others share one, because services that
share a process decide a ticket together, in one transaction (shared/ledger/crew.py). More hands are more `run` processes.
"""

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
    services: tuple[str, ...]
    process: subprocess.Popen[bytes]
    started_at: float
    falls: int = 0


@dataclass(slots=True)
class Supervisor:
    """Starts a process for each group of services and keeps it running until `stop` is set."""

    settings: Settings
    layout: tuple[tuple[str, ...], ...] = (("gateway",), platform.WORKERS)
    _children: list[_Child] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        """Start all, restart what dies, drain at the end."""
        self._children = [_Child(services, self._spawn(services), monotonic()) for services in self.layout]
        try:
            while not stop.wait(0.1):
                for child in self._children:
                    if child.process.poll() is not None:
                        self._restart(child, stop)
        finally:
            self._drain()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by service."""
        return {service: child.process.pid for child in self._children for service in child.services}

    def _spawn(self, services: tuple[str, ...]) -> subprocess.Popen[bytes]:
        environment = dict(
            os.environ,
            SIGNALBOX_DATABASE_URL=str(self.settings.database_url),
            SIGNALBOX_REDIS_URL=str(self.settings.redis_url),
            SIGNALBOX_HTTP=str(self.settings.http),
            SIGNALBOX_METRICS=str(self.settings.metrics),
            SIGNALBOX_HOME=str(self.settings.home),
        )
        command = [sys.executable, "-m", "services.control.cli", "run", *services]
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)

    def _restart(self, child: _Child, stop: threading.Event) -> None:
        steady = monotonic() - child.started_at > STEADY_SECONDS
        child.falls = 0 if steady else child.falls + 1
        pause = RESTART_SECONDS[min(child.falls, len(RESTART_SECONDS) - 1)]
        log.warning("service_died", died=child.services, exit_code=child.process.returncode, restart_in=pause)
        if not stop.wait(pause):
            child.process, child.started_at = self._spawn(child.services), monotonic()

    def _drain(self) -> None:
        for child in self._children:
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
        deadline = monotonic() + DRAIN_SECONDS
        for child in self._children:
            try:
                child.process.wait(max(0.1, deadline - monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("service_killed", killed=child.services)
                child.process.kill()
                child.process.wait()
