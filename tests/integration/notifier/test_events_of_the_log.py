"""What a message is about stands in the log once, and is found there by whoever sends it later."""

from __future__ import annotations

from typing import Any

import pytest

from services.notifier.channels.base import Kind, Outcome
from tests.support.desk import Desk, numbered

SAID = 'sms: &accept\n          zh-CN: {text: "'
NAMES_THE_AGENT = SAID + "给 {{ event.data.agent | default('?') }}："


@pytest.fixture
def busy(desk: Desk) -> Desk:
    """Its texts name the agent of the event; the provider of texts has no time at first."""
    desk.publish_changed(lambda text: text.replace(SAID, NAMES_THE_AGENT))
    desk.answer = lambda job: Outcome(Kind.THROTTLED) if job.row.channel == "sms" else numbered(job)
    return desk


def texts(desk: Desk, ticket: int) -> list[Any]:
    return desk.rows("select * from notifier.message where ticket_id = %s and channel = 'sms'", ticket)


def sent_later(desk: Desk) -> str:
    desk.answer, desk.sent = numbered, []
    desk.wait(minutes=1)
    [job] = [job for job in desk.sent if job.row.channel == "sms"]
    return job.message.content.text


def test_a_message_that_is_sent_later_says_what_its_event_says(busy: Desk) -> None:
    ticket = busy.open()
    [text] = texts(busy, ticket)
    assert (text.state, text.event) == ("held", {})
    assert sent_later(busy).startswith(f"给 {text.recipient}：")


def test_a_message_that_was_written_with_its_event_says_what_that_says(busy: Desk) -> None:
    ticket = busy.open()
    with busy.database.begin() as connection:
        connection.exec_driver_sql(
            """update notifier.message set event = '{"agent": "old.hand"}' where channel = 'sms'"""
        )
    assert texts(busy, ticket)[0].state == "held"
    assert sent_later(busy).startswith("给 old.hand：")
