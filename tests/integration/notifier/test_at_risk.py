"""The shipped cascade of a promise at risk: the app, chat, SMS, the next person, until somebody accepts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.ticket import commands as c
from tests.support.desk import Desk


def reachable(text: str) -> str:
    """Everybody has an address in the chat."""
    return text.replace("contacts: {", "contacts: {chat: someone, ")


def steps(desk: Desk, ticket: int, warned: Any) -> list[tuple[str, str, int | None]]:
    """(recipient, channel, minutes after the warning) of what was sent because of it."""
    rows = desk.rows(
        """select n.recipient, n.channel, m.created_at from notifier.notification n join notifier.message m on m.id = n.message_id
        where n.ticket_id = %s and n.event_type = 'sla.warned' and n.rule like 'at-risk%%' order by m.created_at, n.channel""",
        ticket,
    )
    return [(row.recipient, row.channel, round((row.created_at - warned) / timedelta(minutes=1))) for row in rows]


def warned_at(desk: Desk, ticket: int) -> Any:
    for _ in range(240):
        found = desk.rows(
            "select recorded_at from ledger.event where kind = 'ticket' and id = %s and type = 'sla.warned'", ticket
        )
        if found:
            return found[0].recorded_at
        desk.wait(minutes=1)
    pytest.fail("no promise was ever at risk")


def owner(desk: Desk, ticket: int) -> str:
    return str(desk.rows("select assignee from ledger.ticket where id = %s", ticket)[0].assignee)


def test_a_promise_at_risk_is_told_step_by_step_and_then_to_the_next_person(desk: Desk) -> None:
    desk.publish_changed(reachable)
    ticket = desk.open()
    warned, mine = warned_at(desk, ticket), owner(desk, ticket)
    desk.wait(minutes=16)
    with desk.database.connect() as connection:
        boss = desk.deps.directory.get(connection).person(mine).manager
    assert steps(desk, ticket, warned) == [
        (mine, "inbox", 0), (mine, "chat", 5), (mine, "sms", 10), (boss, "inbox", 15), (boss, "sms", 15),
    ]  # fmt: skip


def test_an_acceptance_in_time_cancels_whatever_is_still_to_come(desk: Desk) -> None:
    desk.publish_changed(reachable)
    ticket = desk.open()
    warned, mine = warned_at(desk, ticket), owner(desk, ticket)
    desk.act(ticket, c.Accept(), mine)
    desk.wait(minutes=30)
    assert steps(desk, ticket, warned) == [(mine, "inbox", 0)]
    reasons = desk.rows(
        """select distinct state, reason from notifier.notification
        where ticket_id = %s and rule like 'at-risk%%' and state <> 'sent'""",
        ticket,
    )
    assert [tuple(row) for row in reasons] == [("cancelled", "accepted meanwhile")]
