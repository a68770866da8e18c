"""A generated history, read, and a database prepared for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Engine as Database

from services.control import platform
from services.control.replay import run
from services.control.replay.reading import Rejects
from services.control.replay.run import History
from shared.ledger.invariants import INVARIANTS, violations
from shared.ledger.process import Deps
from shared.runtime.settings import Settings
from tests.support.incident_log import MAPPING, log

CASES = 12


def history_in(folder: Path, cases: int = CASES) -> History:
    """A log of so many cases, written to a folder and read."""
    events = folder / "incidents.csv"
    events.write_text(log(cases), encoding="utf-8")
    (folder / "incidents.yaml").write_text(MAPPING, encoding="utf-8")
    return run.load(events, str(folder / "incidents.yaml"), Rejects(events))


@contextmanager
def prepared(url: str, history: History) -> Iterator[tuple[Deps, Database]]:
    settings = replace(Settings.from_environment({}), database_url=url, redis_url=None)
    database = platform.engine(settings, "test", sync=False)
    with database.begin() as connection:
        connection.exec_driver_sql("alter sequence ledger.id_seq restart with 10000000")
    yield run.prepare(settings, database, run.playbook_of("selected", history), history.start), database
    with database.connect() as connection:
        broken = {one.name: rows for one in INVARIANTS if (rows := violations(connection, one))}
    database.dispose()
    assert broken == {}
