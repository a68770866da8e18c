"""The database's schema moves forward under traffic: from every earlier revision, with data in it, by expanding only."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from shared.runtime import migrate
from tests.support.waiting import wait_for

VERSIONS = Path(migrate.__file__).resolve().parents[2] / "migrations" / "versions"
REVISIONS = sorted(re.findall(r'(?m)^revision = "(\w+)"', "\n".join(p.read_text() for p in VERSIONS.glob("*.py"))))
FORBIDDEN = re.compile(
    r"\b(drop\s+(table|column|view|function|type|schema)|rename\s+(to|column)|alter\s+column\s+\w+\s+(type|set\s+not\s+null)"
    r"|truncate|add\s+column\s+(?:if\s+not\s+exists\s+)?\w+\s+[^,;]*not\s+null(?![^,;]*default)|lock\s+table)",
    re.IGNORECASE,
)
SHAPE = """
select c.table_schema || '.' || c.table_name || '.' || c.column_name,
    c.data_type || case c.is_nullable when 'NO' then ' not null' else '' end
from information_schema.columns c where c.table_schema not in ('pg_catalog', 'information_schema') order by 1
"""


@contextmanager
def connected(url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def upgrades(path: Path) -> str:
    """What a migration does going up: its text without the way down, without comments."""
    text = path.read_text().partition("def downgrade")[0]
    return re.sub(r"--.*|#.*", "", text)


def shape(url: str) -> dict[str, str]:
    with connected(url) as connection:
        return dict(connection.execute(SHAPE).fetchall())  # type: ignore[arg-type]


def fill(url: str) -> int:
    """A row in every table, so far as its own rules let one in by defaults and simple values. Returns how many took one."""
    filled = 0
    with connected(url) as connection:
        tables = connection.execute(
            """select c.table_schema, c.table_name, array_agg(c.column_name::text order by c.ordinal_position),
                array_agg(c.udt_name::text order by c.ordinal_position)
            from information_schema.columns c join information_schema.tables t using (table_schema, table_name)
            where t.table_type = 'BASE TABLE' and c.column_default is null and c.is_nullable = 'NO' and c.is_identity = 'NO'
            and c.table_schema not in ('pg_catalog', 'information_schema', 'public') group by 1, 2 order by 1, 2"""
        ).fetchall()
        samples = {
            "int8": "1", "int4": "1", "int2": "1", "text": "'x'", "bool": "true", "timestamptz": "now()", "jsonb": "'{}'",
            "json": "'{}'",
            "bytea": "'\\x00'", "float8": "1", "_text": "'{}'", "_int8": "'{}'", "xid8": "pg_current_xact_id()", "numeric": "1",
            "float4": "1",
            "date": "current_date", "interval": "'1s'", "uuid": "gen_random_uuid()",
        }  # fmt: skip
        for schema, table, names, types in tables:
            columns = ", ".join(f'"{name}"' for name in names)  # type: ignore[union-attr]
            values = ", ".join(samples[kind] for kind in types)  # type: ignore[union-attr]
            connection.execute(f'insert into {schema}."{table}" ({columns}) values ({values})')  # type: ignore[arg-type]
            filled += 1
    return filled


def test_the_revisions_are_one_chain_without_gaps() -> None:
    numbers = [f"{number:04}" for number in range(1, len(REVISIONS) + 1)]
    assert numbers == REVISIONS
    assert migrate.head() == REVISIONS[-1]


@pytest.mark.parametrize("start", REVISIONS[:-1])
def test_from_each_earlier_revision_with_data_in_every_table_the_newest_is_reached_and_nothing_is_lost(
    empty_database_url: str, start: str
) -> None:
    migrate.upgrade(empty_database_url, target=start)
    assert fill(empty_database_url) >= 6
    before, rows = shape(empty_database_url), counts(empty_database_url)
    migrate.upgrade(empty_database_url)
    after = shape(empty_database_url)
    # the version that wrote these tables goes on beside the new one: every column is there, of the same type, as nullable as it was
    assert {name: after.get(name) for name in before} == before
    assert {table: counts(empty_database_url)[table] for table in rows} == rows


def counts(url: str) -> dict[str, int]:
    with connected(url) as connection:
        tables = connection.execute(
            """select table_schema || '."' || table_name || '"' from information_schema.tables where table_type = 'BASE TABLE'
            and table_schema not in ('pg_catalog', 'information_schema', 'public')"""
        ).fetchall()
        return {
            str(name): connection.execute(f"select count(*) from {name}").fetchone()[0]  # type: ignore[arg-type,index,misc]
            for (name,) in tables
        }


@pytest.mark.parametrize("start", REVISIONS[:-1])
def test_what_the_earlier_version_writes_it_can_still_write_after_the_upgrade(
    empty_database_url: str, start: str
) -> None:
    migrate.upgrade(empty_database_url, target=start)
    with connected(empty_database_url) as connection:
        required = connection.execute(
            """select table_schema || '.' || table_name, array_agg(column_name::text order by column_name)
            from information_schema.columns where is_nullable = 'NO' and column_default is null and is_identity = 'NO'
            and table_schema not in ('pg_catalog', 'information_schema', 'public') group by 1"""
        ).fetchall()
        migrate.upgrade(empty_database_url)
        for table, names in required:
            schema, _, name = str(table).partition(".")
            now = connection.execute(
                """select array_agg(column_name::text order by column_name) from information_schema.columns
                where table_schema = %s and table_name = %s and is_nullable = 'NO'
                and column_default is null and is_identity = 'NO'""",
                (schema, name),
            ).fetchone()
            assert now is not None
            assert now[0] == names, f"{table}: a column that the earlier version does not know is required"


@pytest.mark.parametrize("path", sorted(VERSIONS.glob("*.py")), ids=lambda path: path.stem)
def test_a_migration_only_expands(path: Path) -> None:
    found = FORBIDDEN.search(upgrades(path))
    assert found is None, f"{path.name}: {found[0]!r} would break the version that still runs" if found else ""


def test_the_words_that_break_a_running_version_are_recognised() -> None:
    for bad in ("drop table x.y", "alter table a rename column b to c", "alter table a add column b text not null",
                "alter table a alter column b type text", "alter table a alter column b set not null"):  # fmt: skip
        assert FORBIDDEN.search(bad), bad
    for good in ("add column b text not null default ''", "add column b text", "create table a (b text not null)"):
        assert not FORBIDDEN.search(good), good


def test_a_second_upgrade_and_one_at_the_same_time_change_nothing(empty_database_url: str) -> None:
    script = f"from shared.runtime.migrate import upgrade; upgrade({empty_database_url!r})"
    started = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [process.wait(60) for process in started] == [0, 0]
    before = shape(empty_database_url)
    migrate.upgrade(empty_database_url)
    assert shape(empty_database_url) == before


def test_a_lock_that_cannot_be_had_gives_up_in_time_and_stops_nobody_behind_it(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url, target="0001")
    blocked: list[BaseException] = []

    def upgrade() -> None:
        try:
            migrate.upgrade(empty_database_url, lock_timeout_seconds=1.0, attempts=1, target=heartbeat)
        except DBAPIError as error:
            blocked.append(error)

    heartbeat = next(p.stem[:4] for p in VERSIONS.glob("*_heartbeat.py"))
    with connected(empty_database_url) as watching, psycopg.connect(empty_database_url) as holding:
        holding.execute("select * from ledger.heartbeat")  # a reader in an open transaction is enough
        thread = threading.Thread(target=upgrade)
        thread.start()
        wait_for(lambda: watching.execute("select 1 from pg_locks where not granted").fetchone())
        thread.join(20)
        assert [getattr(error, "orig", None) and error.orig.sqlstate for error in blocked] == ["55P03"]  # type: ignore[attr-defined]
        watching.execute("select * from ledger.heartbeat")  # nothing waits in front of it any more
        holding.rollback()
    migrate.upgrade(empty_database_url)
    with connected(empty_database_url) as connection:
        assert connection.execute("select version_num from public.migration").fetchone() == (migrate.head(),)


def test_the_lock_time_out_is_five_seconds() -> None:
    defaults = migrate.upgrade.__kwdefaults__
    assert defaults is not None
    assert defaults["lock_timeout_seconds"] == 5.0
