"""Whose a ticket is, through the real services on a virtual clock: filters, giving way, offers, transfers, by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.ticket import commands as c
from tests.support.routing import START, RoutingDesk, playbook, routing_desk


def rules(**then: Any) -> list[dict[str, Any]]:
    return [{"name": "all", "rules": [{"name": "everything", "default": True, "then": {"group": "desk"} | then}]}]


def groups(**desk: Any) -> dict[str, Any]:
    known: dict[str, Any] = playbook()["groups"]
    return known | {"desk": known["desk"] | desk}


def reason(desk: RoutingDesk, ticket: int, event: str) -> dict[str, Any]:
    found = [row["reason"] for row in desk.timeline(ticket) if row["type"] == event]
    last: dict[str, Any] = found[-1]
    return last


def test_every_filter_says_whom_it_dropped(database_url: str) -> None:
    calendars = {
        "early": {"tz": "UTC", "weekly": {"mon-fri": ["00:00-02:30"]}},
        "late": {"tz": "UTC", "weekly": {"mon-fri": ["12:00-20:00"]}},
    }
    members = ["off", "gone", "late", "nearly", "leaving", "unskilled", "full", "able"]
    agents: dict[str, Any] = {name: {"capacity": 1, "skills": {"tape": 2}} for name in members}
    agents["off"]["presence"] = "away"
    agents["gone"]["active"] = False
    agents["late"]["shift"] = "late"
    agents["nearly"]["shift"] = "early"  # half an hour is left, an hour is needed
    agents["leaving"]["leave"] = [{"first": "2026-03-01", "last": "2026-03-09"}]
    agents["unskilled"]["skills"] = {"tape": 1}
    agents["lee"] = {"capacity": 40}
    sections = playbook(
        calendars=calendars,
        agents=agents,
        groups=groups(members=members),
        rules=rules(skills={"tape": 2}, effort="1h"),
    )
    with routing_desk(database_url, sections) as desk:
        first, second = desk.open(), desk.open()
        assert {desk.owner(first), desk.owner(second)} == {"full", "able"}
        found = reason(desk, desk.open(), "ticket.queued")
        assert found["dropped"] == {
            "active": ["gone"],
            "presence": ["off"],
            "shift": ["late", "nearly"],
            "leave": ["leaving"],
            "skills": ["unskilled"],
            "capacity": ["full", "able"],
        }


def test_what_comes_for_somebody_on_leave_goes_to_the_end_of_the_delegates(database_url: str) -> None:
    agents: dict[str, Any] = playbook()["agents"]
    away = [{"first": "2026-03-01", "last": "2026-03-09"}]
    agents["ann"] |= {"leave": [away[0] | {"delegate": "bob"}]}
    agents["bob"] |= {"leave": [away[0] | {"delegate": "zoe"}]}
    agents |= {"zoe": {"capacity": 5}}
    sections = playbook(agents=agents, groups=groups(members=["ann"]))
    with routing_desk(database_url, sections) as desk:
        ticket = desk.open()
        assert desk.owner(ticket) == "zoe"
        assert reason(desk, ticket, "ticket.assigned")["standing_in"] == {"zoe": "ann"}


def test_skills_give_way_with_waiting_time_and_every_step_is_recorded(database_url: str) -> None:
    agents: dict[str, Any] = playbook()["agents"]
    agents["ann"]["skills"] = {"tape": 1}
    relax = [{"after": "10m", "to": "mandatory"}, {"after": "20m", "to": "overflow"}]
    sections = playbook(
        agents=agents,
        groups=groups(members=["ann"], relax=relax, overflow="triage"),
        rules=rules(skills={"tape": 1}, preferred={"robot": 3}),
    )
    with routing_desk(database_url, sections) as desk:
        first = desk.open()
        assert desk.ticket(first)["status"] == "new"
        desk.wait(minutes=10)
        assert desk.owner(first) == "ann"
        found = reason(desk, first, "ticket.assigned")
        assert found["step"] == "mandatory"
        assert [(one["step"], one["dropped"]) for one in found["relaxed_from"]] == [("all", {"skills": ["ann"]})]
        second, third = desk.open(), desk.open()
        desk.wait(minutes=10)
        assert desk.owner(second) == "ann"
        desk.wait(minutes=10)
        assert desk.ticket(third)["status"] == "new"  # the overflow group lacks the mandatory skill
        desk.person("lee", skills={"tape": 1})
        assert desk.owner(third) == "lee"
        found = reason(desk, third, "ticket.assigned")
        assert (found["step"], found["group"]) == ("overflow", "triage")
        assert [one["step"] for one in found["relaxed_from"]] == ["all", "mandatory"]


def test_nobody_is_chosen_silently_the_lead_is_told_once(database_url: str) -> None:
    messages = {
        "rules": [
            {
                "name": "waiting",
                "on": ["ticket.queued"],
                "audience": [{"to": ["lead"]}],
                "plan": [{"channel": "inbox"}],
                "templates": {"any": {"en": {"title": "waits", "text": "{{ ticket.subject }}"}}},
            }
        ]
    }
    sections = playbook(channels=[{"name": "inbox", "driver": "inbox"}], messages=messages)
    with routing_desk(database_url, sections) as desk:
        for person in ("ann", "bob", "cai"):
            desk.person(person, presence="offline")
        ticket = desk.open()
        desk.wait(hours=2)
        assert desk.types(ticket).count("ticket.queued") == 1
        assert desk.owner(ticket) is None
        told = desk.rows("select recipient, channel from notifier.v_delivery where ticket_id = %s", ticket)
        assert told == [("lee", "inbox")]


def test_the_last_owner_gets_what_is_reopened_and_what_the_same_requester_sends_next(database_url: str) -> None:
    with routing_desk(database_url, playbook(groups=groups(sticky=True))) as desk:
        asked = {"id": "n1"}
        first = desk.open(requester=asked)
        owner = desk.owner(first)
        assert owner is not None
        assert desk.owner(desk.open(requester=asked)) == owner
        desk.act(first, c.Resolve(), owner)
        desk.act(first, c.Reopen(), "n1", kind="customer")
        assert desk.owner(first) == owner
        assert reason(desk, first, "ticket.assigned")["how"] == "sticky"
        assert desk.owner(desk.open(requester=asked)) != owner  # full: the next best
        assert desk.owner(desk.open(requester={"id": "n2"})) != owner


def test_a_group_that_goes_by_a_field_gives_the_ticket_to_whom_it_names_or_to_nobody(database_url: str) -> None:
    sections = playbook(
        fields={"engineer": {"type": "text"}}, groups=groups(strategy="by_field", field="fields.engineer")
    )
    with routing_desk(database_url, sections) as desk:
        assert desk.owner(desk.open(fields={"engineer": "cai"})) == "cai"
        unknown = desk.open(fields={"engineer": "zed"})
        assert desk.owner(unknown) is None
        desk.act(unknown, c.Set(fields={"engineer": "bob"}), "lee")
        assert desk.owner(unknown) == "bob"


def test_by_hand_somebody_may_get_more_than_they_can_take_counted_and_flagged(database_url: str) -> None:
    with routing_desk(database_url, playbook()) as desk:
        ids = [desk.open() for _ in range(3)]
        for ticket in ids:
            desk.act(ticket, c.Transfer(agent="ann", reason="knows it"), "lee")
        rows = desk.rows(
            "select over_capacity from router.v_assignment where agent = 'ann' and ended_at is null order by 1"
        )
        assert rows == [(False,), (False,), (True,)]
        assert desk.rows("select load, open_count from router.v_load where agent = 'ann'") == [(3.0, 3)]
        assert desk.owner(desk.open()) != "ann"


def test_a_rate_window_lets_only_so_many_through(database_url: str) -> None:
    with routing_desk(
        database_url, playbook(groups=groups(members=["ann"], rate={"limit": 1, "within": "1h"}))
    ) as desk:
        desk.open()
        second = desk.open()
        assert reason(desk, second, "ticket.queued")["dropped"] == {"rate": ["ann"]}
        desk.wait(hours=1, seconds=1)
        desk.wait(minutes=15)
        assert desk.owner(second) == "ann"


def test_labels_set_by_a_person_change_what_the_ticket_weighs(database_url: str) -> None:
    work = {"default": 1, "rules": [{"when": {"priority": "1"}, "weight": 2}], "states": {"pending": 0.5}}
    with routing_desk(database_url, playbook(work=work)) as desk:
        ticket = desk.open()
        owner = desk.owner(ticket)
        load = "select load from router.v_load where agent = %s"
        assert desk.scalar(load, owner) == 1
        desk.act(ticket, c.Set(priority="1"), "lee")
        assert desk.scalar(load, owner) == 2
        desk.act(ticket, c.Pause(reason="customer"), str(owner))
        assert desk.scalar(load, owner) == 1
        desk.act(ticket, c.Resume(), str(owner))
        assert desk.scalar(load, owner) == 2


# ---- offers ------------------------------------------------------------------------------------------------------------

OFFER = {"timeout": "5m", "on_timeout": "away", "on_decline": None}


def offered(desk: RoutingDesk, ticket: int) -> str | None:
    found: str | None = desk.scalar("select state ->> 'offered_to' from ledger.ticket where id = %s", ticket)
    return found


def test_an_offer_is_accepted_in_time_also_in_its_last_instant(database_url: str) -> None:
    with routing_desk(database_url, playbook(groups=groups(offer={"timeout": "5m"}))) as desk:
        ticket = desk.open()
        who = offered(desk, ticket)
        assert desk.ticket(ticket)["assignee"] is None
        desk.now += timedelta(minutes=5)
        with desk.database.begin() as connection:
            connection.exec_driver_sql("update ledger.clock set at = %s", (desk.now,))
        assert desk.act(ticket, c.Accept(), str(who)).refused is None
        assert desk.owner(ticket) == who
        assert desk.rows("select load, open_count from router.v_load where agent = %s", who) == [(1.0, 1)]


def test_a_late_accept_is_refused_whether_or_not_the_time_out_was_noticed(database_url: str) -> None:
    with routing_desk(database_url, playbook(groups=groups(offer={"timeout": "5m"}))) as desk:
        ticket = desk.open()
        who = str(offered(desk, ticket))
        desk.now += timedelta(minutes=5, seconds=1)
        with desk.database.begin() as connection:  # the router has not looked yet
            connection.exec_driver_sql("update ledger.clock set at = %s", (desk.now,))
        refused = desk.act(ticket, c.Accept(), who).refused
        assert refused is not None
        assert refused.code == "too_late"
        desk.engine.move_to(desk.now)
        assert offered(desk, ticket) not in (None, who)
        refused = desk.act(ticket, c.Accept(), who).refused
        assert refused is not None
        assert refused.code == "not_assignee"


def test_who_lets_an_offer_pass_is_away_and_the_next_one_is_asked(database_url: str) -> None:
    with routing_desk(database_url, playbook(groups=groups(offer=OFFER))) as desk:
        ticket = desk.open()
        first = str(offered(desk, ticket))
        desk.wait(minutes=5)
        assert offered(desk, ticket) not in (None, first)
        state = "select state ->> 'presence' from ledger.item where kind = 'agent' and key = %s"
        assert desk.scalar(state, first) == "away"
        changed = desk.rows(
            "select reason ->> 'why' from ledger.event where kind = 'agent' and type = 'agent.changed' and reason is not null"
        )
        assert changed == [(f"let the offer of T-{ticket} pass",)]
        second = desk.open()
        assert offered(desk, second) != first
        assert "presence" in reason(desk, second, "ticket.offered")["dropped"]


def test_who_declines_can_be_set_away_too(database_url: str) -> None:
    with routing_desk(database_url, playbook(groups=groups(offer={"timeout": "5m", "on_decline": "offline"}))) as desk:
        ticket = desk.open()
        first = str(offered(desk, ticket))
        desk.act(ticket, c.Decline(reason="busy"), first)
        assert offered(desk, ticket) not in (None, first)
        state = "select state ->> 'presence' from ledger.item where kind = 'agent' and key = %s"
        assert desk.scalar(state, first) == "offline"


def test_after_everybody_declined_the_overflow_group_is_asked_and_then_the_assignment_has_failed(
    database_url: str,
) -> None:
    known = groups(offer={"timeout": "5m"}, overflow="triage")
    known["triage"] |= {"offer": {"timeout": "5m"}}
    with routing_desk(database_url, playbook(groups=known)) as desk:
        ticket = desk.open()
        asked = []
        while (who := offered(desk, ticket)) is not None:
            asked.append(who)
            desk.act(ticket, c.Decline(), who)
        assert sorted(asked[:3]) == ["ann", "bob", "cai"]
        assert asked[3:] == ["lee"]
        assert desk.types(ticket).count("ticket.assignment_failed") == 1
        desk.wait(hours=1)
        assert desk.types(ticket).count("ticket.assignment_failed") == 1
        assert desk.rows("select sum(load), sum(open_count) from router.v_load") == [(0.0, 0)]


def test_who_is_set_away_for_not_answering_does_not_keep_the_ticket_from_the_overflow_group(database_url: str) -> None:
    known = groups(offer={"timeout": "5m", "on_timeout": "away", "on_decline": "away"}, overflow="triage")
    known["triage"] |= {"offer": {"timeout": "5m"}}
    with routing_desk(database_url, playbook(groups=known)) as desk:
        ticket = desk.open()
        desk.act(ticket, c.Decline(), str(offered(desk, ticket)))
        for _ in range(2):
            desk.wait(minutes=5)
        assert offered(desk, ticket) == "lee"
        desk.wait(minutes=5)
        assert desk.types(ticket)[-1] == "ticket.assignment_failed"


def test_an_assignment_that_nobody_touches_goes_back_and_to_somebody_else(database_url: str) -> None:
    with routing_desk(database_url, playbook(groups=groups(untouched="30m"))) as desk:
        ticket = desk.open()
        first = desk.owner(ticket)
        desk.wait(minutes=29)
        assert desk.owner(ticket) == first
        desk.wait(minutes=1)
        second = desk.owner(ticket)
        assert second not in (None, first)
        desk.act(ticket, c.Accept(), str(second))
        desk.wait(hours=2)
        assert desk.owner(ticket) == second


# ---- transfers ---------------------------------------------------------------------------------------------------------

TWO_DEPARTMENTS: dict[str, Any] = {
    "desk": {"members": ["ann", "bob"], "lead": "lee", "department": "it"},
    "works": {"members": ["cai", "dan", "ivy"], "lead": "lou", "department": "plant", "interface": "ivy"},
    "triage": {"members": ["lee"]},
}
SIX = {name: {"capacity": 5} for name in ("ann", "bob", "cai", "dan", "ivy", "lee", "lou")}


def departments() -> dict[str, Any]:
    return playbook(groups=TWO_DEPARTMENTS, agents=SIX)


def test_what_comes_from_another_department_goes_to_the_interface_person(database_url: str) -> None:
    with routing_desk(database_url, departments()) as desk:
        ticket = desk.open()
        desk.act(ticket, c.Transfer(group="works", reason="not ours"), "ann")
        assert desk.owner(ticket) == "ivy"
        assert reason(desk, ticket, "ticket.assigned")["how"] == "interface"


def test_a_department_without_its_interface_person_still_gets_the_ticket(database_url: str) -> None:
    with routing_desk(database_url, departments()) as desk:
        desk.person("ivy", presence="offline")
        ticket = desk.open()
        desk.act(ticket, c.Transfer(group="works"), "ann")
        assert desk.owner(ticket) in ("cai", "dan")
        assert reason(desk, ticket, "ticket.assigned")["notes"] == ["interface ivy: presence"]


@pytest.mark.parametrize("head", ["lou", "ivy"])
def test_the_receiving_side_may_reject_and_the_ticket_is_back_where_it_came_from(database_url: str, head: str) -> None:
    with routing_desk(database_url, departments()) as desk:
        ticket = desk.open()
        owner = str(desk.owner(ticket))
        desk.act(ticket, c.Accept(), owner)
        desk.wait(minutes=5)
        desk.act(ticket, c.Transfer(group="works", reason="yours"), owner)
        desk.wait(minutes=5)
        assert desk.act(ticket, c.Decline(reason="no machine of ours"), head).refused is None
        shown = desk.ticket(ticket)
        assert (shown["group"], shown["assignee"]) == ("desk", owner)
        spans = desk.rows(
            "select group_name, from_group, how, reason, from_at, to_at from router.v_ownership where ticket_id = %s order by span",
            ticket,
        )
        five = timedelta(minutes=5)
        assert spans == [
            ("desk", None, "routed", None, START, START + five),
            ("works", "desk", "transferred", "yours", START + five, START + 2 * five),
            ("desk", "works", "returned", "rejected: no machine of ours", START + 2 * five, None),
        ]


def test_once_accepted_a_transfer_is_not_sent_back_but_declined_to_the_next(database_url: str) -> None:
    with routing_desk(database_url, departments()) as desk:
        ticket = desk.open()
        desk.act(ticket, c.Transfer(group="works"), "ann")
        desk.act(ticket, c.Accept(), "ivy")
        desk.act(ticket, c.Decline(reason="wrong skills"), "ivy")
        shown = desk.ticket(ticket)
        assert (shown["group"], shown["assignee"] in ("cai", "dan")) == ("works", True)


def test_a_person_to_whom_a_ticket_was_sent_may_reject_it(database_url: str) -> None:
    with routing_desk(database_url, departments()) as desk:
        ticket = desk.open()
        owner = str(desk.owner(ticket))
        desk.act(ticket, c.Transfer(agent="cai", reason="please"), owner)
        assert desk.owner(ticket) == "cai"
        desk.act(ticket, c.Decline(), "cai")
        assert (desk.ticket(ticket)["group"], desk.owner(ticket)) == ("desk", owner)
        refused = desk.act(ticket, c.Decline(), "lou").refused
        assert refused is not None
        assert refused.code == "not_assignee"


def test_ownership_ends_with_the_ticket_and_begins_again_when_it_is_reopened(database_url: str) -> None:
    with routing_desk(database_url, departments()) as desk:
        ticket = desk.open()
        owner = str(desk.owner(ticket))
        desk.wait(minutes=1)
        desk.act(ticket, c.Resolve(), owner)
        desk.wait(minutes=1)
        desk.act(ticket, c.Reopen(), "someone", kind="customer")
        spans = desk.rows(
            "select group_name, how, from_at, to_at from router.v_ownership where ticket_id = %s order by span", ticket
        )
        one = timedelta(minutes=1)
        assert spans == [("desk", "routed", START, START + one), ("desk", "reopened", START + 2 * one, None)]


def test_a_group_to_which_the_flow_brought_the_ticket_has_it_by_the_flow_and_the_next_by_overflow(
    database_url: str,
) -> None:
    works = {"works": {"members": ["dan"], "overflow": "triage", "relax": [{"after": "10m", "to": "overflow"}]}}
    nodes = [
        {"name": "check", "responsible": {"ticket": True}, "next": "mend"},
        {"name": "mend", "responsible": {"group": "works"}, "next": "z"},
        {"name": "z", "kind": "end"},
    ]
    agents = playbook()["agents"] | {"dan": {"capacity": 1}}
    sections = playbook(agents=agents, groups=groups() | works, flows=[{"name": "fix", "nodes": nodes}])
    with routing_desk(database_url, sections) as desk:
        how = "select group_name, how from router.v_ownership where ticket_id = %s order by span"
        first, second = desk.open(kind="fix"), desk.open(kind="fix")
        for ticket in (first, second):
            owner = str(desk.owner(ticket))
            assert desk.act(ticket, c.Accept(), owner).refused is None
            assert desk.act(ticket, c.CompleteNode(node="check"), owner).refused is None
            assert desk.rows(how, ticket) == [("desk", "routed"), ("works", "flow")]
        assert desk.owner(first) == "dan"
        desk.wait(minutes=11)
        assert desk.rows(how, second) == [("desk", "routed"), ("works", "flow"), ("triage", "overflow")]


def test_demands_survive_a_decline(database_url: str) -> None:
    agents = playbook()["agents"] | {
        "ann": {"capacity": 2, "skills": {"tape": 2}},
        "bob": {"capacity": 2, "skills": {"tape": 3}},
    }
    sections = playbook(agents=agents, rules=rules(skills={"tape": 2}, weight=2))
    with routing_desk(database_url, sections) as desk:
        ticket = desk.open()
        first = str(desk.owner(ticket))
        desk.act(ticket, c.Decline(), first)
        assert {first, desk.owner(ticket)} == {"ann", "bob"}
        assert desk.scalar("select load from router.v_load where agent = %s", desk.owner(ticket)) == 2
        assert desk.ticket(ticket)["status"] == "assigned"


def test_a_group_that_looks_ahead_binds_late_and_keeps_the_expert_for_who_needs_one(database_url: str) -> None:
    agents = {"ann": {"capacity": 5, "skills": {"tape": 3}}, "bob": {"capacity": 5}, "lee": {"capacity": 40}}
    ask = [
        {"name": "tape", "when": {"subject": "tape"}, "then": {"group": "desk", "skills": {"tape": 1}}},
        {"name": "else", "default": True, "then": {"group": "desk"}},
    ]
    sections = playbook(
        agents=agents,
        groups=groups(members=["ann", "bob"], look_ahead=True, fairness=2.0),
        rules=[{"name": "all", "rules": ask}],
        sla=[{"name": "all", "targets": {"first_response": "1h"}}],
    )
    with routing_desk(database_url, sections) as desk:
        opened = desk.post({"subject": "plain"}, {"subject": "tape"}, {"subject": "plain"})
        desk.settle()
        plain, tape, later = [one.ticket.id for one in opened if one.ticket is not None]
        assert (desk.owner(plain), desk.owner(tape)) == ("bob", "ann")
        assert reason(desk, tape, "ticket.assigned")["how"] == "plan"
        assert desk.owner(later) is None  # everybody has work: it stays where anybody can take it
        assert "held back" in reason(desk, later, "ticket.queued")["notes"][0]
        desk.act(plain, c.Resolve(), "bob")
        assert desk.owner(later) == "bob"


def test_without_the_switch_the_same_tickets_are_given_out_one_by_one(database_url: str) -> None:
    agents = {"ann": {"capacity": 5}, "bob": {"capacity": 5}, "lee": {"capacity": 40}}
    with routing_desk(database_url, playbook(agents=agents, groups=groups(members=["ann", "bob"]))) as desk:
        opened = desk.post(*[{"subject": "plain"}] * 3)
        desk.settle()
        assert all(one.ticket is not None and desk.owner(one.ticket.id) for one in opened)
