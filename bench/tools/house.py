"""A house for one benchmark: embedded servers in a folder of their own, fresh databases, worker processes that answer to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg
import redis

from bench.tools.meter import cpu_seconds
from services.control import platform
from shared.ledger.process import Deps
from shared.runtime.embedded.servers import EmbeddedServers
from shared.runtime.migrate import upgrade
from shared.runtime.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Worker:
    """One worker process. It says `ready`, waits for `go`, and ends when its input is closed."""

    process: subprocess.Popen[str]
    name: str

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, word: str) -> str:
        """Send a word, return the line that answers it."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.heard()

    def heard(self) -> str:
        """The next line it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"worker {self.name} died: {self.process.wait()}")
        return line.strip()

    def stop(self) -> None:
        """Let it drain and end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(slots=True)
class House:
    """Servers, and one database at a time."""

    servers: EmbeddedServers
    database: str = ""
    _workers: list[Worker] = field(default_factory=list)

    @property
    def database_url(self) -> str:
        """Of the present database."""
        return self.servers.database_url.rpartition("/")[0] + f"/{self.database}"

    def fresh(self, name: str) -> Settings:
        """A new, migrated database and an empty Redis; settings for both."""
        self.make_database(name)
        upgrade(self.database_url)
        self.redis.flushall()
        return self.settings()

    def make_database(self, name: str) -> None:
        """An empty database in place of the present one."""
        with psycopg.connect(self.servers.database_url, autocommit=True) as connection:
            if self.database:
                connection.execute(f'drop database if exists "{self.database}" with (force)')
            connection.execute(f'create database "{name}"')
            connection.execute("checkpoint")
        self.database = name

    def tidy(self) -> None:
        """What autovacuum and a checkpoint would do about rows that were just made, done before anything is measured."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute("vacuum (analyze)")
            connection.execute("checkpoint")

    def settings(self) -> Settings:
        """Settings of the present database."""
        return replace(
            Settings.from_environment({}), database_url=self.database_url, redis_url=self.servers.redis_url + "/0"
        )

    @property
    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.servers.redis_url)

    def deps(self, name: str = "bench") -> Deps:
        """What a service is given, for the benchmark's own process."""
        settings = self.settings()
        return platform.deps(settings, platform.engine(settings, name, pool_size=4))

    def worker(self, services: Sequence[str], *options: str, environment: Mapping[str, str] | None = None) -> Worker:
        """Start one; it is ready when this returns."""
        command = [sys.executable, "-m", "bench.tools.worker", self.database_url, self.servers.redis_url + "/0"]
        process = subprocess.Popen(
            [*command, *services, *options],
            cwd=ROOT,
            env=dict(os.environ, BENCH_SECRET="whsec_YmVuY2g=", **(environment or {})),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        worker = Worker(process, "+".join(services))
        self._workers.append(worker)
        if worker.heard() != "ready":
            raise RuntimeError(f"worker {worker.name} is not ready")
        return worker

    def stop_workers(self) -> None:
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.stop()
        self._workers.clear()

    def postgres_cpu(self) -> float:
        """CPU seconds of the server and all its processes so far."""
        assert self.servers.postgres is not None
        assert self.servers.postgres.pid is not None
        return cpu_seconds([self.servers.postgres.pid])

    def redis_cpu(self) -> float:
        info = self.redis.info("cpu")
        return float(info["used_cpu_user"] + info["used_cpu_sys"])


@contextmanager
def house(**postgres_settings: str) -> Iterator[House]:
    """Servers as `up` starts them, in a temporary folder that is removed at the end."""
    home = Path(tempfile.mkdtemp(prefix="signalbox-bench-"))
    home.chmod(0o711)
    try:
        with EmbeddedServers(home, postgres_settings=postgres_settings) as servers:
            made = House(servers)
            try:
                yield made
            finally:
                made.stop_workers()
    finally:
        shutil.rmtree(home, ignore_errors=True)
