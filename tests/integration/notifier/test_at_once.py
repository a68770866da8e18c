"""A message that can go now is marked by the transaction that plans it, and nothing is lost by that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from services.notifier.null_sender import NullSender
from tests.support.desk import Desk


def texts(desk: Desk, ticket: int) -> list[Any]:
    return desk.rows("select * from notifier.message where ticket_id = %s and channel = 'sms' order by id", ticket)


def test_a_message_is_marked_with_its_plan_and_a_sender_that_dies_before_the_call_is_found_out(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as gone:
        gone.setattr(NullSender, "take", lambda self, jobs: None)
        ticket = desk.open()
    [text] = texts(desk, ticket)
    assert (text.state, text.epoch, text.sent_at, text.attempts) == ("sending", 1, desk.now, [])
    [lease] = desk.rows("select * from ledger.agenda where kind = 'delivery' and id = %s", text.id)
    assert lease.due_at > desk.now
    desk.engine.settle_all()
    assert texts(desk, ticket)[0].state == "sending"  # it may be on its way until its lease ends
    desk.wait(minutes=2)
    [text] = texts(desk, ticket)
    assert (text.state, text.epoch) == ("sent", 2)
    assert [one["outcome"] for one in text.attempts] == ["unknown", "lookup accepted"]


def test_what_is_planned_leaves_half_of_the_room_to_what_waits(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def room(_: NullSender) -> Mapping[str, int]:
        return {"sms": 4}

    monkeypatch.setattr(NullSender, "room", room)
    together: list[int] = []
    desk.engine.on_send = lambda jobs: together.append(sum(job.row.channel == "sms" for job in jobs))
    tickets = desk.open_many([{} for _ in range(9)])
    assert together[0] == 2
    assert max(together) == 4
    desk.wait(minutes=1)
    assert sum(together) == 9
    assert {row.state for ticket in tickets for row in texts(desk, ticket)} == {"sent"}


def test_what_failed_before_goes_the_long_way_where_one_message_fails_alone(desk: Desk) -> None:
    """What speaks against marking it here is the message's own trouble: its ticket is planned all the same."""
    with desk.database.begin() as connection:
        connection.exec_driver_sql(
            """create function refuses() returns trigger language plpgsql as $$
            begin
                raise exception 'not at once';
            end $$;
            create trigger refuses before insert on notifier.message for each row
            when (new.state = 'sending') execute function refuses()"""
        )
    ticket = desk.open()
    assert texts(desk, ticket) == []
    desk.wait(minutes=2)
    [text] = texts(desk, ticket)
    assert (text.state, text.epoch) == ("sent", 1)
