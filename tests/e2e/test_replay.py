"""A recorded history: the same in memory as through the database, twice the same bytes, bad rows set aside."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlalchemy import Engine as Database

from services.control.replay import run
from services.control.replay.engine import Engine
from services.control.replay.history import steps
from services.control.replay.reading import Rejects
from services.control.replay.run import History
from services.control.replay.through import LanePlayer
from tests.support.replayed import history_in, prepared
from tests.support.servers import TestServers

_ID = re.compile(r"\b1\d{7}\b")
"""Ids begin where no other number of the history can be mistaken for one."""
COMPARED = {
    "ledger.event": "kind, id, version, type, happened_at, recorded_at, actor, given, playbook, correlation, reason, data",
    "ledger.ticket": "id, version, status, priority, group_name, assignee, kind, source, external_id, dedup_key, requester, "
    "lane, digest, opened_at, updated_at, state",
    "ledger.agenda": "service, kind, id, lane, due_at, failures, crashes, seen_version, quarantined_at, error",
    "router.assignment": "*",
    "router.load": "agent, load, open_count, last_assigned",
    "router.turn": "*",
    "router.waiting": "*",
    "sla.ticket": "ticket_id, next_due_at, kept",
    "sla.ended": "*",
    "escalation.ticket": "*",
    "escalation.escalation": "*",
    "escalation.stall": "*",
    "notifier.notification": "*",
    "notifier.message": "*",
    "access.action_link": "message_id, ticket_id, person, assignment, escalation, node, expires_at, used, wrong",
}


@pytest.fixture
def history(tmp_path: Path) -> History:
    return history_in(tmp_path)


def tables(database: Database) -> dict[str, list[str]]:
    """All rows as text. Where two tickets fall due in the same instant, either may be first to take an id for a message: messages
    are known by what they are about."""
    with database.connect() as connection:
        names: dict[str, str] = {}
        for row in connection.exec_driver_sql("select * from notifier.notification"):
            about = f"<{row.event_item}/{row.event_version}/{row.recipient}/{row.channel}>"
            names |= {str(row.id): f"n{about}", str(row.message_id): f"m{about}"}
        return {
            table: sorted(
                _ID.sub(lambda found: names.get(found[0], found[0]), repr(tuple(row)))
                for row in connection.exec_driver_sql(f"select {columns} from {table}")
            )
            for table, columns in COMPARED.items()
        }


def test_a_history_in_memory_leaves_the_rows_that_the_lanes_leave_in_the_database(
    servers: TestServers, history: History, tmp_path: Path
) -> None:
    rejects = Rejects(tmp_path / "incidents.csv")
    with servers.fresh_database() as url, prepared(url, history) as (deps, database):
        run.play(history, deps, database, rejects, lambda *_: None)
        in_memory = tables(database)
    with servers.fresh_database() as url, prepared(url, history) as (deps, database):
        LanePlayer(Engine(deps, database), history.people, lambda one, why: pytest.fail(f"{one}: {why}")).play(
            steps(history.everything)
        )
        through = tables(database)
    assert rejects.count == 0
    for kind in (
        "sla.breached",
        "sla.warned",
        "escalation.stepped",
        "ticket.reopened",
        "delivery.sent",
        "ticket.transferred",
    ):
        assert any(f"'{kind}'" in row for row in through["ledger.event"]), f"the history has no {kind}"
    for table in COMPARED:
        assert set(in_memory[table]) ^ set(through[table]) == set(), table
        assert len(in_memory[table]) == len(through[table]), table
