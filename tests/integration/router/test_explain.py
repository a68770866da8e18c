"""What an operations person reads: why a ticket is where it is, and what would become of one that does not exist yet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.control.cli import main
from services.control.narrate import narrate
from shared.ticket import commands as c
from tests.support.routing import RoutingDesk, playbook, routing_desk


def story(desk: RoutingDesk, ticket: int) -> str:
    return narrate(desk.ticket(ticket), desk.explain(ticket))


def sections() -> dict[str, Any]:
    agents = playbook()["agents"] | {
        "ann": {"capacity": 2, "skills": {"tape": 2}},
        "bob": {"capacity": 2, "presence": "away"},
    }
    then = {"labels": {"impact": 1}, "skills": {"tape": 1}}
    tape = {"name": "tape", "when": {"subject": {"contains": ["tape"]}}, "then": then}
    rules = [
        {"name": "kind", "rules": [tape, {"name": "else", "default": True}]},
        {"name": "whose", "rules": [{"name": "all", "default": True, "then": {"group": "desk"}}]},
    ]
    return playbook(agents=agents, rules=rules)


def test_a_story_names_rules_origins_and_for_every_candidate_what_decided(database_url: str) -> None:
    with routing_desk(database_url, sections()) as desk:
        desk.open()
        ticket = desk.open(subject="tape library jammed", labels={"urgency": 1})
        told = story(desk, ticket)
        number = desk.scalar("select max(number) from playbook.version")
        assert f"Classified under playbook version {number}:" in told
        assert "  impact = 1 (by rule kind/tape)" in told
        assert "  urgency = 1 (given by the sender)" in told
        assert "  priority = 1 (from the priority matrix)" in told
        assert "  rule kind/tape acted: it read subject = 'tape library jammed'" in told
        assert "Group desk (least_loaded): given to ann, by the group's strategy." in told
        assert "  ann: chosen (load 1, last assigned 20" in told or "  ann: chosen (load 0, never" in told
        assert "  bob: not available" in told
        assert "  cai: lacks a skill that is asked for" in told


def test_a_repeat_and_a_held_alarm_say_what_became_of_them(database_url: str) -> None:
    alarm = {"subject": "disk full", "source": "monitoring", "dedup_key": "db-7"}
    hold = {"group": "desk", "hold": {"at_least": 3, "within": "5m"}}
    rules = [{"name": "alarm", "when": {"source": "monitoring"}, "then": hold}, {"name": "else", "default": True}]
    with routing_desk(database_url, playbook(rules=[{"name": "all", "rules": rules}])) as desk:
        first, repeat = desk.open(**alarm), desk.open(**alarm)
        assert f"Merged into T-{first} at " in story(desk, repeat)
        assert "1 of 3 within 5m of dedup_key=db-7; closed at " in story(desk, first)
        desk.wait(minutes=6)
        assert ": fewer than 3 within 5m." in story(desk, first).splitlines()[2]


def test_every_candidate_has_a_score_or_a_filter(database_url: str) -> None:
    with routing_desk(database_url, playbook()) as desk:
        desk.person("bob", presence="offline")
        desk.open()
        reason = desk.explain(desk.open())["assignment"][0]["reason"]
        assert reason["score_of"] == ["load", "last assigned", "place"]
        assert set(reason["scores"]) | {"bob"} == {"ann", "bob", "cai"}
        assert reason["chosen"] == min(reason["scores"], key=lambda one: reason["scores"][one])
        assert reason["dropped"] == {"presence": ["bob"]}


def test_who_was_considered_reads_the_same_however_it_is_kept(database_url: str) -> None:
    with routing_desk(database_url, playbook()) as desk:
        ticket = desk.open()
        kept = "select reason -> 'considered' from ledger.event where id = %s and type = 'ticket.assigned'"
        assert desk.rows(kept, ticket) == [("ann|bob|cai",)]
        read = desk.explain(ticket)["assignment"][0]["reason"]
        assert read["considered"] == ["ann", "bob", "cai"]
        assert reason_in_timeline(desk, ticket) == read
        told = story(desk, ticket)
        older = """update ledger.event set reason = jsonb_set(reason::jsonb, '{considered}', '["ann", "bob", "cai"]')
            where id = %s and type = 'ticket.assigned'"""
        with desk.database.begin() as connection:
            connection.exec_driver_sql(older, (ticket,))
        assert desk.explain(ticket)["assignment"][0]["reason"] == reason_in_timeline(desk, ticket) == read
        assert story(desk, ticket) == told


def reason_in_timeline(desk: RoutingDesk, ticket: int) -> Any:
    return next(row["reason"] for row in desk.timeline(ticket) if row["type"] == "ticket.assigned")


def test_a_story_goes_in_the_order_of_what_happened(database_url: str) -> None:
    with routing_desk(database_url, playbook()) as desk:
        for person in ("ann", "bob", "cai"):
            desk.person(person, presence="offline")
        ticket = desk.open()
        desk.wait(minutes=3)
        desk.person("cai", presence="available")
        desk.act(ticket, c.Transfer(group="triage", reason="not mine"), "cai")
        told = story(desk, ticket)
        places = [told.index(text) for text in (
            "Group desk: nobody can take it now (not available).", "given to cai", "given to lee",
            "Whose it was, one group after the other:",
        )]  # fmt: skip
        assert places == sorted(places)
        assert "(transferred: not mine)" in told


def lines(tmp_path: Path, *tickets: dict[str, Any]) -> Path:
    path = tmp_path / "tickets.ndjson"
    path.write_text("\n".join(json.dumps(one) for one in tickets) + "\n")
    return path


def test_a_file_is_told_what_would_happen_under_a_playbook_without_any_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIGNALBOX_HOME", str(tmp_path / "none"))
    path = lines(tmp_path, {"subject": "全院网络瘫痪"}, {"subject": "wifi", "unknown": 1})
    assert main(["explain", str(path), "--playbook", "selected"]) == 1
    out, err = capsys.readouterr()
    [answer] = [json.loads(line) for line in out.splitlines()]
    assert (answer["lane"], answer["classification"]["priority"]["value"]) == ("urgent", "urgent")
    assert answer["assignment"]["agent"] in ("zhao.lei", "huang.bo", "xu.kai")
    assert {one["agent"] for one in answer["candidates"]} == {"zhao.lei", "huang.bo", "xu.kai"}
    assert all(one["score"] for one in answer["candidates"])
    assert {one["metric"] for one in answer["promises"]} == {"first_response", "resolution"}
    assert f"{path}:2: /unknown" in err
    assert not (tmp_path / "none").exists()


def test_a_file_is_told_whose_turn_it_is_and_who_had_enough(
    database_url: str,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SIGNALBOX_DATABASE_URL", database_url)
    monkeypatch.setenv("SIGNALBOX_REDIS_URL", redis_url)
    groups = playbook()["groups"]
    groups["desk"] |= {"strategy": "round_robin", "rate": {"limit": 1, "within": "1h"}}
    with routing_desk(database_url, playbook(groups=groups)) as desk:
        path = str(lines(tmp_path, {"subject": "x"}))

        def tried() -> dict[str, Any]:
            assert main(["explain", path]) == 0
            [answer] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
            return answer

        desk.open()
        assert tried()["assignment"]["agent"] == desk.owner(desk.open())
        desk.open()
        assert {one.get("dropped_by") for one in tried()["candidates"]} == {"rate"}


def test_a_file_is_tried_on_the_people_and_loads_of_this_moment_and_nothing_is_written(
    database_url: str,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SIGNALBOX_DATABASE_URL", database_url)
    monkeypatch.setenv("SIGNALBOX_REDIS_URL", redis_url)
    with routing_desk(database_url, playbook()) as desk:
        for _ in range(4):
            desk.open()
        desk.person("ann", presence="away")
        events = desk.scalar("select count(*) from ledger.event")
        before = desk.rows("select * from router.load order by agent")
        assert main(["explain", str(lines(tmp_path, *[{"subject": "x"}] * 3))]) == 0
        answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        free = 4 - desk.scalar("select sum(open_count) from router.load where agent in ('bob', 'cai')")
        assert sum(one["assignment"]["agent"] is not None for one in answers) == min(3, free)
        assert {"agent": "ann", "chosen": False, "dropped_by": "presence"} in answers[0]["candidates"]
        assert desk.scalar("select count(*) from ledger.event") == events
        assert desk.rows("select * from router.load order by agent") == before
        assert desk.scalar("select count(*) from router.waiting") == 0
