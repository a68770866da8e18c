"""Receipts that are asked for, and what late ones mean for a provider, through the real services."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from services.notifier.channels.base import Kind, Outcome
from services.notifier.sending import Job
from shared.contracts.providers import standard
from shared.contracts.providers.receipts import ReceiptState
from tests.support.desk import Desk, Door

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
CHAT = {
    "plan: [{channel: inbox}, {channel: sms, wait: 0s}]": "plan: [{channel: chat}, {channel: sms, wait: 5m, until: read}]",
    "contacts: {": "contacts: {chat: someone, ",
}


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNALBOX_SMS_KEY", SECRET)


def chatty(text: str) -> str:
    for old, new in CHAT.items():
        text = text.replace(old, new)
    return text


def chats(desk: Desk, ticket: int) -> Any:
    return desk.rows("select * from notifier.message where ticket_id = %s and channel = 'chat' order by id", ticket)[0]


def test_a_notice_is_asked_about_until_it_is_read_which_cancels_the_next_step(desk: Desk) -> None:
    known: list[ReceiptState | None] = [None]
    asked: list[int] = []

    def answer(job: Job) -> Outcome:
        if job.polls and job.look:
            asked.append(job.row.id)
            return Outcome(Kind.ACCEPTED, job.message.provider_id, state=known[0])
        return Outcome(Kind.ACCEPTED, f"4711{job.row.id}")

    desk.answer = answer
    desk.publish_changed(chatty)
    ticket = desk.open()
    assert chats(desk, ticket).state == "sent"
    desk.wait(seconds=20)
    assert (len(asked), chats(desk, ticket).state) == (1, "sent")
    known[0] = ReceiptState.DELIVERED
    desk.wait(minutes=1)
    assert chats(desk, ticket).state == "delivered"
    known[0] = ReceiptState.READ
    desk.wait(minutes=3)
    assert chats(desk, ticket).state == "read"
    before = asked.count(chats(desk, ticket).id)
    desk.wait(days=2)
    assert asked.count(chats(desk, ticket).id) == before  # nothing new can be told
    [step] = desk.rows(
        "select * from notifier.notification where ticket_id = %s and channel = 'sms' and rule = 'assigned' order by id limit 1",
        ticket,
    )
    assert (step.state, step.reason) == ("cancelled", "read meanwhile")


def test_asking_ends_within_a_day_when_nothing_is_ever_told(desk: Desk) -> None:
    asked: list[int] = []

    def answer(job: Job) -> Outcome:
        if job.polls and job.look:
            asked.append(job.row.id)
            return Outcome(Kind.UNKNOWN)
        return Outcome(Kind.ACCEPTED, f"4711{job.row.id}")

    desk.answer = answer
    desk.publish_changed(chatty)
    chat = chats(desk, desk.open())
    desk.wait(days=2)
    assert asked.count(chat.id) == 8
    assert desk.rows("select * from ledger.agenda where kind = 'delivery' and id = %s", chat.id) == []


def test_what_a_provider_took_and_failed_at_is_sent_once_more_and_only_once(desk: Desk) -> None:
    calls: list[int] = []

    def answer(job: Job) -> Outcome:
        if job.polls and job.look:
            return Outcome(Kind.TRANSIENT, code="failed_user")
        calls.append(job.row.id)
        return Outcome(Kind.ACCEPTED, f"4711{len(calls)}")

    desk.answer = answer
    desk.publish_changed(chatty)
    ticket = desk.open()
    chat = chats(desk, ticket)
    desk.wait(seconds=20)
    again = chats(desk, ticket)
    assert (again.state, again.reason) == ("held", "the provider failed at it, sent once more: failed_user")
    desk.wait(seconds=12)
    again = chats(desk, ticket)
    assert (again.state, calls.count(chat.id)) == ("sent", 2)
    assert again.provider_id != chat.provider_id
    desk.wait(minutes=2)
    over = chats(desk, ticket)
    assert (over.state, calls.count(chat.id)) == ("failed", 2)
    assert [one["outcome"] for one in over.attempts] == ["accepted", "receipt failed"] * 2
    steps = desk.rows("select state from notifier.message where ticket_id = %s and channel = 'sms'", ticket)
    assert steps  # the next step of its plan came


def report(door: Door, desk: Desk, provider_ids: list[str]) -> None:
    body = json.dumps({"receipts": [{"provider_id": one, "state": "delivered"} for one in provider_ids]}).encode()
    headers = dict(standard.headers([SECRET], "r-1", int(datetime.now(UTC).timestamp()), body))
    assert door.call("POST", "/v1/receipts/sms", body, content_type="application/json", **headers).status == 200
    desk.settle()


@pytest.mark.parametrize(("minutes", "left"), [(1, 1.0), (3, 0.5)], ids=["on time", "late"])
def test_a_provider_whose_receipts_come_late_is_given_fewer_messages(
    desk: Desk, door: Door, minutes: int, left: float
) -> None:
    desk.open_many([{} for _ in range(24)])
    desk.wait(seconds=6)
    desk.open_many([{} for _ in range(6)])  # what was seen of the first calls is written with these
    desk.wait(minutes=minutes)
    sent = desk.rows("select provider_id from notifier.message where channel = 'sms' and state = 'sent'")
    assert len(sent) >= 24
    report(door, desk, [row.provider_id for row in sent])
    answer = door.call("GET", "/v1/providers", authorization=f"Bearer {desk.key('sun.li', 'lead')}")
    assert answer.status == 200, answer.body
    [sms] = [one for one in answer.json["items"] if one["name"] == "sms"]
    assert (sms["share"], sms["open"], sms["driver"]) == (left, False, "signed_http_sms")
    told = [one["reason"] for one in sms["history"]]
    assert told == ([] if left == 1.0 else ["share 1 to 0.5: 100% of receipts came late"])


def test_a_receipt_finds_its_message_by_our_own_id_where_the_provider_has_none(desk: Desk, door: Door) -> None:
    desk.answer = lambda job: Outcome(Kind.ACCEPTED, provider_id=job.message.message_id)
    ticket = desk.open()
    [sms] = desk.rows("select id from notifier.message where ticket_id = %s and channel = 'sms'", ticket)
    report(door, desk, [f"sb-{sms.id}"])
    assert desk.rows("select state from notifier.message where id = %s", sms.id)[0].state == "delivered"
