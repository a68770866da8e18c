"""The fixtures give every test servers of its own kind: fresh, migrated, and gone afterwards."""

from __future__ import annotations

import psycopg
import pytest
import redis
from psycopg import sql

from tests.support.servers import TestServers


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_gets_a_migrated_database_without_the_traces_of_others(database_url: str, turn: int) -> None:
    with psycopg.connect(database_url) as connection:
        schemas = {row[0] for row in connection.execute("select schema_name from information_schema.schemata")}
        assert "ledger" in schemas
        connection.execute("create table public.trace (turn int)")  # fails if another test's database were used again


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_gets_an_empty_redis_number(redis_url: str, turn: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("trace", turn)


def test_a_database_is_dropped_although_somebody_is_still_connected(servers: TestServers) -> None:
    with servers.fresh_database() as url:
        name = url.rpartition("/")[2].partition("?")[0]
        left = psycopg.connect(url)
    with psycopg.connect(servers.database_url) as connection:
        known = connection.execute(sql.SQL("select 1 from pg_database where datname = {}").format(name)).fetchone()
    with pytest.raises(psycopg.OperationalError):
        left.execute("select 1")
    assert known is None


def test_an_empty_database_has_no_schema_of_ours(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("select to_regclass('ledger.event')").fetchone() == (None,)
