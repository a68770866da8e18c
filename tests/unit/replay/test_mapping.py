"""Mappings: found by the log's name, proven against its columns, every mistake named by file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.control.cli import main
from services.control.replay import mapping as m
from services.control.replay.reading import header
from shared.playbook.source import BadPlaybook
from tests.support.data import data_folder
from tests.support.incident_log import COLUMNS, MAPPING

SHIPPED = ("uci_incident_log", "volvo_incidents", "volvo_problems_closed", "italian_helpdesk")


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(BadPlaybook) as caught:
        m.load(written(folder, text), COLUMNS, "log.csv")
    return [str(one) for one in caught.value.problems]


@pytest.mark.parametrize(
    ("log", "found"),
    [
        ("uci_incident_log.csv.gz", "uci_incident_log"),
        ("volvo_incidents_2012.csv", "volvo_incidents"),
        ("volvo_problems_closed-b.csv.gz", "volvo_problems_closed"),
    ],
)
def test_a_mapping_is_found_by_the_name_of_the_log(log: str, found: str) -> None:
    assert m.find(Path(log), None).stem == found


def test_a_log_that_no_mapping_is_named_like_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(BadPlaybook, match=r"no mapping is named like calls\.csv .*uci_incident_log"):
        m.find(Path("calls.csv"), None)


def test_a_good_mapping_is_read(tmp_path: Path) -> None:
    assert m.load(written(tmp_path, MAPPING), COLUMNS, "log.csv").state.values["Asked"] == ("accept", "reply", "wait")


@pytest.mark.parametrize(
    ("instead_of", "write", "complaint"),
    [
        ("case: number", "case: nummer", "mine.yaml:3: case: log.csv has no column 'nummer'"),
        (
            "time: {column: at}",
            "time: {column: at, zone: Mars/Base}",
            "mine.yaml:4: time.zone: unknown time zone 'Mars/Base'",
        ),
        ("time: {column: at}", "time: {column: at, format: '%H:%M'}", "time.format: a stamp needs year, month and day"),
        ('"{what} is broken"', '"{wat} is broken"', "opened.subject.text: log.csv has no column 'wat'"),
        ("Done: [resolve]", "Done: [solve]", "mine.yaml:23: state.values.Done: no act 'solve'"),
        ("group: team", "group: {column: team, text: x}", "name either a column or a text"),
        ("person: who", "persons: who", "persons: no such member"),
        ("case: number\n", "", "a mapping needs the member `case`"),
        ("case: number", "case: number\ncase: number", "key stands twice"),
    ],
)
def test_a_mistake_is_named_by_file_line_and_field(tmp_path: Path, instead_of: str, write: str, complaint: str) -> None:
    assert instead_of in MAPPING
    found = mistakes(tmp_path, MAPPING.replace(instead_of, write))
    assert any(complaint in one for one in found), found


def test_all_mistakes_are_found_at_once(tmp_path: Path) -> None:
    text = MAPPING.replace("group: team", "group: crew").replace("requester: {id: caller}", "requester: {id: whom}")
    assert len(mistakes(tmp_path, text)) == 2


def test_shipped_mappings_fit_the_logs_they_are_named_after() -> None:
    folder = data_folder("the shipped mappings against their logs")
    for name in SHIPPED:
        assert m.find(Path(f"{name}.csv.gz"), None).stem == name
        if folder is not None:
            log = folder / "events" / f"{name}.csv.gz"
            m.load(m.find(log, None), header(log), log.name)


@pytest.mark.parametrize(
    ("there", "options", "complaint"),
    [
        (False, (), "calls.csv: no such file"),
        (True, ("--out", "nowhere/found.json"), "--out nowhere/found.json: nowhere is not a folder"),
    ],
)
def test_a_log_that_is_missing_and_a_result_that_could_not_be_saved_are_said_before_the_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    there: bool,
    options: tuple[str, ...],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if there:
        Path("calls.csv").write_text("id\n1\n")
    assert main(["replay", "calls.csv", *options]) == 1
    assert capsys.readouterr().err == f"signalbox: replay: {complaint}\n"
    assert not Path("calls.csv.rejected").exists()
