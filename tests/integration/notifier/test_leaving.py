"""A message that is sent leaves the agenda, and comes back to it when something new is to be done about it."""

from __future__ import annotations

from typing import Any

from services.notifier.channels.base import Kind, Outcome
from tests.support.desk import Desk


def agenda(desk: Desk) -> list[Any]:
    return desk.rows("select * from ledger.agenda where kind = 'delivery' order by id")


def test_what_is_sent_leaves_the_agenda_and_what_waits_stays_in_it(desk: Desk) -> None:
    desk.answer = lambda job: (
        Outcome(Kind.TRANSIENT, code="503")
        if job.row.recipient == sick and not job.row.attempts
        else Outcome(Kind.ACCEPTED, provider_id=f"p-{job.row.id}")
    )
    sick = ""
    first = desk.open()
    assert agenda(desk) == []
    sick = desk.rows("select recipient from notifier.message where ticket_id = %s and channel = 'sms'", first)[
        0
    ].recipient
    tickets = desk.open_many([{} for _ in range(12)])
    waiting = desk.rows(
        "select id from notifier.message where ticket_id = any(%s) and state = 'held' order by id", tickets
    )
    assert waiting
    assert [row.id for row in agenda(desk)] == [row.id for row in waiting]
    desk.wait(minutes=10)
    assert agenda(desk) == []
    assert desk.rows("select * from notifier.message where state not in ('sent', 'read')") == []


def test_an_id_that_a_provider_only_gives_back_is_not_kept_twice(desk: Desk) -> None:
    desk.answer = lambda job: Outcome(Kind.ACCEPTED, provider_id=job.message.message_id)
    ticket = desk.open()
    [sms] = desk.rows("select * from notifier.message where ticket_id = %s and channel = 'sms'", ticket)
    assert (sms.state, sms.provider_id) == ("sent", None)
    [sent] = desk.rows("select data from ledger.event where kind = 'delivery' and id = %s", sms.id)
    assert sent.data["provider_id"] == f"sb-{sms.id}"
