"""Receipts and read marks over HTTP: verified, kept when early, never backwards; what is read stops the plan, clears the rest."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.notifier.channels.base import Kind, Outcome
from services.notifier.sender import ChannelSender
from shared.contracts.providers import standard
from shared.contracts.providers.receipts import Receipt, ReceiptState
from shared.ticket.commands import Resolve
from tests.support.desk import Desk, Door

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
WAKEFUL = (
    "plan: [{channel: inbox}, {channel: sms, wait: 0s}]",
    "plan: [{channel: inbox}, {channel: sms, wait: 0s}, {channel: mail, wait: 10m, until: read}]",
)


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNALBOX_SMS_KEY", SECRET)


def tell(door: Door, receipts: Sequence[dict[str, Any]], *, secret: str = SECRET, at: datetime | None = None) -> int:
    body = json.dumps({"receipts": receipts}).encode()
    stamp = int((at or datetime.now(UTC)).timestamp())
    headers = dict(standard.headers([secret], "r-1", stamp, body))
    return door.call("POST", "/v1/receipts/sms", body, content_type="application/json", **headers).status


def message(desk: Desk, ticket: int, channel: str = "sms") -> Any:
    return desk.rows(
        "select * from notifier.message where ticket_id = %s and channel = %s order by id desc", ticket, channel
    )[0]


def told(desk: Desk, number: int) -> list[str]:
    rows = desk.rows("select type from ledger.event where kind = 'delivery' and id = %s order by version", number)
    return [row.type for row in rows]


def test_receipts_move_a_message_forwards_only_whatever_their_order_and_number(desk: Desk, door: Door) -> None:
    sms = message(desk, desk.open())
    one = {"provider_id": sms.provider_id, "address": "13800000011"}
    for state in ("delivered", "delivered", "read", "delivered", "failed"):
        assert tell(door, [one | {"state": state}]) == 200
        desk.settle()
    assert message(desk, sms.ticket_id).state == "read"
    assert told(desk, sms.id) == ["delivery.sent", "delivery.delivered", "delivery.read"]
    assert desk.rows("select * from notifier.receipt") == []


def test_a_forged_or_old_or_unknown_receipt_is_refused_and_changes_nothing(desk: Desk, door: Door) -> None:
    sms = message(desk, desk.open())
    other = "whsec_" + base64.b64encode(b"x" * 32).decode()
    receipt = [{"provider_id": sms.provider_id, "state": "delivered"}]
    assert tell(door, receipt, secret=other) == 401
    assert tell(door, receipt, at=datetime.now(UTC) - timedelta(minutes=6)) == 401
    assert door.call("POST", "/v1/receipts/sms", b"{}").status == 401
    assert door.call("POST", "/v1/receipts/nobody", b"{}").status == 404
    assert door.call("POST", "/v1/receipts/mail", b"{}").status == 404
    desk.settle()
    assert message(desk, sms.ticket_id).state == "sent"


def test_a_receipt_that_comes_before_the_answer_to_the_call_is_kept_and_applied(desk: Desk, door: Door) -> None:
    last = desk.rows("select max(id) as id from notifier.message")[0].id or 0
    assert tell(door, [{"provider_id": "null-later", "state": "delivered"}]) == 200
    desk.settle()
    assert [row.provider_id for row in desk.rows("select * from notifier.receipt")] == ["null-later"]
    desk.answer = lambda _: Outcome(Kind.ACCEPTED, provider_id="null-later")
    sms = message(desk, desk.open())
    assert sms.id > last
    assert (sms.provider_id, sms.state) == ("null-later", "delivered")
    assert told(desk, sms.id) == ["delivery.sent", "delivery.delivered"]
    assert desk.rows("select * from notifier.receipt") == []


def test_a_receipt_that_never_finds_its_message_is_forgotten_after_three_days(desk: Desk, door: Door) -> None:
    assert tell(door, [{"provider_id": "nobody's", "state": "delivered"}]) == 200
    desk.settle()
    desk.wait(days=2)
    assert len(desk.rows("select * from notifier.receipt")) == 1
    desk.wait(days=2)
    assert desk.rows("select * from notifier.receipt") == []


def test_what_was_read_on_one_channel_is_read_in_the_inbox_and_stops_the_plan(desk: Desk, door: Door) -> None:
    desk.publish_changed(lambda text: text.replace(*WAKEFUL))
    ticket = desk.open()
    sms = message(desk, ticket)
    assert tell(door, [{"provider_id": sms.provider_id, "state": "read"}]) == 200
    desk.settle()
    inbox = message(desk, ticket, "inbox")
    assert (inbox.state, inbox.reason) == ("read", "read on sms")
    desk.wait(minutes=11)
    [step] = desk.rows("select * from notifier.notification where ticket_id = %s and channel = 'mail'", ticket)
    assert (step.state, step.reason) == ("cancelled", "read meanwhile")


def test_a_number_that_does_not_exist_is_not_tried_again_and_the_next_channel_comes_at_once(
    desk: Desk, door: Door
) -> None:
    desk.publish_changed(lambda text: text.replace(*WAKEFUL))
    ticket = desk.open()
    sms = message(desk, ticket)
    assert (
        tell(door, [{"provider_id": sms.provider_id, "state": "failed", "detail": "空号", "bad_recipient": True}])
        == 200
    )
    desk.settle()
    assert message(desk, ticket).state == "failed"
    assert message(desk, ticket, "mail").state == "sent"  # ten minutes early
    owner = sms.recipient
    desk.act(ticket, Resolve(), owner)
    again = desk.open_many([{} for _ in range(40)])  # somebody else's, and the same person's
    steps = desk.rows(
        """select * from notifier.notification where recipient = %s and ticket_id = any(%s) and event_type = 'ticket.assigned'
        order by id""",
        owner,
        again,
    )
    mine = {(step.channel, step.state) for step in steps}
    assert mine == {("inbox", "sent"), ("sms", "suppressed"), ("mail", "sent")}
    assert "空号" in next(step.reason for step in steps if step.channel == "sms")


def test_the_inbox_shows_a_persons_own_messages_and_keeps_what_they_marked(desk: Desk, door: Door) -> None:
    ticket = desk.open()
    person = message(desk, ticket, "inbox").recipient
    own = {"authorization": f"Bearer {desk.key(person)}"}
    other = {"authorization": f"Bearer {desk.key('wu.qian')}"}
    shown = door.call("GET", "/v1/inbox", **own).json
    assert shown["unread"] == 1
    [item] = shown["items"]
    assert item["title"] == f"新工单 T-{ticket}"
    assert (item["read"], item["ticket"], item["event"]) == (False, str(ticket), "ticket.assigned")
    assert door.call("GET", "/v1/inbox", **other).json["items"] == []
    as_json = {"content_type": "application/json"}
    assert door.call("POST", "/v1/inbox/read", {"ids": [item["id"]]}, **other, **as_json).json == {"marked": 0}
    assert door.call("POST", "/v1/inbox/read", {"ids": [item["id"]]}, **own, **as_json).json == {"marked": 1}
    desk.settle()
    assert door.call("GET", "/v1/inbox?unread=1", **own).json["items"] == []
    assert [one["read"] for one in door.call("GET", "/v1/inbox", **own).json["items"]] == [True]
    assert told(desk, int(item["id"])) == ["delivery.sent", "delivery.read"]
    assert door.call("POST", "/v1/inbox/read", {"all": True}, **own, **as_json).json == {"marked": 0}


def test_the_inbox_belongs_to_a_person(desk: Desk, door: Door) -> None:
    assert door.call("GET", "/v1/inbox").status == 401
    with desk.database.begin() as connection:
        from shared.access import keys

        key = keys.create(connection, name="robot", roles=frozenset({"admin"}))
    assert door.call("GET", "/v1/inbox", authorization=f"Bearer {key}").status == 403


def test_an_open_stream_hears_of_a_new_message_and_of_a_read_mark(desk: Desk, door: Door) -> None:
    person = "guo.tao"
    key = desk.key(person)
    with door.stream("/v1/inbox/stream", authorization=f"Bearer {key}") as events:
        assert next(events)["unread"] == 0
        desk.open_many([{} for _ in range(4)])  # round the group that repairs printers
        heard = next(events)
        assert heard["unread"] == 1
        assert heard["items"][0]["event"] == "ticket.assigned"
        door.call(
            "POST", "/v1/inbox/read", {"all": True}, authorization=f"Bearer {key}", content_type="application/json"
        )
        desk.settle()
        assert next(events)["unread"] == 0


def test_receipts_of_a_drivers_own_connection_are_applied_as_the_others(desk: Desk) -> None:
    sms = message(desk, desk.open())
    ChannelSender(desk.deps, desk.database).report("sms", [Receipt(sms.provider_id, ReceiptState.DELIVERED)])
    desk.settle()
    assert message(desk, sms.ticket_id).state == "delivered"
