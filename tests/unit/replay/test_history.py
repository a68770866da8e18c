"""From rows to what is given: what a value of the log's state does, does not do again, and undoes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from services.control.cli import Failure
from services.control.replay import mapping as m
from services.control.replay.history import given
from services.control.replay.people import people_of
from services.control.replay.reading import Log, Rejects, header, read
from tests.support.incident_log import COLUMNS, MAPPING

OPENED = "2026-03-02T08:00:00Z"


def row(minute: int, state: str, team: str = "A", who: str = "Ann", number: str = "1") -> str:
    return f"{number},{OPENED},2026-03-02T09:{minute:02}:00Z,{state},{team},{who},c,1,1,printer"


def log_of(folder: Path, *rows: str, mapping: str = MAPPING) -> tuple[Log, m.Mapping, Rejects]:
    path = folder / "log.csv"
    path.write_text("\n".join((",".join(COLUMNS), *rows)) + "\n", encoding="utf-8")
    (folder / "mine.yaml").write_text(mapping, encoding="utf-8")
    proven = m.load(folder / "mine.yaml", header(path), path.name)
    rejects = Rejects(path)
    log = read(path, proven, rejects)
    rejects.close()
    return log, proven, rejects


def acts(folder: Path, *rows: str) -> list[tuple[str, ...]]:
    log, mapping, _ = log_of(folder, *rows)
    return [one.acts for one in given(log, mapping) if one.opening is None]


def test_a_case_opens_at_its_own_instant_before_its_first_row(tmp_path: Path) -> None:
    log, mapping, _ = log_of(tmp_path, row(5, "Working"))
    first, second = given(log, mapping)
    assert first.opening is not None
    assert first.at.hour == 8
    assert second.acts == ("accept", "reply")
    assert second.at.hour == 9


def test_a_value_acts_when_it_is_new_and_not_when_it_stands_there_again(tmp_path: Path) -> None:
    assert acts(tmp_path, row(1, "Working"), row(2, "Working"), row(3, "Done"), row(4, "Done")) == [
        ("accept", "reply"), ("resolve",),
    ]  # fmt: skip


def test_leaving_a_wait_resumes_and_leaving_a_resolution_reopens(tmp_path: Path) -> None:
    assert acts(tmp_path, row(1, "Asked"), row(2, "New"), row(3, "Done"), row(4, "Working")) == [
        ("accept", "reply", "wait"), ("resume",), ("resolve",), ("reopen", "accept", "reply"),
    ]  # fmt: skip


def test_resolving_or_answering_out_of_a_wait_does_not_resume_first(tmp_path: Path) -> None:
    assert acts(tmp_path, row(1, "Asked"), row(2, "Done")) == [("accept", "reply", "wait"), ("resolve",)]
    assert acts(tmp_path, row(1, "Asked"), row(2, "Answered")) == [("accept", "reply", "wait"), ("customer_reply",)]


def test_another_group_is_a_transfer_and_the_next_hand_at_work_accepts(tmp_path: Path) -> None:
    found = acts(tmp_path, row(1, "Working"), row(2, "Working", team="B"), row(3, "Working", team="B"))
    assert found == [("accept", "reply"), ("transfer",), ("accept",)]


def test_rows_of_one_case_are_played_in_the_order_of_their_instants(tmp_path: Path) -> None:
    assert acts(tmp_path, row(9, "Done"), row(1, "Working")) == [("accept", "reply"), ("resolve",)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row(1, "Lost"), "state: 'Lost' is not in the mapping"),
        (row(1, "New").replace("2026-03-02T09:01:00Z", "yesterday"), "at: 'yesterday' is no instant"),
        (row(1, "New", number="?"), "number: no case"),
        (row(1, "New") + ",more", "11 cells where the header has 10"),
    ],
)
def test_a_bad_row_is_set_aside_with_its_reason_and_the_rest_goes_on(tmp_path: Path, bad: str, reason: str) -> None:
    log, _, rejects = log_of(tmp_path, row(1, "Working"), bad, row(3, "Done"))
    assert len(log.rows["1"]) == 2
    assert rejects.count == log.rejected == 1
    (aside,) = [json.loads(line) for line in (tmp_path / "log.csv.rejected").read_text().splitlines()]
    assert aside["line"] == 3
    assert reason in aside["reason"]
    assert aside["cells"]


def test_bytes_that_are_no_utf_8_are_set_aside(tmp_path: Path) -> None:
    log, mapping, _ = log_of(tmp_path, row(1, "Working"))
    path = tmp_path / "log.csv"
    path.write_bytes(path.read_bytes() + row(2, "Done").encode().replace(b"Ann", b"\xff\xfe") + b"\n")
    rejects = Rejects(path)
    log = read(path, mapping, rejects)
    rejects.close()
    assert (len(log.rows["1"]), rejects.count) == (1, 1)
    assert "not UTF-8" in (tmp_path / "log.csv.rejected").read_text()


def test_a_packed_log_is_known_by_its_bytes(tmp_path: Path) -> None:
    plain, mapping, _ = log_of(tmp_path, row(1, "Working"))
    path = tmp_path / "packed.csv"
    path.write_bytes(gzip.compress((tmp_path / "log.csv").read_bytes()))
    assert read(path, mapping, Rejects(path)).rows == plain.rows


def test_a_log_that_breaks_off_is_an_error_and_no_shorter_log(tmp_path: Path) -> None:
    _, mapping, _ = log_of(tmp_path, *(row(minute % 60, "Working", number=str(minute)) for minute in range(3000)))
    path = tmp_path / "packed.csv.gz"
    path.write_bytes(gzip.compress((tmp_path / "log.csv").read_bytes())[:-400])
    with pytest.raises(Failure, match=r"packed\.csv\.gz"):
        read(path, mapping, Rejects(path))


def test_the_people_of_a_log_are_its_groups_members_leads_and_one_head(tmp_path: Path) -> None:
    log, _, _ = log_of(
        tmp_path, row(1, "New"), row(2, "Working"), row(3, "Done", who="Bob"), row(4, "Closed", team="B c", who="?")
    )
    people = people_of(log)
    assert people.groups == {"A": "a", "B c": "b-c"}
    assert people.members == {"a": ("ann", "bob"), "b-c": ("desk-of-b-c",)}
    assert people.managers["bob"] == "ann"
    assert people.managers["ann"] == people.managers["desk-of-b-c"] == "head-of-operations"
