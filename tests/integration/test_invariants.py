"""Each invariant finds what it is there for: a sound database is broken in one place, and that one speaks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection

from shared.ledger.invariants import INVARIANTS, violations
from tests.support.door import Door, open_door
from tests.support.servers import TestServers

BREAKS = {
    "gapless_versions": "delete from ledger.event where kind = 'ticket' and id = {open} and version = 2",
    "version_is_last_event": "update ledger.ticket set version = version + 1 where id = {open}",
    "projection_equals_events": "update ledger.ticket set status = 'resolved' where id = {open}",
    "columns_equal_state": "update ledger.ticket set assignee = 'somebody' where id = {open}",
    "no_live_agenda_on_merged_ticket": """update ledger.ticket set status = 'merged' where id = {open};
        update ledger.agenda set due_at = ledger.now() + interval '1 hour' where id = {open}""",
    "one_open_assignment": """drop index router.assignment_open;
        insert into router.assignment (ticket_id, assignment, group_name, agent, base, weight, assigned_at)
        values ({open}, 99, 'desk', 'li.na', 100, 100, now())""",
    "load_equals_open_assignments": "update router.load set open_count = open_count + 1 where agent = '{agent}'",
    "no_open_assignment_on_closed_ticket": "update ledger.ticket set status = 'closed' where id = {open}",
    "no_live_timer_on_closed_ticket": "update ledger.ticket set status = 'closed' where id = {open}",
    "no_live_agenda_on_closed_ticket": "update ledger.ticket set status = 'closed' where id = {open}",
    "no_running_escalation_on_closed_ticket": """insert into escalation.escalation (ticket_id, escalation, chain, cause, state,
        step, round, started_at, targets) values ({closed}, 1, 'breach', 'manual', 'running', 0, 0, now(), '{{}}')""",
    "one_effect_per_timer_generation": """insert into ledger.event (kind, id, version, type, happened_at, recorded_at, actor, given,
        playbook, correlation, data) select 'ticket', {open}, 90 + n, 'sla.warned', now(), now(), '{{}}', false, 1, '',
        '{{"metric": "resolution", "threshold": "30m", "cycle": 1}}' from generate_series(1, 2) n""",
    "one_notification_per_event_recipient_channel": """drop index notifier.notification_once;
        insert into notifier.notification select (jsonb_populate_record(n, '{{"id": 1}}')).* from notifier.notification n
        where ticket_id = {open} limit 1""",
    "open_ticket_is_watched": "update escalation.ticket set next_at = null where ticket_id = {open}",
    "every_open_ticket_has_a_next_mover": """update ledger.ticket set assignee = null, status = 'new' where id = {open};
        update ledger.agenda set due_at = null where id = {open}""",
}


@pytest.fixture(scope="module")
def door(servers: TestServers) -> Iterator[Door]:
    with servers.fresh_database() as url, open_door(url) as opened:
        yield opened


@pytest.fixture(scope="module")
def names(door: Door) -> dict[str, Any]:
    """A ticket that somebody has, and one that is closed."""
    open_one, closed = door.assigned(), door.assigned()
    for action in ("resolve", "close"):
        assert door.act(closed["id"], action).status == 200
    door.settle()
    return {"open": open_one["id"], "agent": open_one["assignee"], "closed": closed["id"]}


def broken(connection: Connection) -> set[str]:
    return {one.name for one in INVARIANTS if violations(connection, one)}


@pytest.mark.parametrize("name", BREAKS)
def test_an_invariant_sees_what_breaks_it(door: Door, names: dict[str, Any], name: str) -> None:
    with door.database.connect() as connection:
        assert broken(connection) == set()
        for statement in BREAKS[name].format(**names).split(";"):
            connection.exec_driver_sql(statement)
        assert name in broken(connection)
        connection.rollback()


def test_every_invariant_is_broken_here_once() -> None:
    assert {one.name for one in INVARIANTS} == set(BREAKS)
