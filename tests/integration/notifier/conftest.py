"""A desk whose gateway listens, and what must be so after every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.ledger.invariants import INVARIANTS, violations
from tests.support.desk import Desk, Door, door_of


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(database_url, home=tmp_path)
    yield made
    with made.database.connect() as connection:
        broken = {one.name: rows for one in INVARIANTS if (rows := violations(connection, one))}
    made.close()
    assert broken == {}


@pytest.fixture
def door(desk: Desk) -> Iterator[Door]:
    with door_of(desk.settings) as (door, _):
        yield door
