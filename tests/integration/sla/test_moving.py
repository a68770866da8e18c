"""Running tickets moved to another playbook version, looked at beforehand and taken back, by the command over HTTP-made tickets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.ledger import tickets
from tests.support.promises import Promises, apply, commands_on, promising, signalbox

TWO_HOURS = [{"name": "p", "targets": {"first_response": "2h", "resolution": "10h"}, "warn": []}]
ONE_HOUR = [{"name": "p", "targets": {"first_response": "1h", "resolution": "10h"}, "warn": []}]
OFFICE = [{"name": "p", "calendar": "office", "targets": {"first_response": "2h", "resolution": "10h"}, "warn": []}]


@pytest.fixture
def desk(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Promises]:
    commands_on(database_url, monkeypatch)
    with promising(database_url, tmp_path, sla=TWO_HOURS) as made:
        yield made


def kept(desk: Promises, ticket: str) -> bytes:
    """The ticket's clocks as they are stored, to the byte."""
    (row,) = desk.rows("select kept -> 5 as clocks from sla.ticket where ticket_id = %s", int(ticket))
    return orjson.dumps(row.clocks, option=orjson.OPT_SORT_KEYS)


def due(desk: Promises, ticket: str, metric: str = "first_response") -> Any:
    return desk.clocks(ticket)[metric, 1]["due_at"]


def test_running_tickets_keep_their_version_unless_told_otherwise(desk: Promises) -> None:
    old = desk.post()
    before = kept(desk, old)
    assert apply(desk, sla=ONE_HOUR) == 0
    new = desk.post()
    assert (kept(desk, old), due(desk, old) - desk.now) == (before, timedelta(hours=2))
    assert due(desk, new) - desk.now == timedelta(hours=1)


def test_a_preview_prints_ticket_by_ticket_what_the_move_then_does_and_writes_nothing(
    desk: Promises, capsys: pytest.CaptureFixture[str]
) -> None:
    first, answered = desk.post(), desk.post()
    desk.does(answered, "reply", text="hello")
    before = desk.rows("select count(*) as n from ledger.event")[0].n
    assert apply(desk, "--preview", "--running", "from-now", sla=ONE_HOUR) == 0
    lines = capsys.readouterr().out.splitlines()
    at, later = (desk.now + timedelta(hours=1)).isoformat(), (desk.now + timedelta(hours=2)).isoformat()
    assert lines == [
        f"T-{first} first_response#1: due {later} -> due {at}, target 7200 s -> 3600 s",
        "version 2, --running from-now: of 2 running tickets 1 would change, 0 would break a promise, 0 would stay "
        "under theirs; nothing was written",
    ]
    assert desk.rows("select count(*) as n from ledger.event")[0].n == before
    assert desk.rows("select max(number) as n from playbook.version")[0].n == 1
    assert apply(desk, "--running", "from-now", sla=ONE_HOUR) == 0
    assert due(desk, first) == desk.now + timedelta(hours=1)


def test_from_now_keeps_what_counted_and_whole_counts_anew_and_both_are_events(desk: Promises) -> None:
    ticket = desk.post()  # at two in the night; the office opens at nine
    desk.wait(hours=1)
    assert apply(desk, "--running", "from-now", sla=OFFICE) == 0
    assert due(desk, ticket).hour == 10  # one hour was counted around the clock
    assert apply(desk, "--running", "whole", sla=[OFFICE[0] | {"on_change": "restart"}]) == 0
    assert due(desk, ticket).hour == 11
    moves = [(one.data["version"], one.data["mode"]) for one in desk.events(ticket, "ticket.repinned")]
    assert moves == [(2, "from-now"), (3, "whole")]
    assert desk.ticket_of(ticket)["playbook_version"] == 3
    assert [one.data["cause"] for one in desk.events(ticket, "sla.moved")] == ["playbook", "playbook"]


def test_a_move_into_the_past_breaks_the_promise_once_at_the_instant_of_the_move_and_names_it(desk: Promises) -> None:
    ticket = desk.post()
    opened = desk.now
    desk.wait(minutes=90)
    apply(desk, "--running", "from-now", sla=ONE_HOUR)
    desk.wait(minutes=1)
    (breach,) = desk.events(ticket, "sla.breached")
    clock = desk.clocks(ticket)["first_response", 1]
    assert (clock["due_at"], clock["breached_at"]) == (opened + timedelta(hours=1), opened + timedelta(minutes=90))
    assert (breach.data["cause"], breach.data["metric"]) == ("playbook", "first_response")


