"""The servers that tests run against: one pair for a whole run, and homes for tests that start, break and stop their own.

A run is one `pytest`, with all of its xdist workers: the first to need the servers starts them (`fsync` off), the last
to leave stops them and removes their folder. A folder whose run was killed is cleared away by the next run of the same
user. Homes lie in the system's folder for temporary files and not below pytest's, which is closed to the user that
PostgreSQL runs as when we are root.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg
import redis
from psycopg import sql

from shared.runtime.embedded.lock import Lease, exclusive
from shared.runtime.embedded.postgres import find_postgres
from shared.runtime.embedded.servers import EmbeddedServers
from shared.runtime.embedded.valkey import find_valkey
from shared.runtime.migrate import upgrade

DATABASES_OF_VALKEY = 256
_NUMBERS_PER_WORKER = 8
_TEMPLATE_LOCK = 0x5349_4754
_POSTGRES_SETTINGS = {"shared_buffers": "128MB", "max_wal_size": "1GB"}


def _base() -> Path:
    base = Path(tempfile.gettempdir()) / f"signalbox-tests-{os.geteuid()}"
    base.mkdir(mode=0o711, exist_ok=True)
    if base.stat().st_uid != os.geteuid():
        raise RuntimeError(f"{base} belongs to another user")
    return base


def _clear(home: Path) -> None:
    for server in (find_valkey(home), find_postgres(home)):
        if server is not None:
            server.stop()
    shutil.rmtree(home)


def _sweep(base: Path) -> None:
    """Stop and remove what killed runs left; nobody holds their lease any more."""
    for left in base.iterdir():
        if left.is_dir() and Lease(left / "tests.lock").leave():
            _clear(left)


@contextmanager
def claimed_home(name: str) -> Iterator[Path]:
    """A folder for embedded servers, shared by the processes that claim one name; the last to leave stops and removes all."""
    base = _base()
    gate = base / "gate.lock"
    home = base / name
    with exclusive(gate):
        if not home.exists():
            _sweep(base)
        home.mkdir(exist_ok=True)
        home.chmod(0o711)
        lease = Lease(home / "tests.lock")
    try:
        yield home
    finally:
        with exclusive(gate):
            if lease.leave():
                _clear(home)


@dataclass(slots=True)
class TestServers:
    """The pair of servers of a run, as one worker sees it."""

    __test__ = False

    database_url: str
    redis_url: str
    run: str
    worker: int
    redis_numbers: int
    _turns: Iterator[int] = field(default_factory=count)

    @property
    def template(self) -> str:
        """Name of the migrated database that every test's own is copied from."""
        return f"sbt_{self.run}_template"

    def url_of(self, database: str) -> str:
        """The URL of another database of the same server."""
        return _with_database(self.database_url, database)

    def make_template(self) -> None:
        """Migrate the template once; other workers wait and find it."""
        with self._admin() as connection:
            connection.execute("select pg_advisory_lock(%s)", (_TEMPLATE_LOCK,))
            known = "select 1 from pg_database where datname = %s"
            if connection.execute(known, (self.template,)).fetchone():
                return
            fresh = f"{self.template}_new"
            self._drop(connection, fresh)
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(fresh)))
            upgrade(self.url_of(fresh))
            connection.execute(
                sql.SQL("alter database {} rename to {}").format(sql.Identifier(fresh), sql.Identifier(self.template))
            )

    def drop_template(self) -> None:
        """Leave a given server as it was found."""
        with self._admin() as connection:
            self._drop(connection, self.template)

    @contextmanager
    def fresh_database(self, *, migrated: bool = True) -> Iterator[str]:
        """The URL of a database of its own, dropped at the end whoever is still connected."""
        name = f"sbt_{self.run}_{self.worker}_{next(self._turns)}"
        source = self.template if migrated else "template1"
        with self._admin() as connection:
            connection.execute(
                sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(source))
            )
        try:
            yield self.url_of(name)
        finally:
            with self._admin() as connection:
                self._drop(connection, name)

    @contextmanager
    def fresh_redis(self) -> Iterator[str]:
        """The URL of a database number that no other test uses now, empty at the start and at the end."""
        spread = _NUMBERS_PER_WORKER if self.redis_numbers >= DATABASES_OF_VALKEY else 1
        number = 1 + self.worker * spread + next(self._turns) % spread
        if number >= self.redis_numbers:
            raise RuntimeError(f"the given Redis has {self.redis_numbers} databases, too few for worker {self.worker}")
        url = f"{self.redis_url.rstrip('/').rpartition('/')[0]}/{number}"
        with redis.Redis.from_url(url) as client:
            client.flushdb()
            try:
                yield url
            finally:
                client.flushdb()

    def _admin(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.database_url, autocommit=True)

    @staticmethod
    def _drop(connection: psycopg.Connection[tuple[object, ...]], name: str) -> None:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def _with_database(url: str, database: str) -> str:
    head, mark, query = url.partition("?")
    scheme, _, rest = head.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/{database}{mark}{query}"


@contextmanager
def servers_of_run(run: str, worker: int) -> Iterator[TestServers]:
    """The servers given by `SIGNALBOX_DATABASE_URL` and `SIGNALBOX_REDIS_URL`, else embedded ones for all workers of the run."""
    database_url, redis_url = os.environ.get("SIGNALBOX_DATABASE_URL"), os.environ.get("SIGNALBOX_REDIS_URL")
    with (
        claimed_home(f"run-{run}") as home,
        EmbeddedServers(
            home,
            database_url=database_url,
            redis_url=redis_url,
            fsync=False,
            postgres_settings=_POSTGRES_SETTINGS,
            valkey_settings={"databases": str(DATABASES_OF_VALKEY)},
        ) as embedded,
    ):
        with redis.Redis.from_url(embedded.redis_url, decode_responses=True) as client:
            numbers = int(client.config_get("databases")["databases"] or 16)
        servers = TestServers(embedded.database_url, _numbered(embedded.redis_url), run, worker, numbers)
        servers.make_template()
        yield servers


def _numbered(url: str) -> str:
    """A Redis URL that ends in a database number."""
    return url if url.count("/") == 3 and url[-1].isdigit() else f"{url.rstrip('/')}/0"
