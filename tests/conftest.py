"""Fixtures of every test that needs servers; see `tests/support/servers.py` for how they are shared."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

# `tests.support` must be found whichever way pytest was started, and in the processes that tests start.
_ROOT = str(Path(__file__).resolve().parents[1])
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)

from tests.support.servers import TestServers, claimed_home, servers_of_run  # noqa: E402

# Plain lines: the default renders every traceback with all local values, which takes longer than what is tested.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
)

# The same examples in every run: a change fails or passes by its own doing. `make test-nightly` looks for new ones.
settings.register_profile("same", derandomize=True)
settings.register_profile("new", print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


@pytest.fixture(scope="session")
def servers() -> Iterator[TestServers]:
    """The PostgreSQL and the Valkey of this run, with a migrated template database."""
    with servers_of_run(_RUN[:12], _WORKER) as running:
        yield running


@pytest.fixture
def database_url(servers: TestServers) -> Iterator[str]:
    """A database of this test's own with the present schema, `postgresql://…`."""
    with servers.fresh_database() as url:
        yield url


@pytest.fixture
def empty_database_url(servers: TestServers) -> Iterator[str]:
    """A database of this test's own without any schema, for tests of migrations."""
    with servers.fresh_database(migrated=False) as url:
        yield url


@pytest.fixture
def redis_url(servers: TestServers) -> Iterator[str]:
    """An empty Redis database number of this test's own, `redis://…/N`."""
    with servers.fresh_redis() as url:
        yield url


@pytest.fixture
def server_home() -> Iterator[Path]:
    """A folder in which a test may start, break and stop servers of its own; those still running at the end are stopped."""
    with claimed_home(f"own-{uuid.uuid4().hex[:12]}") as home:
        yield home


def pytest_sessionfinish(session: pytest.Session) -> None:
    """On given servers, the process that began the run removes the template that its workers shared."""
    url = os.environ.get("SIGNALBOX_DATABASE_URL")
    if url and "PYTEST_XDIST_WORKER" not in os.environ:
        TestServers(url, "", _run_of(session)[:12], 0, 0).drop_template()


def _run_of(session: pytest.Session) -> str:
    """The id that xdist gave to all workers of this run, or this process's own."""
    manager = session.config.pluginmanager.get_plugin("dsession")
    nodes = getattr(getattr(manager, "nodemanager", None), "testrunuid", None)
    return str(nodes) if nodes else _RUN
