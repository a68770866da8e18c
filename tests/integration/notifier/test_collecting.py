"""What is held, suppressed or collected, through the real services: nothing is lost, and every delivery says why it waits."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from services.notifier.channels.base import Kind, Outcome
from services.notifier.sending import Job
from shared.ticket import commands as c
from tests.support.desk import START, Desk

CAPPED = "messages:\n  caps: [{limit: 3, per: 1m}, {limit: 10, per: 1h}]\n"


def messages(desk: Desk, channel: str = "sms") -> list[Any]:
    return desk.rows("select * from notifier.message where channel = %s order by id", channel)


def states(desk: Desk, channel: str = "sms") -> Counter[str]:
    return Counter(row.state for row in messages(desk, channel))


def test_a_thousand_events_in_a_minute_for_one_person_stay_under_the_caps_and_none_is_lost(desk: Desk) -> None:
    """All tickets go to one person; every minute and hour has at most its number of messages, which say everything."""
    desk.publish_changed(lambda text: text.replace("messages:\n", CAPPED).replace("capacity: 8,", "capacity: 5000,"))
    for _ in range(10):
        for number in desk.open_many([{"subject": "wifi down"} for _ in range(10)]):
            desk.act(number, c.Transfer(agent="xu.kai"), "sun.li") if number % 10 == 0 else None
        desk.wait(seconds=6)
    desk.wait(hours=3)
    rows = messages(desk)
    assert set(states(desk)) == {"sent"}
    for person in {row.recipient for row in rows}:
        went = sorted(row.sent_at for row in rows if row.recipient == person and row.bundle is None)
        assert all(b - a >= timedelta(minutes=1) for a, b in zip(went, went[3:], strict=False))
        assert all(b - a >= timedelta(hours=1) for a, b in zip(went, went[10:], strict=False))
    carriers = {job.row.id: job for job in desk.sent if job.carries and job.row.channel == "sms"}
    for number, job in carriers.items():
        inside = [row for row in rows if row.bundle == number]
        assert len(inside) == job.carries
        assert f"{job.carries + 1} 条消息" in job.message.content.text
    promised = desk.rows("select count(*) as n from notifier.notification where channel = 'sms' and state = 'sent'")
    assert promised[0].n == len(rows)


def test_the_first_message_of_a_digest_goes_at_once_and_the_rest_in_one_at_the_windows_end(desk: Desk) -> None:
    digest = "plan: [{channel: inbox}, {channel: sms, wait: 0s}]\n      digest: {window: 10m, max_items: 3}"
    desk.publish_changed(lambda text: text.replace("plan: [{channel: inbox}, {channel: sms, wait: 0s}]", digest))
    tickets = desk.open_many([{} for _ in range(24)])  # six each for four people
    assert states(desk) == {"sent": 4, "held": 20}
    assert {row.reason for row in messages(desk) if row.state == "held"} == {
        "collected for 10m: one message for assigned"
    }
    desk.wait(minutes=10)
    assert states(desk) == {"sent": 24}
    late = [job for job in desk.sent if job.carries]
    assert [job.carries for job in late] == [4, 4, 4, 4]
    assert "另有 2 条" in late[0].message.content.text
    assert len({row.ticket_id for row in messages(desk)}) == len(tickets)
    told = desk.rows("select count(*) as n from ledger.event where kind = 'delivery' and type = 'delivery.sent'")[0].n
    assert told == 48  # each promise in the inbox and by SMS


def test_a_storm_of_one_source_is_a_summary_and_a_closing_one(desk: Desk) -> None:
    desk.publish_changed(lambda text: text.replace("messages:\n", "messages:\n  storm: {limit: 5, per: 1m}\n", 1))
    desk.open_many([{"source": "monitor"} for _ in range(12)])
    desk.open(source="web")  # another source is as ever
    assert states(desk) == {"held": 12, "sent": 1}
    assert {row.reason for row in messages(desk) if row.state == "held"} == {"collected: monitor sends more than usual"}
    desk.wait(seconds=6)
    first = len([job for job in desk.sent if job.carries])
    desk.open_many([{"source": "monitor"} for _ in range(4)])
    desk.wait(minutes=5)
    assert first == 4  # one summary for each person
    assert set(states(desk)) == {"sent"}
    desk.open(source="monitor")
    assert desk.sent[-1].carries == 0


def test_quiet_hours_hold_a_message_with_a_reason_and_an_acceptance_cancels_it(desk: Desk) -> None:
    with desk.database.begin() as connection:
        connection.exec_driver_sql(
            """update ledger.item set version = version + 1, state = state || '{"quiet_hours": "09:00-11:30"}'
            where kind = 'agent' and version > 0"""
        )
    desk.deps.directory.forget()
    ticket, other = desk.open_many([{}, {}])
    assert states(desk) == {}
    step = desk.rows("select * from notifier.notification where ticket_id = %s and channel = 'sms'", ticket)[0]
    assert step.state == "planned"
    assert step.reason == f"held: quiet hours of {step.recipient} until 11:30 (Asia/Shanghai)"
    desk.wait(hours=1, minutes=31)
    sent = {row.ticket_id: row.sent_at for row in messages(desk) if row.event_type == "ticket.assigned"}
    assert sent == dict.fromkeys((ticket, other), START + timedelta(hours=1, minutes=30))


def test_an_unknown_message_is_looked_up_and_sent_again_only_when_it_never_arrived(desk: Desk) -> None:
    known: dict[int, Outcome | None] = {}

    def answer(job: Job) -> Outcome | None:
        if job.row.channel != "sms":
            return Outcome(Kind.ACCEPTED, provider_id=f"p-{job.row.id}")
        if job.look:
            return known[job.row.ticket_id or 0]
        return (
            Outcome(Kind.UNKNOWN, code="no_answer")
            if not job.row.attempts
            else Outcome(Kind.ACCEPTED, provider_id="again")
        )

    desk.answer = answer
    arrived, lost = desk.open_many([{}, {}])
    known |= {arrived: Outcome(Kind.ACCEPTED, provider_id="there"), lost: None}
    assert states(desk) == {"unknown": 2}
    desk.wait(seconds=30)
    by_ticket = {row.ticket_id: row for row in messages(desk)}
    assert [one["outcome"] for one in by_ticket[arrived].attempts] == ["unknown", "lookup accepted"]
    assert [one["outcome"] for one in by_ticket[lost].attempts] == ["unknown", "lookup nothing", "accepted"]
    assert states(desk) == {"sent": 2}
    calls = [job for job in desk.sent if job.row.channel == "sms" and not job.look]
    assert len({job.message.message_id for job in calls if job.row.ticket_id == lost}) == 1


def test_a_dead_provider_is_probed_once_in_five_seconds_and_everything_goes_when_it_is_back(desk: Desk) -> None:
    dead = True
    desk.answer = lambda job: (
        Outcome(Kind.TRANSIENT, code="503")
        if dead and job.row.channel == "sms"
        else Outcome(Kind.ACCEPTED, provider_id=f"p-{job.row.id}")
    )
    desk.open_many([{} for _ in range(20)])
    opened = desk.rows("select * from notifier.provider_state where provider = 'sms'")[0]
    assert opened.open_since is not None
    before = len(desk.sent)
    desk.wait(minutes=30)
    probes = [job for job in desk.sent[before:] if job.row.channel == "sms"]
    assert 1 <= len(probes) <= 30 * 60 / 5
    held = [row for row in messages(desk) if row.state == "held"]
    assert {row.reason for row in held} >= {"no provider can be reached now (sms)"}
    dead = False
    desk.wait(minutes=20)
    assert set(states(desk)) <= {"sent", "failed"}
    assert all(row.reason for row in messages(desk) if row.state == "failed")
    history = desk.rows("select reason from notifier.provider_history where provider = 'sms' order by id")
    assert history[0].reason.startswith("opened: 8 failures in a row (503")
    assert any("a probe succeeded" in one.reason for one in history)


@pytest.mark.parametrize("scope", ["recipient", "account"])
def test_a_quota_is_kept_before_the_call(desk: Desk, scope: str) -> None:
    quota = f"driver: signed_http_sms\n    quotas: [{{limit: 4, per: 1m, of: {scope}}}]"
    desk.publish_changed(lambda text: text.replace("driver: signed_http_sms", quota))
    desk.open_many([{} for _ in range(12)])
    desk.wait(minutes=20)
    assert states(desk)["sent"] >= 12
    places = {row.recipient if scope == "recipient" else "" for row in messages(desk)}
    for place in places:
        went = sorted(row.sent_at for row in messages(desk) if scope == "account" or row.recipient == place)
        assert all(b - a >= timedelta(seconds=30) for a, b in zip(went, went[4:], strict=False))


INBOX = "  - {name: inbox, driver: inbox}\n"
ROBOT = {
    INBOX: INBOX
    + "  - {name: ops, channel: robot, driver: dingtalk_robot, secrets: {token: {env: SIGNALBOX_SMS_KEY}}}\n",
    "capacity: 8,": "capacity: 50,",
    "audience: [{to: [assignee]}]\n      plan: [{channel: inbox}, {channel: sms, wait: 0s}]": 'audience: [{to: ["robot:ops"]}]\n'
    "      plan: [{channel: robot}]",
}


def test_a_robot_over_its_limit_says_the_rest_in_digests_and_loses_nothing(desk: Desk) -> None:
    def changed(text: str) -> str:
        for old, new in ROBOT.items():
            text = text.replace(old, new)
        return text

    desk.publish_changed(changed)
    for _ in range(3):
        desk.open_many([{} for _ in range(30)])
        desk.wait(seconds=5)
    desk.wait(minutes=10)
    rows = messages(desk, "robot")
    assert len(rows) == 90
    assert set(states(desk, "robot")) == {"sent"}
    went = sorted(row.sent_at for row in rows if row.bundle is None)
    assert len(went) < len(rows)
    assert all(b - a >= timedelta(seconds=30) for a, b in zip(went, went[20:], strict=False))
    carriers = [job for job in desk.sent if job.carries and job.row.channel == "robot"]
    assert sum(job.carries for job in carriers) == sum(row.bundle is not None for row in rows)
    assert all(len((job.message.content.markdown or job.message.content.text).encode()) <= 20_000 for job in carriers)
