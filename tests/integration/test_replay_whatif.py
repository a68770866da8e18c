"""What if: two playbooks over one history in memory; a recorded history decided again; the command from end to end."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from services.control.cli import main
from services.control.replay import recorded, run, whatif
from services.control.replay.engine import Engine
from services.control.replay.history import steps
from services.control.replay.reading import Rejects
from services.control.replay.run import History
from services.control.replay.through import LanePlayer
from shared.playbook.model import Playbook
from tests.support.incident_log import MAPPING, log
from tests.support.replayed import CASES, history_in, prepared
from tests.support.servers import TestServers


@pytest.fixture
def history(tmp_path: Path) -> History:
    return history_in(tmp_path)


def test_the_recorded_version_reproduces_what_followed_from_what_was_given(
    servers: TestServers, history: History, tmp_path: Path
) -> None:
    with servers.fresh_database() as url, prepared(url, history) as (deps, database):
        LanePlayer(Engine(deps, database), history.people, lambda one, why: pytest.fail(f"{one}: {why}")).play(
            steps(history.everything)
        )
        again = recorded.again(deps, database)
    assert again.differing == []
    assert again.events > 100
    assert again.clocks > 10


def test_what_if_says_who_would_have_breached_been_escalated_or_told_otherwise(history: History) -> None:
    selected = run.playbook_of("selected", history)
    document = selected.document
    tighter = tuple(
        msgspec.structs.replace(one, targets={**one.targets, "first_response": "1m"}) for one in document.sla
    )
    other = Playbook(0, msgspec.structs.replace(document, sla=tighter), selected.specs)
    sides = whatif.both(history, (selected, other), lambda _side, _done: None)
    found = whatif.difference(history, ("selected", "tighter"), sides)
    total = found["total"]
    assert total["tickets"] == CASES
    assert total["breached"][1] > total["breached"][0]
    assert total["breached_only"][0] == 0
    assert total["told_otherwise"] > 0
    assert sum(row["tickets"] for row in found["by_group_and_priority"]) == CASES
    one = next(case for case in found["cases"].values() if "breached" in case)
    assert one["breached"][1] == ["first_response#1"]


def test_a_playbook_against_itself_differs_in_nothing(history: History) -> None:
    selected = run.playbook_of("selected", history)
    found = whatif.difference(history, ("a", "b"), [whatif.fates(history, selected), whatif.fates(history, selected)])
    assert found["cases"] == {}
    assert found["messages_by_person"] == {}
    assert found["total"]["told"][0] == found["total"]["told"][1] > 0


def test_what_if_counts_what_the_database_recorded(servers: TestServers, history: History, tmp_path: Path) -> None:
    fates = whatif.fates(history, run.playbook_of("selected", history))
    with servers.fresh_database() as url, prepared(url, history) as (deps, database):
        run.play(history, deps, database, Rejects(tmp_path / "x.csv"), lambda *_: None)
        with database.connect() as connection:
            breaches, told = connection.exec_driver_sql(
                """select (select count(*) from ledger.event where type = 'sla.breached'),
                (select count(*) from notifier.notification where state = 'sent')"""
            ).one()
    assert sum(len(fate.breached) for fate in fates.of.values()) == breaches > 0
    assert sum(fate.told.total() for fate in fates.of.values()) == told > 0


def test_the_command_saves_the_same_bytes_twice_and_sets_bad_rows_aside(
    servers: TestServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    events = tmp_path / "incidents.csv"
    events.write_text(log(6) + "INC9,never,never,New,,,,,,\n", encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(MAPPING, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    saved = []
    for place in ("one.json", "two.json"):
        with servers.fresh_database() as url:
            monkeypatch.setenv("SIGNALBOX_DATABASE_URL", url)
            assert main(["replay", str(events), "--mapping", "mine.yaml", "--out", place]) == 1
        saved.append((tmp_path / place).read_bytes())
    assert saved[0] == saved[1]
    result = msgspec.json.decode(saved[0])
    assert result["tickets"] == 6
    times = result["elapsed_seconds"]
    assert sum(times["by_kind"].values()) == pytest.approx(sum(times["by_team"].values()))
    assert times["by_kind"]["closed"] > 0
    assert (result["history"]["cases"], result["history"]["rejected"]) == (6, 1)
    assert "'never' is no instant" in (tmp_path / "incidents.csv.rejected").read_text()
    shown = capfd.readouterr()
    assert "1 rejected rows are in" in shown.err
    assert "\x1b" not in shown.out + shown.err
