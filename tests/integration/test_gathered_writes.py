"""What is gathered is written as it would have been at once: the same rows by INSERT as by COPY, the same errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from shared.runtime import copying
from shared.runtime.database import is_passing
from tests.support.ledger import engine_of

TEXTS = ["plain", "", "a\tb", "line\nbreak\r", "back\\slash \\t \\N", "\\N", "工单 ☂", '{"a": "\\\\"}', None]
AT = datetime(2030, 1, 1, 12, 30, 5, 123456, tzinfo=UTC)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    engine = engine_of(database_url)
    with engine.connect() as connection:
        columns = "id bigint primary key, words text, data jsonb, at timestamptz, yes boolean"
        connection.exec_driver_sql(f"create temp table kept ({columns})")
        yield connection
    engine.dispose()


def lines(first: int, texts: list[str | None]) -> list[bytes]:
    return [
        copying.line(
            copying.number(number),
            copying.text(text),
            copying.json({"says": text}),
            copying.instant(AT),
            copying.boolean(True),
        )
        for number, text in enumerate(texts, start=first)
    ]


def kept(connection: Connection, first: int) -> list[tuple[object, ...]]:
    rows = connection.exec_driver_sql(
        "select id - %s, words, data, at, yes from kept where id >= %s and id < %s order by id",
        (first, first, first + 100),
    )
    return [tuple(row) for row in rows]


def test_a_few_rows_come_by_insert_as_many_come_by_copy(connection: Connection) -> None:
    target = "kept (id, words, data, at, yes)"
    copying.copy(connection, target, lines(0, TEXTS))
    with copying.gathering(connection):
        for index, text in enumerate(TEXTS):
            copying.copy(connection, target, lines(100 + index, [text]))
        copying.copy(connection, target, lines(200, TEXTS))
        assert len(TEXTS) > copying.FEW, "one of the two ways is not tried"
        assert kept(connection, 100) == kept(connection, 200) == []
        copying.send(connection)
    assert kept(connection, 0) == kept(connection, 100) == kept(connection, 200)
    assert [row[1] for row in kept(connection, 0)] == TEXTS


def test_statements_keep_their_order_and_are_sent_once(connection: Connection) -> None:
    with copying.gathering(connection):
        copying.copy(connection, "kept (id, words)", [copying.line(b"1", copying.text("first"))])
        copying.write(connection, "update kept set words = words || ' then'", {})
        copying.write(connection, "update kept set words = words || %(more)s", {"more": " last"})
        copying.send(connection)
        copying.send(connection)
    assert connection.exec_driver_sql("select words from kept").scalar_one() == "first then last"
    copying.write(connection, "update kept set words = 'at once'", {})
    assert connection.exec_driver_sql("select words from kept").scalar_one() == "at once"


def test_what_an_error_left_unsent_is_forgotten(connection: Connection) -> None:
    with suppress(LookupError), copying.gathering(connection):
        copying.write(connection, "insert into kept (id) values (1)", {})
        raise LookupError
    copying.send(connection)
    assert connection.exec_driver_sql("select count(*) from kept").scalar_one() == 0


def test_a_refused_row_raises_what_a_statement_would(connection: Connection) -> None:
    with copying.gathering(connection):
        copying.copy(connection, "kept (id)", [b"1\n", b"1\n"])
        with pytest.raises(DBAPIError, match="kept_pkey") as refused:
            copying.send(connection)
    assert not is_passing(refused.value)
    connection.rollback()


def test_a_lost_connection_is_passing(connection: Connection) -> None:
    connection.exec_driver_sql("create temp table other (id bigint)")
    with copying.gathering(connection):
        copying.write(connection, "select pg_terminate_backend(pg_backend_pid())", {})
        copying.write(connection, "insert into other values (1)", {})
        with pytest.raises(DBAPIError) as lost:
            copying.send(connection)
    assert is_passing(lost.value)
    assert lost.value.connection_invalidated