def test_undo_gives_untouched_clocks_back_to_the_byte_recomputes_the_others_and_lists_them(
    desk: Promises, capsys: pytest.CaptureFixture[str]
) -> None:
    untouched, paused, answered, broken = (desk.post() for _ in range(4))
    desk.does(broken, "pause")
    desk.wait(minutes=30)
    desk.does(broken, "resume")
    before = {one: kept(desk, one) for one in (untouched, broken)}
    desk.wait(minutes=61)
    assert apply(desk, "--running", "whole", sla=ONE_HOUR) == 0
    desk.wait(minutes=1)
    assert desk.clocks(broken)["first_response", 1]["state"] == "breached"
    assert kept(desk, untouched) != before[untouched]
    desk.does(paused, "pause")
    desk.does(answered, "reply", text="hello")
    ended = desk.clocks(answered)["first_response", 1]
    desk.wait(minutes=10)
    desk.does(paused, "resume")
    capsys.readouterr()
    assert signalbox("apply", "--undo", "2") == 0
    desk.settle()
    lines = capsys.readouterr().out.splitlines()
    assert {one: kept(desk, one) for one in before} == before
    assert due(desk, paused) == desk.now + timedelta(minutes=28)  # two hours less 92 minutes counted
    assert desk.clocks(answered)["first_response", 1] == ended  # an ended cycle never changes
    assert {line.split()[0] for line in lines if "was recomputed" in line} == {f"T-{paused}", f"T-{answered}"}
    assert [desk.ticket_of(one)["playbook_version"] for one in (untouched, paused)] == [1, 1]
    assert desk.events(untouched, "sla.moved")[-1].data["cause"] == "undo"


def test_undo_brings_back_clocks_that_the_move_had_ended_and_calls_off_those_it_had_started(desk: Promises) -> None:
    ticket = desk.post()
    before = kept(desk, ticket)
    apply(desk, "--running", "from-now", sla=[{"name": "other", "targets": {"periodic_update": "3h"}, "warn": []}])
    assert {key: clock["state"] for key, clock in desk.clocks(ticket).items()} == {
        ("first_response", 1): "cancelled",
        ("resolution", 1): "cancelled",
        ("periodic_update", 1): "running",
    }
    signalbox("apply", "--undo", "2")
    desk.settle()
    assert kept(desk, ticket) == before
    assert {key: clock["state"] for key, clock in desk.clocks(ticket).items()} == {
        ("first_response", 1): "running",
        ("resolution", 1): "running",
    }
    desk.does(ticket, "reply", text="hello")
    assert desk.clocks(ticket)["first_response", 1]["state"] == "met"


def test_only_the_current_version_can_be_taken_back(desk: Promises, capsys: pytest.CaptureFixture[str]) -> None:
    assert signalbox("apply", "--undo", "1") == 1
    assert "only the current version (1)" in capsys.readouterr().err


def test_a_ticket_whose_group_is_gone_stays_and_is_listed(desk: Promises, capsys: pytest.CaptureFixture[str]) -> None:
    ticket = desk.post()
    groups = {"two": {"members": ["carl", "anna", "ben"]}}
    rules = [{"name": "all", "matches": "first", "rules": [{"name": "r", "default": True, "then": {"group": "two"}}]}]
    assert apply(desk, "--running", "whole", sla=ONE_HOUR, groups=groups, rules=rules, triage="two") == 0
    assert f"T-{ticket} stays where it is: there is no group one there" in capsys.readouterr().out
    assert desk.ticket_of(ticket)["playbook_version"] == 1


def test_a_move_waits_only_for_tickets_in_hand_and_goes_on_when_it_is_asked_for_again(desk: Promises) -> None:
    ids = [desk.post() for _ in range(6)]
    released = threading.Event()
    with desk.database.connect() as connection:
        tickets.lock(connection, [int(ids[2])])
        mover = threading.Thread(target=lambda: (apply(desk, "--running", "from-now", sla=ONE_HOUR), released.set()))
        mover.start()
        while len(desk.rows("select 1 from ledger.event where type = 'ticket.repinned'")) < 5:
            assert not released.wait(0.05)
        connection.rollback()
    mover.join(20)
    assert {desk.ticket_of(one)["playbook_version"] for one in ids} == {2}
    assert apply(desk, "--running", "from-now", sla=ONE_HOUR) == 0  # the same again: nothing left to do
    assert len(desk.rows("select 1 from ledger.event where type = 'ticket.repinned'")) == 6
