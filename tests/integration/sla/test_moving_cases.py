"""Running flow cases moved with their tickets to another playbook version, looked at beforehand and taken back, by the command."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.promises import Promises, apply, commands_on, promising, signalbox


def flow(*nodes: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """One flow `fix`, worked by group `one`."""
    return [{"name": "fix", "responsible": {"group": "one"}, "nodes": [*nodes, {"name": "z", "kind": "end"}], **more}]


CHECK = {"name": "check", "expected": "1h", "next": "repair"}
REPAIR = {"name": "repair", "next": "z"}
DIAGNOSE = {"name": "diagnose", "expected": "30m", "needs": [{"check": "unplugged"}], "next": "repair"}
OLD = flow(CHECK, REPAIR)
RENAMED = flow(DIAGNOSE, REPAIR, moved={"check": "diagnose"})


@pytest.fixture
def desk(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Promises]:
    commands_on(database_url, monkeypatch)
    with promising(database_url, tmp_path, flows=OLD) as made:
        yield made


def undo(desk: Promises, version: int) -> int:
    done = signalbox("apply", "--undo", str(version))
    desk.settle()
    desk.forget()
    return done


def opened(desk: Promises) -> str:
    return desk.post(kind="fix")


def nodes(desk: Promises, ticket: str) -> list[tuple[str, int]]:
    return [(one["name"], one["visit"]) for one in desk.ticket_of(ticket)["nodes"]]


def completed(desk: Promises, ticket: str, node: str, **members: Any) -> int:
    body = {"action": "complete_node", "node": node, "actor": {"kind": "person", "id": "anna"}} | members
    return desk.call("POST", f"/v1/tickets/{ticket}/actions", body).status


def version_of_case(desk: Promises, ticket: str) -> int:
    (row,) = desk.rows("select state -> 'flow' ->> 'version' as v from ledger.ticket where id = %s", int(ticket))
    return int(row.v)


def open_assignments(desk: Promises, ticket: str) -> list[tuple[str, int]]:
    rows = desk.rows("select node, visit from router.assignment where ticket_id = %s and ended_at is null", int(ticket))
    return [(row.node, row.visit) for row in rows]


def test_a_preview_names_each_visit_that_goes_elsewhere_and_what_cannot_go_and_writes_nothing(
    desk: Promises, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = opened(desk), opened(desk)
    completed(desk, second, "check")
    before = desk.rows("select count(*) as n from ledger.event")[0].n
    assert apply(desk, "--preview", flows=RENAMED) == 0
    assert f"T-{first} node check#1: goes on at diagnose#1, needs unplugged" in capsys.readouterr().out.splitlines()
    assert apply(desk, "--preview", flows=flow(DIAGNOSE | {"next": "z"}, moved={"check": "diagnose"})) == 0
    lines = capsys.readouterr().out.splitlines()
    stuck = "its case at repair#1: the new flow has no node repair; map it"
    assert f"T-{second} stays under version 1: {stuck}" in lines
    assert lines[-1].startswith("version 2, --running from-now: of 2 running tickets 1 would change")
    assert "1 would stay" in lines[-1]
    assert desk.rows("select count(*) as n from ledger.event")[0].n == before


@pytest.mark.parametrize("mode", ["from-now", "whole"])
def test_a_case_goes_on_in_the_new_flow_where_the_mapping_says_with_one_owner(desk: Promises, mode: str) -> None:
    mapped, kept = opened(desk), opened(desk)
    completed(desk, kept, "check")
    entered = [one for one in desk.ticket_of(kept)["nodes"] if one["name"] == "repair"]
    desk.wait(minutes=10)
    assert apply(desk, "--running", mode, flows=RENAMED) == 0
    assert (nodes(desk, mapped), nodes(desk, kept)) == ([("diagnose", 1)], [("repair", 1)])
    assert desk.ticket_of(kept)["nodes"] == entered  # the same visit, with its owner and its instants
    node = desk.ticket_of(mapped)["nodes"][0]
    assert datetime.fromisoformat(node["due_at"]) == desk.now + timedelta(minutes=30)
    assert node["assignee"] in ("anna", "ben")
    assert [open_assignments(desk, one) for one in (mapped, kept)] == [[("diagnose", 1)], [("repair", 1)]]
    assert [version_of_case(desk, one) for one in (mapped, kept)] == [2, 2]
    moved = desk.events(mapped, "flow.moved")[-1]
    assert (moved.data["step"], moved.given, moved.actor["kind"]) == ("migrated", True, "person")
    (gone,) = desk.events(mapped, "node.completed")
    assert (gone.data["node"], gone.data["cancelled"]) == ("check", True)
    assert completed(desk, mapped, "check") == 409
    assert completed(desk, mapped, "diagnose") == 409  # the new node's material is asked for
    assert completed(desk, mapped, "diagnose", material={"unplugged": True}) == 200
    assert completed(desk, mapped, "repair") == 200
    assert desk.ticket_of(mapped)["status"] == "resolved"


def test_a_case_that_has_no_place_in_the_new_flow_stays_with_its_ticket_and_is_listed(
    desk: Promises, capsys: pytest.CaptureFixture[str]
) -> None:
    stuck = opened(desk)
    assert apply(desk, "--running", "from-now", flows=flow(DIAGNOSE, REPAIR)) == 0
    said = f"T-{stuck} stays where it is: its case at check#1: the new flow has no node check; map it"
    assert said in capsys.readouterr().out.splitlines()
    assert (nodes(desk, stuck), desk.ticket_of(stuck)["playbook_version"]) == ([("check", 1)], 1)
    assert completed(desk, stuck, "check") == 200  # it goes on as it began
    apply(desk, "--running", "from-now", flows=[])
    assert f"T-{stuck} stays where it is: there is no flow fix there" in capsys.readouterr().out


def test_keep_leaves_running_cases_on_their_version(desk: Promises) -> None:
    ticket = opened(desk)
    assert apply(desk, flows=RENAMED) == 0
    assert (nodes(desk, ticket), version_of_case(desk, ticket)) == ([("check", 1)], 1)
    assert nodes(desk, opened(desk)) == [("diagnose", 1)]


def test_undo_puts_an_untouched_case_back_and_a_touched_one_by_the_way_back_of_the_mapping(desk: Promises) -> None:
    untouched, kept, touched = opened(desk), opened(desk), opened(desk)
    completed(desk, kept, "check")
    as_it_was = desk.ticket_of(kept)["nodes"]
    assert apply(desk, "--running", "from-now", flows=RENAMED) == 0
    completed(desk, touched, "diagnose", material={"unplugged": True})
    assert nodes(desk, touched) == [("repair", 1)]
    assert undo(desk, 2) == 0
    assert nodes(desk, untouched) == [("check", 2)]  # the visit that the move had ended begins again
    assert desk.ticket_of(kept)["nodes"] == as_it_was
    assert nodes(desk, touched) == [("repair", 1)]
    assert [version_of_case(desk, one) for one in (untouched, kept, touched)] == [1, 1, 1]
    assert [desk.ticket_of(one)["playbook_version"] for one in (untouched, kept, touched)] == [1, 1, 1]
    assert open_assignments(desk, untouched) == [("check", 2)]
    assert completed(desk, untouched, "check") == 200
    assert nodes(desk, untouched) == [("repair", 1)]


def test_undo_gives_back_a_branch_that_the_move_had_ended(desk: Promises) -> None:
    fork = {"name": "f", "kind": "fork", "next": ["check", "tell"]}
    tell = {"name": "tell", "next": "j"}
    join = {"name": "j", "kind": "join", "next": "repair"}
    apply(desk, flows=flow(fork, CHECK | {"next": "j"}, tell, join, REPAIR))
    ticket = opened(desk)
    assert nodes(desk, ticket) == [("check", 1), ("tell", 1)]
    shorter = flow(fork, CHECK | {"next": "j"}, {"name": "tell", "next": "j"}, join, REPAIR, moved={"tell": None})
    assert apply(desk, "--running", "from-now", flows=shorter) == 0
    assert nodes(desk, ticket) == [("check", 1)]
    assert undo(desk, 3) == 0
    assert nodes(desk, ticket) == [("check", 1), ("tell", 2)]
    completed(desk, ticket, "check")
    assert nodes(desk, ticket) == [("tell", 2)]  # the join waits for both again
    completed(desk, ticket, "tell")
    assert nodes(desk, ticket) == [("repair", 1)]


def test_a_node_with_other_timers_in_the_new_version_fires_those_and_not_the_old_ones(desk: Promises) -> None:
    timed = CHECK | {"timers": [{"after": "1h", "time": "wall", "to": "repair"}]}
    apply(desk, flows=flow(timed, REPAIR))
    moved, stays = opened(desk), opened(desk)
    later = CHECK | {"timers": [{"after": "3h", "time": "wall", "to": "repair"}]}
    desk.does(stays, "pause")
    desk.wait(minutes=30)
    assert apply(desk, "--running", "from-now", flows=flow(later, REPAIR)) == 0
    desk.wait(hours=2)
    assert nodes(desk, moved) == [("check", 1)]
    desk.does(stays, "resume")
    desk.wait(hours=1, minutes=1)
    assert (nodes(desk, moved), nodes(desk, stays)) == ([("repair", 1)], [("check", 1)])
    desk.wait(hours=2)
    assert nodes(desk, stays) == [("repair", 1)]  # three hours after it stopped, less the pause


def test_clocks_of_nodes_follow_the_case_there_and_back_and_the_tickets_own_are_as_they_were(desk: Promises) -> None:
    promises = [{"name": "p", "targets": {"resolution": "10h", "node:check": "2h", "node:diagnose": "1h"}, "warn": []}]
    apply(desk, sla=promises, flows=OLD)
    ticket = opened(desk)
    own = desk.clocks(ticket)["resolution", 1]["due_at"]
    desk.wait(minutes=30)
    apply(desk, "--running", "from-now", sla=promises, flows=RENAMED)
    there = desk.clocks(ticket)
    assert there["node:check", 1]["state"] == "cancelled"
    assert (there["node:diagnose", 1]["state"], there["node:diagnose", 1]["due_at"]) == (
        "running",
        desk.now + timedelta(hours=1),
    )
    desk.wait(minutes=10)
    undo(desk, 3)
    back = desk.clocks(ticket)
    assert back["node:diagnose", 1]["state"] == "cancelled"
    assert (back["node:check", 2]["state"], back["node:check", 2]["due_at"]) == (
        "running",
        desk.now + timedelta(hours=2),
    )
    assert (back["resolution", 1]["state"], back["resolution", 1]["due_at"]) == ("running", own)
