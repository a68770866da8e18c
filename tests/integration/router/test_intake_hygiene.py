"""Alarms that repeat, rules that hold back, senders that are machines: through the real services on a virtual clock."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.ticket import commands as c
from tests.support.routing import START, playbook, routing_desk

ALARM = {"subject": "disk full on db-7", "source": "monitoring", "dedup_key": "db-7/disk"}


def held_rules(at_least: int = 3, within: str = "5m", per: str = "dedup_key") -> list[dict[str, Any]]:
    hold = {"at_least": at_least, "within": within, "per": per}
    rules = [
        {"name": "alarm", "when": {"source": "monitoring"}, "then": {"group": "desk", "hold": hold}},
        {"name": "else", "default": True, "then": {"group": "desk"}},
    ]
    return [{"name": "all", "rules": rules}]


def test_a_repeated_alarm_is_noted_on_the_open_ticket_and_ends_merged_into_it(database_url: str) -> None:
    with routing_desk(database_url, playbook()) as desk:
        first = desk.open(**ALARM)
        second = desk.open(**ALARM, body="91 %")
        shown = desk.ticket(second)
        assert (shown["status"], shown["merged_into"]) == ("merged", str(first))
        assert desk.types(second) == ["ticket.opened", "ticket.merged"]
        noted = next(row for row in desk.timeline(first) if row["type"] == "ticket.noted")
        assert noted["data"]["repeat"]["body"] == "91 %"
        # no timers, no load, no messages: nobody was ever told about the repeat
        assert desk.scalar("select count(*) from ledger.agenda where id = %s", second) == 0
        assert desk.scalar("select sum(open_count) from router.load") == 1
        assert desk.scalar("select count(*) from sla.v_clock where ticket_id = %s", second) == 0


def test_a_repeat_that_is_sent_again_is_noted_once(database_url: str) -> None:
    with routing_desk(database_url, playbook()) as desk:
        first = desk.open(**ALARM, external_id="a1")
        again = [desk.open(**ALARM, external_id="a2") for _ in range(3)]
        assert len(set(again)) == 1
        assert desk.types(first).count("ticket.noted") == 1
        assert desk.open(**ALARM, external_id="a1") == first
        assert desk.types(first).count("ticket.noted") == 1


def test_of_first_alarms_that_come_together_one_is_opened(database_url: str) -> None:
    with routing_desk(database_url, playbook()) as desk:
        answers = desk.post(*[ALARM] * 4, {"subject": "another"})
        statuses = [answer.ticket.status for answer in answers if answer.ticket is not None]
        assert statuses == ["new", "merged", "merged", "merged", "new"]
        desk.engine.move_to(desk.now)
        assert answers[0].ticket is not None
        assert desk.types(answers[0].ticket.id).count("ticket.noted") == 3


def test_an_alarm_after_the_end_of_the_last_one_opens_a_new_ticket(database_url: str) -> None:
    with routing_desk(database_url, playbook()) as desk:
        first = desk.open(**ALARM)
        desk.act(first, c.Resolve(), "ann")
        assert desk.ticket(desk.open(**ALARM))["status"] == "assigned"


def test_a_held_alarm_waits_for_enough_of_its_kind_and_then_is_acted_on_at_once(database_url: str) -> None:
    with routing_desk(database_url, playbook(rules=held_rules())) as desk:
        first = desk.open(**ALARM)
        assert desk.types(first) == ["ticket.opened", "ticket.held"]
        assert desk.scalar("select count(*) from sla.v_clock") == 0
        desk.wait(minutes=2)
        desk.open(**ALARM)
        assert desk.ticket(first)["status"] == "new"
        desk.wait(minutes=2)
        desk.open(**ALARM)
        assert desk.ticket(first)["status"] == "assigned"
        assert desk.scalar("select count(*) from router.hold") == 0


def test_the_window_of_a_hold_slides_with_its_occurrences(database_url: str) -> None:
    with routing_desk(database_url, playbook(rules=held_rules())) as desk:
        first = desk.open(**ALARM)
        for _ in range(2):  # at 4 and 8 minutes: never three within five
            desk.wait(minutes=4)
            desk.open(**ALARM)
        assert desk.ticket(first)["status"] == "new"
        desk.wait(seconds=30)
        desk.open(**ALARM)
        assert desk.ticket(first)["status"] == "assigned"


def test_a_held_alarm_that_stays_alone_is_closed_with_the_reason(database_url: str) -> None:
    with routing_desk(database_url, playbook(rules=held_rules())) as desk:
        first = desk.open(**ALARM)
        desk.wait(minutes=4, seconds=59)
        assert desk.ticket(first)["status"] == "new"
        desk.wait(seconds=2)
        shown = desk.ticket(first)
        assert shown["status"] == "closed"
        assert shown["closed_at"] == START + timedelta(minutes=5)
        assert desk.timeline(first)[-1]["data"]["reason"] == "fewer than 3 within 5m"


def test_a_hold_by_another_fact_counts_different_tickets_and_releases_them_all(database_url: str) -> None:
    rules = held_rules(per="requester.id")
    with routing_desk(database_url, playbook(rules=rules)) as desk:
        asked = {"id": "probe-1"}
        ids = [desk.open(subject=f"alarm {n}", source="monitoring", requester=asked) for n in range(3)]
        other = desk.open(subject="alarm", source="monitoring", requester={"id": "probe-2"})
        assert [desk.ticket(one)["status"] for one in ids] == ["assigned"] * 3
        assert desk.ticket(other)["status"] == "new"


def test_a_person_who_takes_a_held_ticket_ends_the_hold(database_url: str) -> None:
    with routing_desk(database_url, playbook(rules=held_rules())) as desk:
        first = desk.open(**ALARM)
        assert desk.act(first, c.Accept(), "bob").refused is None
        shown = desk.ticket(first)
        assert (shown["status"], shown["assignee"], shown["group"]) == ("in_progress", "bob", "desk")
        desk.wait(minutes=10)
        assert desk.ticket(first)["status"] == "in_progress"


def test_what_people_set_before_a_ticket_is_classified_stands(database_url: str) -> None:
    with routing_desk(database_url, playbook(rules=held_rules())) as desk:
        first = desk.open(**ALARM)
        desk.act(first, c.Set(priority="1", labels={"urgency": "2"}), "lee")
        for _ in range(2):
            desk.open(**ALARM)
        shown = desk.ticket(first)
        assert (shown["status"], shown["priority"], shown["labels"]["urgency"]["value"]) == ("assigned", "1", "2")


@pytest.mark.parametrize("status", ["pending", "resolved"])
def test_an_automated_reply_neither_resumes_nor_reopens(database_url: str, status: str) -> None:
    with routing_desk(database_url, playbook()) as desk:
        ticket = desk.open()
        desk.act(ticket, c.Pause(reason="customer") if status == "pending" else c.Resolve(), "ann")
        desk.act(ticket, c.CustomerReply(text="I am out of the office", automated=True), "someone", kind="customer")
        assert desk.ticket(ticket)["status"] == status
        desk.act(ticket, c.CustomerReply(text="still broken"), "someone", kind="customer")
        assert desk.ticket(ticket)["status"] in ("assigned", "in_progress")


def test_an_automated_reply_is_no_first_response_and_no_contact(database_url: str) -> None:
    sla = [{"name": "all", "targets": {"first_response": "1h", "next_response": "1h"}}]
    with routing_desk(database_url, playbook(sla=sla)) as desk:
        ticket = desk.open()
        desk.act(ticket, c.Reply(text="we got it"), "autoresponder", kind="automation")
        desk.act(ticket, c.CustomerReply(text="auto", automated=True), "someone", kind="customer")
        running = {clock["metric"] for clock in desk.ticket(ticket)["clocks"] if clock["state"] == "running"}
        assert running == {"first_response"}
