"""Clocks in the database, in the long form of before and in the short one: both are shown, counted and read as what they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Connection

from services.sla import store
from services.sla.domain.clock import Clock, view
from services.sla.domain.ticket import SlaState
from tests.support.ledger import engine_of
from tests.unit.sla.test_kept import SAMPLES

STATES = dict(enumerate((one.state for one in SAMPLES), start=1))
ENDED = {number: tuple(clock for clock in state.clocks if not clock.open) for number, state in STATES.items()}


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with engine_of(database_url).connect() as made:
        made.exec_driver_sql("set time zone 'UTC'")
        yield made


def before(connection: Connection) -> None:
    """The rows as they were written before there was a short form."""
    for number, sample in enumerate(SAMPLES, start=1):
        connection.exec_driver_sql(
            "insert into sla.ticket (ticket_id, version, state) values (%s, 1, %s::jsonb)",
            (number, bytes(sample.before).decode()),
        )


def written(connection: Connection, *, fresh: bool) -> None:
    """The same as they are written now."""
    store.save(
        connection,
        [store.Saved(number, 2, None, state, ENDED[number], fresh=fresh) for number, state in STATES.items()],
    )


def clocks(connection: Connection) -> dict[tuple[int, str, int], dict[str, Any]]:
    rows = connection.exec_driver_sql("select * from sla.v_clock").mappings()
    return {(row["ticket_id"], row["metric"], row["cycle"]): dict(row) for row in rows}


def shown(clock: Clock) -> dict[str, Any]:
    """What the view says of a clock."""
    told = view(clock)
    members = {name: getattr(told, name) for name in told.__struct_fields__ if name != "remaining_seconds"}
    return members | {"warned_at": list(told.warned_at), "as_of": clock.as_of, "breach_probability": None}


def expected(*, ended: bool) -> dict[tuple[int, str, int], dict[str, Any]]:
    return {
        (number, clock.metric, clock.cycle): {"ticket_id": number} | shown(clock)
        for number, state in STATES.items()
        for clock in state.clocks
        if ended or clock.open
    }


def places(connection: Connection) -> dict[int, list[tuple[Any, ...]]]:
    found: dict[int, list[tuple[Any, ...]]] = {}
    for row in connection.exec_driver_sql("select * from sla.v_attribution order by ticket_id, started_at"):
        found.setdefault(row.ticket_id, []).append(tuple(row)[1:])
    return found


def parts(state: SlaState) -> list[tuple[Any, ...]]:
    ends = [*(after.at for _, after in pairwise(state.places)), None]
    return [
        (one.at, end, one.kind, one.team, one.person, one.node) for one, end in zip(state.places, ends, strict=True)
    ]


def test_rows_of_before_are_shown_counted_read_and_written_anew(connection: Connection) -> None:
    before(connection)
    assert clocks(connection) == expected(ended=False)
    assert places(connection) == {number: parts(state) for number, state in STATES.items() if state.places}
    assert store.load(connection, list(STATES)) == STATES
    counted = store.count_live(connection)
    written(connection, fresh=False)
    assert clocks(connection) == expected(ended=True)
    assert connection.exec_driver_sql("select count(*) from sla.ticket where state <> '{}'").scalar_one() == 0
    assert store.count_live(connection) == counted


def test_new_rows_are_shown_counted_and_read(connection: Connection) -> None:
    written(connection, fresh=True)
    assert clocks(connection) == expected(ended=True)
    assert places(connection) == {number: parts(state) for number, state in STATES.items() if state.places}
    assert store.load(connection, list(STATES)) == STATES
    alive = [clock for state in STATES.values() for clock in state.clocks if clock.open]
    assert store.count_live(connection) == Counter(
        (clock.metric.partition(":")[0], clock.state.value) for clock in alive
    )


def test_a_running_clock_of_either_form_has_the_probability_that_the_forecast_keeps(connection: Connection) -> None:
    before(connection)
    number, clock = next((n, one.clocks[0]) for n, one in STATES.items() if one.clocks and one.clocks[0].open)
    connection.exec_driver_sql(
        "insert into sla.forecast (ticket_id, metric, cycle, probability, at) values (%s, %s, %s, 0.5, now())",
        (number, clock.metric, clock.cycle),
    )
    for _ in range(2):
        found = clocks(connection)
        assert [key for key, row in found.items() if row["breach_probability"] is not None] == [
            (number, clock.metric, clock.cycle)
        ]
        written(connection, fresh=False)


def test_a_ticket_is_found_by_its_key_in_either_form(connection: Connection) -> None:
    connection.exec_driver_sql("set local enable_seqscan = off")
    for name in ("v_clock", "v_attribution"):
        plan = connection.exec_driver_sql(
            f"explain select * from sla.{name} where ticket_id = any(array[1, 2])"
        ).scalars()
        assert not [line for line in plan if "Seq Scan" in line and "ticket" in line], name
