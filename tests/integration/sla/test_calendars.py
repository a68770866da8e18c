"""Calendars from the playbook to a due instant over HTTP: holidays, make-up days, files, exceptions, and what `check` says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.promises import playbook, promising, signalbox

CHINA: dict[str, Any] = {"tz": "Asia/Shanghai", "weekly": {"mon-fri": ["09:00-18:00"]}, "holidays": {"country": "CN"}}
DAYS = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//x//x//EN
BEGIN:VEVENT
UID:1
DTSTAMP:20260101T000000Z
DTSTART;VALUE=DATE:20260305
DTEND;VALUE=DATE:20260306
SUMMARY:Company day
END:VEVENT
END:VCALENDAR
"""


def sla(calendar: str) -> list[dict[str, Any]]:
    return [{"name": "p", "calendar": calendar, "targets": {"resolution": "9h"}, "warn": []}]


def due_after(database_url: str, folder: Path, calendar: dict[str, Any], local: str) -> datetime:
    """The due instant (Shanghai time) of a ticket opened at a local instant, nine open hours being promised."""
    with promising(database_url, folder, calendars={"c": calendar}, sla=sla("c")) as desk:
        opened = datetime.fromisoformat(f"{local}+08:00")
        desk.wait(seconds=(opened - desk.now).total_seconds())
        due: datetime = desk.clocks(desk.post())["resolution", 1]["due_at"]
        return due.astimezone(opened.tzinfo)


@pytest.mark.parametrize(
    ("opened", "extra", "due"),
    [
        ("2026-05-08T12:00", {}, "2026-05-09T12:00"),  # a Saturday that is worked for the May holiday
        ("2026-04-30T12:00", {}, "2026-05-06T12:00"),  # over the holiday
        ("2026-05-08T12:00", {"exceptions": {"2026-05-09": "closed"}}, "2026-05-11T12:00"),
        (
            "2026-04-30T12:00",
            {"exceptions": {"2026-05-01": ["09:00-12:00"]}},
            "2026-05-01T12:00",
        ),  # used up exactly at closing
        ("2026-03-04T12:00", {"icalendar": "days.ics"}, "2026-03-06T12:00"),
        ("2026-03-04T12:00", {"icalendar": "days.ics", "exceptions": {"2026-03-05": "open"}}, "2026-03-05T12:00"),
        ("2026-03-04T12:00", {"breaks": {"2026-03-05": "10:00-12:00"}}, "2026-03-05T14:00"),
    ],
)
def test_a_promise_is_counted_over_holidays_worked_days_files_and_exceptions(
    database_url: str, tmp_path: Path, opened: str, extra: dict[str, Any], due: str
) -> None:
    book = playbook(tmp_path)
    (book / "days.ics").write_text(DAYS, encoding="utf-8")
    found = due_after(database_url, tmp_path, CHINA | extra, opened)
    assert found == datetime.fromisoformat(f"{due}+08:00")


def test_the_holidays_of_a_version_are_a_snapshot_in_the_database(database_url: str, tmp_path: Path) -> None:
    with promising(database_url, tmp_path, calendars={"c": CHINA}, sla=sla("c")) as desk:
        (row,) = desk.rows("select document -> 'calendars' -> 'c' as c from playbook.version")
        assert "2026-05-01" in row.c["holidays"]
        assert "2026-05-09" in {one["date"] for one in row.c["overrides"]}


def test_check_warns_of_years_whose_adjusted_days_are_not_published_and_refuses_what_never_opens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert signalbox("check", str(playbook(tmp_path, calendars={"c": CHINA}, sla=sla("c")))) == 0
    said = capsys.readouterr()
    assert "the adjusted working days of CN are not published yet for" in said.out + said.err
    assert signalbox("check", str(playbook(tmp_path, calendars={"c": {"tz": "UTC", "weekly": {}}}, sla=sla("c")))) == 1
    said = capsys.readouterr()
    assert "the calendar never opens" in said.err
    assert "playbook.yaml:" in said.err


def test_hours_are_wall_time_of_the_calendars_zone_across_a_clock_change(database_url: str, tmp_path: Path) -> None:
    berlin = {"tz": "Europe/Berlin", "weekly": {"daily": "00:00-24:00"}}
    policy = [{"name": "p", "calendar": "b", "targets": {"resolution": {"working_days": 1}}, "warn": []}]
    with promising(database_url, tmp_path, calendars={"b": berlin}, sla=policy) as desk:
        desk.wait(seconds=(datetime(2026, 3, 28, 11, tzinfo=UTC) - desk.now).total_seconds())
        opened = desk.now  # Saturday noon in Berlin; the clocks go forward in the night
        assert desk.clocks(desk.post())["resolution", 1]["due_at"] - opened == timedelta(hours=23)
