"""Many answers that say the same are recorded together, and each message all the same by what became of it."""

from __future__ import annotations

from typing import Any

import pytest

from services.notifier.channels.base import Kind, Outcome
from services.notifier.null_sender import NullSender
from services.notifier.recording import ALIKE
from services.notifier.sending import Job
from tests.integration.notifier.test_receipts import SECRET, tell
from tests.support.desk import Desk, Door

MANY = [{} for _ in range(ALIKE + 2)]


def texts(desk: Desk) -> list[Any]:
    return desk.rows("select * from notifier.message where channel = 'sms' order by id")


def told(desk: Desk, number: int) -> list[tuple[int, str]]:
    rows = desk.rows("select version, type from ledger.event where kind = 'delivery' and id = %s order by 1", number)
    return [tuple(row) for row in rows]


def taken_over(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Text messages that are being sent and not answered yet."""
    taken: list[Job] = []
    with monkeypatch.context() as kept:
        kept.setattr(NullSender, "take", lambda self, jobs: taken.extend(jobs))
        desk.open_many(MANY)
    found = [job for job in taken if job.row.channel == "sms"]
    assert len(found) >= ALIKE
    return found


def test_a_stale_answer_among_many_changes_nothing_and_the_others_are_recorded(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = taken_over(desk, monkeypatch)
    again, over, *rest = (job.row.id for job in jobs)
    with desk.database.begin() as connection:
        connection.exec_driver_sql("update notifier.message set epoch = 2 where id = %s", (again,))
        connection.exec_driver_sql("update notifier.message set state = 'unknown' where id = %s", (over,))
    sender = NullSender(
        desk.deps, desk.database, answer=lambda job: Outcome(Kind.ACCEPTED, provider_id="together", code="OK")
    )
    sender.take(jobs)
    rows = {row.id: row for row in texts(desk)}
    assert (rows[again].state, rows[again].attempts, told(desk, again)) == ("sending", [], [])
    assert (rows[over].state, rows[over].attempts, told(desk, over)) == ("unknown", [], [])
    for number in rest:
        row = rows[number]
        assert (row.state, row.provider_id, row.version) == ("sent", "together", 1)
        [attempt] = row.attempts
        assert {attempt[name] for name in ("outcome", "code", "provider_id")} == {"accepted", "OK", "together"}
        assert told(desk, number) == [(1, "delivery.sent")]
    waiting = desk.rows("select id from ledger.agenda where kind = 'delivery' and due_at is not null")
    assert {row.id for row in waiting} & set(rest) == set()
    sender.take(jobs)  # the same answers once more: their commit was lost on the way back
    assert [told(desk, number) for number in rest] == [[(1, "delivery.sent")]] * len(rest)


def test_receipts_that_came_before_the_answers_of_many_are_applied_to_theirs(
    desk: Desk, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNALBOX_SMS_KEY", SECRET)
    jobs = taken_over(desk, monkeypatch)
    first, second = jobs[0].row.id, jobs[1].row.id
    early = [(f"sb-{first}", "delivered"), (f"sb-{first}", "read"), (f"sb-{second}", "failed")]
    assert tell(door, [{"provider_id": name, "state": state} for name, state in early]) == 200
    desk.settle()
    NullSender(
        desk.deps, desk.database, answer=lambda job: Outcome(Kind.ACCEPTED, provider_id=f"sb-{job.row.id}")
    ).take(jobs)
    rows = {row.id: row for row in texts(desk)}
    assert (rows[first].state, rows[second].state) == ("read", "failed")
    assert told(desk, first)[0][1] == "delivery.sent"
    assert told(desk, first)[-1] == (rows[first].version, "delivery.read")
    assert told(desk, second)[-1] == (rows[second].version, "delivery.failed")
    assert {row.state for number, row in rows.items() if number not in (first, second)} == {"sent"}
    assert desk.rows("select * from notifier.receipt") == []
