"""What a policy promises, on tickets made and acted on over HTTP, business time in the test's hand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.gateway.attribution import WAYS
from tests.support.promises import Promises, promising

Open = Callable[..., AbstractContextManager[Promises]]


@pytest.fixture
def under(database_url: str, tmp_path: Path) -> Open:
    """Opens a desk under the given policies and other sections."""
    return partial(promising, database_url, tmp_path)


def policy(name: str = "p", **members: Any) -> dict[str, Any]:
    return {"name": name, "targets": {"first_response": "2h", "resolution": "10h"}, "warn": []} | members


def states(desk: Promises, ticket: str) -> dict[tuple[str, int], str]:
    return {key: clock["state"] for key, clock in desk.clocks(ticket).items()}


# ---- metrics ---------------------------------------------------------------------------------------------------------------


def test_the_first_response_is_a_public_reply_of_a_person_and_of_nobody_else(under: Open) -> None:
    with under(sla=[policy()]) as desk:
        ticket = desk.post()
        desk.does(ticket, "accept", desk.ticket_of(ticket)["assignee"])
        desk.does(ticket, "note", text="internal")
        desk.does(ticket, "reply", "bot-1", text="we received your message")
        desk.does(ticket, "customer_reply", "c1", text="hello?")
        assert states(desk, ticket)["first_response", 1] == "running"
        desk.wait(hours=2)  # exactly at the due instant is in time
        desk.does(ticket, "reply", text="on it")
        clock = desk.clocks(ticket)["first_response", 1]
        assert (clock["state"], clock["stopped_at"]) == ("met", clock["due_at"])


def test_accepting_is_a_response_where_the_policy_says_so(under: Open) -> None:
    with under(sla=[policy(first_response="accept")]) as desk:
        ticket = desk.post()
        desk.does(ticket, "accept", desk.ticket_of(ticket)["assignee"])
        assert states(desk, ticket)["first_response", 1] == "met"


def test_the_next_response_runs_from_the_oldest_unanswered_message_beside_the_first_response(under: Open) -> None:
    with under(sla=[policy(targets={"first_response": "8h", "next_response": "2h"})]) as desk:
        ticket = desk.post()
        assert set(states(desk, ticket)) == {("first_response", 1)}
        desk.wait(minutes=10)
        desk.does(ticket, "customer_reply", "c1", text="hello?")
        since = desk.now
        desk.wait(minutes=10)
        desk.does(ticket, "customer_reply", "c1", text="anybody?")
        clock = desk.clocks(ticket)["next_response", 1]
        assert (clock["started_at"], clock["due_at"]) == (since, since + timedelta(hours=2))
        desk.does(ticket, "reply", text="here")
        desk.does(ticket, "customer_reply", "c1", text="thanks, but")
        assert states(desk, ticket) == {
            ("first_response", 1): "met",
            ("next_response", 1): "met",
            ("next_response", 2): "running",
        }


def test_the_opening_message_waits_for_a_next_response_only_where_the_policy_says_so(under: Open) -> None:
    with under(sla=[policy(targets={"next_response": "2h"}, next_response_opening=True)]) as desk:
        opened = desk.now
        ticket = desk.post()
        assert desk.clocks(ticket)["next_response", 1]["due_at"] == opened + timedelta(hours=2)


def test_periodic_updates_run_from_reply_to_reply_whatever_the_customer_writes(under: Open) -> None:
    with under(sla=[policy(targets={"periodic_update": "4h"})]) as desk:
        ticket = desk.post()
        desk.wait(hours=1)
        desk.does(ticket, "reply", text="still on it")
        desk.wait(hours=1)
        desk.does(ticket, "customer_reply", "c1", text="ok")
        clocks = desk.clocks(ticket)
        assert clocks["periodic_update", 1]["state"] == "met"
        assert clocks["periodic_update", 2]["due_at"] == desk.now + timedelta(hours=3)


def test_each_group_owns_its_time_and_a_return_begins_anew(under: Open) -> None:
    with under(sla=[policy(targets={"ownership:one": "2h", "ownership:*": "5h"})]) as desk:
        ticket = desk.post()
        desk.wait(minutes=30)
        desk.does(ticket, "transfer", group="two")
        desk.wait(minutes=30)
        desk.does(ticket, "transfer", group="one")
        clocks = desk.clocks(ticket)
        assert {key: clock["state"] for key, clock in clocks.items()} == {
            ("ownership:one", 1): "met",
            ("ownership:two", 1): "met",
            ("ownership:one", 2): "running",
        }
        assert clocks["ownership:one", 1]["elapsed_seconds"] == 1800
        assert clocks["ownership:one", 2]["due_at"] == desk.now + timedelta(hours=2)


# ---- policies --------------------------------------------------------------------------------------------------------------


def test_policies_match_on_fields_tier_and_priority_and_the_explanation_names_match_and_losers(under: Open) -> None:
    gold = policy("gold", when={"fields.contract": "gold"}, targets={"resolution": "1h"})
    vip = policy("vip", when={"requester.tier": "vip"}, targets={"resolution": "3h"})
    rest = policy("rest", targets={"resolution": {"urgent": "5h", "default": "9h"}})
    with under(sla=[gold, vip, rest]) as desk:
        both = desk.post(fields={"contract": "gold"}, requester={"id": "c1", "tier": "vip"})
        plain, tier = desk.post(), desk.post(requester={"id": "c2", "tier": "vip"})
        found = {one: desk.clocks(one)["resolution", 1] for one in (both, plain, tier)}
        assert [(clock["policy"], clock["target_seconds"]) for clock in found.values()] == [
            ("gold", 3600),
            ("rest", 9 * 3600),
            ("vip", 3 * 3600),
        ]
        story = desk.call("GET", f"/v1/tickets/{both}/explain").json["sla"]
        assert story["decisions"][0]["reason"]["policy"] == "gold"
        assert story["decisions"][0]["reason"]["considered"] == [
            {"policy": "gold", "matched": True},
            {"policy": "vip", "matched": True},
            {"policy": "rest", "matched": True},
        ]
        assert desk.call("GET", f"/v1/tickets/{plain}/explain").json["sla"]["decisions"][0]["reason"]["considered"] == [
            {"policy": "gold", "matched": False},
            {"policy": "vip", "matched": False},
            {"policy": "rest", "matched": True},
        ]


def test_a_policy_that_no_longer_matches_cancels_its_clocks_their_warnings_and_the_escalation(under: Open) -> None:
    chains = [
        {"name": "up", "steps": [{"targets": [{"manager": 1}]}, {"after": "1h", "targets": [{"person": "dora"}]}]}
    ]
    gold = policy("gold", when={"fields.contract": "gold"}, warn=["30m"], targets={"first_response": "1h"})
    sections = {"sla": [gold], "chains": chains, "watch": [{"on": "sla.warned", "chain": "up"}]}
    with under(**sections) as desk:
        ticket = desk.post(fields={"contract": "gold"})
        desk.wait(minutes=31)
        assert desk.ticket_of(ticket)["escalation"] == 1
        desk.does(ticket, "set", fields={"contract": "basic"})
        (cancelled,) = desk.events(ticket, "sla.cancelled")
        (ended,) = desk.events(ticket, "escalation.ended")
        assert (cancelled.data["cause"], ended.data["why"]) == ("policy", "first_response is over")
        assert desk.ticket_of(ticket)["escalation"] is None
        desk.wait(hours=5)
        assert desk.events(ticket, "sla.breached", "escalation.raised")[1:] == []
        assert states(desk, ticket) == {("first_response", 1): "cancelled"}


def test_what_was_not_sent_yet_about_a_promise_that_is_cancelled_is_not_sent(under: Open) -> None:
    text = {"en": {"title": "t", "text": "{{ ticket.number }}"}}
    told = {"on": ["sla.warned"], "audience": [{"to": ["assignee"]}], "templates": {"any": text}}
    rules = [told | {"name": "soon", "plan": [{"channel": "inbox"}, {"channel": "mail", "wait": "20m"}]}]
    mail = {"name": "mail", "channel": "mail", "driver": "smtp", "base_url": "smtp://127.0.0.1:9",
            "settings": {"from_address": "desk@desk.example"}, "allow": ["127.0.0.0/8"]}  # fmt: skip
    people = {
        one: {"name": one, "contacts": {"email": f"{one}@desk.example"}} for one in ("anna", "ben", "carl", "dora")
    }
    sections = {
        "sla": [policy("gold", when={"fields.contract": "gold"}, warn=["30m"], targets={"first_response": "1h"})],
        "channels": [{"name": "inbox", "channel": "inbox", "driver": "inbox"}, mail],
        "agents": people,
        "messages": {"default_locale": "en", "rules": rules},
    }
    with under(**sections) as desk:
        ticket, other = desk.post(fields={"contract": "gold"}), desk.post(fields={"contract": "gold"})
        desk.wait(minutes=31)
        desk.does(ticket, "set", fields={"contract": "basic"})
        desk.wait(hours=1)
        sent = desk.rows(
            "select ticket_id, channel, state, reason from notifier.v_delivery order by ticket_id, channel"
        )
        mails = {str(row.ticket_id): (row.state, row.reason) for row in sent if row.channel == "mail"}
        assert mails[ticket] == ("cancelled", "the promise is off")
        assert mails[other][0] == "sent"


def test_what_a_digest_has_collected_about_a_promise_that_is_cancelled_is_called_off_and_the_rest_goes_out(
    under: Open,
) -> None:
    """Of a digest's messages the one whose clock was cancelled is not in it; the same ticket's other promise is."""
    text = {"en": {"title": "t", "text": "{{ ticket.number }}"}}
    rule = {"name": "soon", "on": ["sla.warned"], "audience": [{"to": ["assignee"]}], "templates": {"any": text}}
    mail = {"name": "mail", "channel": "mail", "driver": "smtp", "base_url": "smtp://127.0.0.1:9",
            "settings": {"from_address": "desk@desk.example"}, "allow": ["127.0.0.0/8"]}  # fmt: skip
    promised = {"first_response": "1h", "resolution": "1h"}
    sections = {
        "sla": [
            policy("gold", when={"fields.contract": "gold"}, warn=["30m"], targets=promised),
            policy("basic", warn=["30m"], targets={"resolution": "1h"}),
        ],
        "channels": [mail],
        "groups": {"one": {"members": ["anna"]}, "two": {"members": ["carl"]}},
        "agents": {one: {"name": one, "contacts": {"email": f"{one}@desk.example"}} for one in ("anna", "carl")},
        "messages": {
            "default_locale": "en",
            "rules": [rule | {"plan": [{"channel": "mail"}], "digest": {"window": "20m", "max_items": 9}}],
        },
    }
    with under(**sections) as desk:
        desk.post(fields={"contract": "basic"})  # its warning is the first of the window and goes at once
        ticket = desk.post(fields={"contract": "gold"})
        desk.wait(minutes=31)
        found = """select m.*, e.data ->> 'metric' as metric from notifier.message m join ledger.event e
            on e.kind = 'ticket' and e.id = m.ticket_id and e.version = m.event_version where m.ticket_id = %s order by m.id"""
        assert {row.state for row in desk.rows(found, int(ticket))} == {"held"}
        desk.does(ticket, "set", fields={"contract": "basic"})
        off, kept = sorted(desk.rows(found, int(ticket)), key=lambda row: str(row.metric))
        assert (off.metric, off.state, off.reason) == ("first_response", "cancelled", "the promise is off")
        assert (kept.metric, kept.state) == ("resolution", "held")
        told = desk.rows("select * from ledger.event where kind = 'delivery' and id = %s", off.id)
        assert [(row.type, row.version, row.data["detail"]) for row in told] == [
            ("delivery.suppressed", off.version, "the promise is off")
        ]
        desk.wait(minutes=30)
        after = {row.id: (row.state, row.epoch) for row in desk.rows(found, int(ticket))}
        assert after[off.id] == ("cancelled", 0)
        assert after[kept.id][0] == "sent"


# ---- pauses ----------------------------------------------------------------------------------------------------------------


def test_each_metric_says_which_waiting_stops_it_and_only_open_time_is_given_back(under: Open) -> None:
    paused = policy(
        calendar="office",
        targets={"first_response": "4h", "resolution": "8h", "periodic_update": "6h"},
        pause_on={"first_response": [], "resolution": ["pending"], "periodic_update": ["pending:vendor"]},
    )
    with under(sla=[paused]) as desk:
        desk.wait(hours=8)  # ten o'clock on a Tuesday
        ticket = desk.post()
        desk.wait(hours=5)
        desk.does(ticket, "pause", reason="customer")  # at three
        shown = desk.clocks(ticket)
        assert {
            key[0]: (one["paused"], one["due_at"] is None) for key, one in shown.items() if one["state"] != "breached"
        } == {
            "resolution": (True, True),
            "periodic_update": (False, False),
        }
        desk.wait(hours=19)  # until ten on Wednesday: two hours of Tuesday and one of Wednesday were open
        desk.does(ticket, "resume")
        clocks = desk.clocks(ticket)
        assert clocks["resolution", 1]["paused_seconds"] == 3 * 3600
        assert clocks["resolution", 1]["due_at"] == desk.now + timedelta(hours=3)
        assert clocks["first_response", 1]["state"] == "breached"
        assert clocks["periodic_update", 1]["state"] == "breached"


def test_a_paused_clock_neither_warns_nor_breaches_and_a_pause_after_the_breach_stops_the_overdue(under: Open) -> None:
    with under(sla=[policy(targets={"resolution": "2h"}, warn=["30m"])]) as desk:
        ticket = desk.post()
        desk.wait(hours=1)
        desk.does(ticket, "pause")
        desk.wait(hours=30)
        assert desk.events(ticket, "sla.warned", "sla.breached") == []
        desk.does(ticket, "resume")
        desk.wait(hours=1, minutes=10)
        assert [one.type for one in desk.events(ticket, "sla.warned", "sla.breached")] == ["sla.warned", "sla.breached"]
        desk.does(ticket, "pause")
        desk.wait(hours=9)
        clock = desk.clocks(ticket)["resolution", 1]
        assert (clock["state"], clock["paused"], clock["remaining_seconds"]) == ("breached", True, -600)


# ---- changes of priority -----------------------------------------------------------------------------------------------


def test_a_priority_carried_into_the_past_breaks_once_names_its_cause_and_skips_passed_warnings(under: Open) -> None:
    carried = policy(targets={"resolution": {"urgent": "2h", "default": "10h"}}, warn=["30m"])
    with under(sla=[carried]) as desk:
        ticket, opened = desk.post(), desk.now
        desk.wait(hours=3)
        desk.does(ticket, "set", priority="urgent")
        desk.wait(hours=1)
        (breach,) = desk.events(ticket, "sla.breached")
        assert desk.events(ticket, "sla.warned") == []
        clock = desk.clocks(ticket)["resolution", 1]
        assert (clock["due_at"], clock["breached_at"]) == (opened + timedelta(hours=2), opened + timedelta(hours=3))
        assert breach.data["cause"] == "priority"
        for priority in ["normal", "urgent"] * 50:
            desk.does(ticket, "set", priority=priority)
        assert len(desk.events(ticket, "sla.breached")) == 1
        assert desk.clocks(ticket)["resolution", 1]["due_at"] == opened + timedelta(hours=2)


@pytest.mark.parametrize(("mode", "hours"), [("carry", 4), ("restart", 7), ("keep", 10)])
def test_what_a_change_of_priority_does_is_the_policys_choice(under: Open, mode: str, hours: int) -> None:
    with under(sla=[policy(targets={"resolution": {"urgent": "4h", "default": "10h"}}, on_change=mode)]) as desk:
        ticket, opened = desk.post(), desk.now
        desk.wait(hours=3)
        desk.does(ticket, "set", priority="urgent")
        assert desk.clocks(ticket)["resolution", 1]["due_at"] == opened + timedelta(hours=hours)


# ---- the end -----------------------------------------------------------------------------------------------------------


def test_closed_unanswered_is_cancelled_and_resolution_is_met(under: Open) -> None:
    with under(sla=[policy()]) as desk:
        ticket = desk.post()
        desk.does(ticket, "close")
        assert states(desk, ticket) == {("first_response", 1): "cancelled", ("resolution", 1): "met"}


def test_a_reopened_ticket_goes_on_where_it_stopped_without_the_closed_time(under: Open) -> None:
    with under(sla=[policy(targets={"resolution": "10h"})]) as desk:
        ticket = desk.post()
        desk.wait(hours=4)
        desk.does(ticket, "resolve")
        first = desk.clocks(ticket)["resolution", 1]
        desk.wait(hours=40)
        desk.does(ticket, "reopen")
        clocks = desk.clocks(ticket)
        assert clocks["resolution", 1] == first
        assert clocks["resolution", 2]["due_at"] == desk.now + timedelta(hours=6)


def test_merging_cancels_the_sources_clocks_and_leaves_the_targets_alone(under: Open) -> None:
    with under(sla=[policy()]) as desk:
        source, target = desk.post(), desk.post()
        before = desk.clocks(target)
        desk.does(source, "merge", into=target)
        assert set(states(desk, source).values()) == {"cancelled"}
        assert desk.clocks(target) == before
        desk.wait(hours=20)
        assert desk.events(source, "sla.warned", "sla.breached") == []


# ---- late work ---------------------------------------------------------------------------------------------------------


def test_after_an_outage_everything_is_told_at_its_own_instant_in_order_and_marked_late(under: Open) -> None:
    with under(sla=[policy(targets={"first_response": "2h", "resolution": "3h"}, warn=["30m"])]) as desk:
        ticket, opened = desk.post(), desk.now
        desk.now += timedelta(hours=12)
        desk.settle()  # nobody looked for twelve hours
        timers = desk.events(ticket, "sla.warned", "sla.breached")
        told = [(one.type, one.data["metric"], one.happened_at - opened) for one in timers]
        hour = timedelta(hours=1)
        assert told == [
            ("sla.warned", "first_response", 1.5 * hour),
            ("sla.breached", "first_response", 2 * hour),
            ("sla.warned", "resolution", 2.5 * hour),
            ("sla.breached", "resolution", 3 * hour),
        ]
        assert all(one.data["late"] for one in timers)


def test_one_agenda_row_serves_all_clocks_of_a_ticket_and_stands_at_the_next_instant(under: Open) -> None:
    with under(sla=[policy(targets={"first_response": "2h", "resolution": "3h", "periodic_update": "5h"})]) as desk:
        ticket, opened = desk.post(), desk.now
        rows = desk.rows("select due_at from ledger.agenda where service = 'sla' and id = %s", int(ticket))
        assert [row.due_at - opened for row in rows] == [timedelta(hours=2, microseconds=1)]


# ---- attribution -------------------------------------------------------------------------------------------------------


def test_a_life_is_split_without_remainder_in_the_explanation_and_in_the_report(under: Open) -> None:
    with under(sla=[policy()]) as desk:
        begun = desk.now
        ticket = desk.post()
        owner = desk.ticket_of(ticket)["assignee"]
        desk.wait(minutes=30)
        desk.does(ticket, "pause")
        desk.wait(hours=2)
        desk.does(ticket, "resume")
        desk.wait(minutes=10)
        desk.does(ticket, "transfer", group="two")
        desk.wait(minutes=20)
        desk.does(ticket, "resolve", "carl")
        desk.wait(hours=1)
        told = desk.call("GET", f"/v1/tickets/{ticket}/explain").json["attribution"]
        assert told["seconds"] == 4 * 3600
        split = {way: {(one["part"], one["name"]): one["seconds"] for one in told[way]} for way in WAYS}
        assert split["kind"] == {("customer", None): 7200, ("closed", None): 3600, ("person", None): 3600}
        assert split["person"] == {
            ("customer", None): 7200,
            ("closed", None): 3600,
            ("person", owner): 2400,
            ("person", "carl"): 1200,
        }
        assert {key: n for key, n in split["team"].items() if key[0] == "team"} == {
            ("team", "one"): 2400,
            ("team", "two"): 1200,
        }
        assert {sum(parts.values()) for parts in split.values()} == {4 * 3600}

        other = desk.post()
        desk.wait(minutes=10)
        until = begun + timedelta(hours=2)
        path = f"/v1/reports/attribution?from={begun:%Y-%m-%dT%H:%M:%SZ}&to={until:%Y-%m-%dT%H:%M:%SZ}&by=person"
        report = desk.call("GET", path).json
        assert report["seconds"] == 2 * 3600
        assert {one["name"] or one["part"]: one["seconds"] for one in report["items"]} == {
            owner: 1800,
            "customer": 5400,
        }
        desk.does(other, "close")
        assert desk.call("GET", path).json == report  # a period that is over stays as it was reported
        refused = desk.call("GET", "/v1/reports/attribution?by=moon")
        assert (refused.status, refused.json["errors"][0]["pointer"]) == (400, "by")
