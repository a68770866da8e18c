"""Columns of values reach the server as they are, with and without missing ones, alike and different."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from shared.runtime import arrays

NOON, EVE = datetime(2026, 3, 3, 12, tzinfo=UTC), datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


@pytest.mark.parametrize(
    ("column", "kind", "values"),
    [
        (arrays.Longs, "bigint", [1, -(2**63), 2**63 - 1]),
        (arrays.Ints, "integer", [1, -(2**31), 2**31 - 1]),
        (arrays.Doubles, "double precision", [0.5, -1e300, float("inf")]),
        (arrays.Bools, "boolean", [True, False, True]),
        (arrays.Texts, "text", ["", "宕机 🚨", 'a"b\\c\n']),
        (arrays.Texts, "text", ["so", "so", "so"]),
        (arrays.Instants, "timestamptz", [NOON, EVE, NOON]),
    ],
)
def test_a_column_arrives_as_it_was_given(
    database_url: str, column: type[arrays.Column], kind: str, values: list[Any]
) -> None:
    with psycopg.connect(database_url, options="-c timezone=UTC") as connection:

        def there(given: list[Any]) -> list[Any]:
            rows = connection.execute(
                f"select x from unnest(%s::{kind}[]) with ordinality as u (x, n) order by n", (column(given),)
            )
            return [x for (x,) in rows]

        assert there(values) == values
        assert there([values[0], None, values[2]]) == [values[0], None, values[2]]
        assert there([None, None]) == [None, None]
        assert there([]) == []


def test_documents_arrive_as_documents(database_url: str) -> None:
    given = [{"a": 1}, None, {"a": [1.5, "宕机"]}]
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "select x::jsonb from unnest(%s::text[]) with ordinality as u (x, n) order by n", (arrays.Jsons(given),)
        )
        assert [x for (x,) in rows] == given
