"""The world of the topics' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.topics_world import World
from tests.support.topics_world import world as made


@pytest.fixture
def world(database_url: str, redis_url: str) -> Iterator[World]:
    with made(database_url, redis_url) as one:
        yield one
