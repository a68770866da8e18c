"""One gateway for all tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.door import Door, open_door
from tests.support.servers import TestServers


@pytest.fixture(scope="module")
def door(servers: TestServers) -> Iterator[Door]:
    with servers.fresh_database() as url, open_door(url) as opened:
        yield opened
