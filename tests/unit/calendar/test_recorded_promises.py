"""Due instants and breach flags that other systems computed and recorded, from real business calendars."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.calendar.business import BusinessCalendar
from shared.calendar.spec import DAYS, parse_spec
from shared.calendar.walltime import instant_of, zone_named
from tests.support.data import data_folder, rows

BOSTON = zone_named("America/New_York")
TOLERANCE = timedelta(seconds=60)  # part of the opening stamps are cut to the minute
FEWEST_CASES = 20  # of a type, to say that it follows one rule
ONE_RULE_SHARE = 0.99


def boston_time(text: str) -> datetime:
    return instant_of(datetime.fromisoformat(text), BOSTON)


def weekly(days: tuple[str, ...], start: str, end: str) -> list[dict[str, str]]:
    return [{"day": day, "start": start, "end": end} for day in days]


def city_hours(rules: dict[str, Any]) -> BusinessCalendar:
    hours = rules["business_hours"]
    days = tuple(DAYS[number - 1] for number in hours["weekdays"])
    week = weekly(days, hours["open"], hours["close"])
    return BusinessCalendar(parse_spec({"tz": str(BOSTON), "weekly": week, "holidays": rules["holidays"]}))


def promised(calendar: BusinessCalendar, opened_at: datetime, rule: dict[str, Any]) -> datetime | None:
    """The due instant by the rule of a request type: so many working days from the first open instant, or calendar days."""
    if rule["kind"] == "business_days":
        start = calendar.next_open(opened_at)
        return None if start is None else calendar.add_days(start, rule["days"])
    wall = opened_at.astimezone(BOSTON).replace(tzinfo=None)
    return instant_of(wall + timedelta(days=rule["days"]), BOSTON)


def lawful_types(rules: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The request types that follow one rule."""
    return {
        name: rule
        for name, rule in rules["types"].items()
        if rule["exact_share_dev"] >= ONE_RULE_SHARE and rule["cases"] >= FEWEST_CASES
    }


@pytest.mark.data
def test_due_instants_of_a_city_are_reproduced_where_a_type_follows_one_rule() -> None:
    folder = data_folder("Boston 311 due instants")
    if folder is None:
        return
    rules = json.loads((folder / "sla" / "boston311_2015_rules.json").read_text())
    calendar, lawful = city_hours(rules), lawful_types(rules)
    seen, exact, judged, wrong = 0, 0, 0, 0
    for row in rows(folder / "sla" / "boston311_2015.csv.gz"):
        if not row["target_dt"] or row["type"] not in lawful:
            continue
        due_at = promised(calendar, boston_time(row["open_dt"]), lawful[row["type"]])
        assert due_at is not None
        seen += 1
        if abs(due_at - boston_time(row["target_dt"])) > TOLERANCE:
            continue
        exact += 1
        # Our own due instant gives the recorded flag, except for closings inside the tolerance of the stamps.
        if row["on_time"] and row["closed_dt"] and abs(boston_time(row["closed_dt"]) - due_at) > TOLERANCE:
            judged += 1
            wrong += (boston_time(row["closed_dt"]) > due_at) != (row["on_time"] == "OVERDUE")
    print(f"Boston 311: {exact} of {seen} due instants, {judged - wrong} of {judged} flags")
    assert seen > 1_000
    assert exact / seen >= 0.997, f"{exact} of {seen}"
    assert wrong == 0, f"{wrong} of {judged}"


@pytest.mark.data
def test_a_breach_is_a_closing_later_than_the_due_instant() -> None:
    folder = data_folder("Boston 311 breach flags")
    if folder is None:
        return
    seen, wrong = 0, 0
    for row in rows(folder / "sla" / "boston311_2015.csv.gz"):
        if row["target_dt"] and row["closed_dt"] and row["on_time"]:
            late = boston_time(row["closed_dt"]) > boston_time(row["target_dt"])
            seen += 1
            wrong += late != (row["on_time"] == "OVERDUE")
    assert seen > 1_000
    assert wrong == 0, f"{wrong} of {seen}"


def last_events(file: Path) -> dict[str, dict[str, str]]:
    """The last row of each incident in the order of changes; `made_sla` only ever turns false."""
    last: dict[str, dict[str, str]] = {}
    for row in rows(file):
        before = last.get(row["number"])
        if before is None or int(row["sys_mod_count"]) >= int(before["sys_mod_count"]):
            last[row["number"]] = row
    return last


@pytest.mark.data
@pytest.mark.parametrize(("priority", "limit_hours"), [("3 - Moderate", 62.0), ("4 - Low", 132.47)])
def test_the_recorded_promise_of_a_service_desk_is_a_business_clock(priority: str, limit_hours: float) -> None:
    folder = data_folder(f"UCI made_sla, priority {priority}")
    if folder is None:
        return
    # The window is in the file's own time: the desk's schedule ran in another zone than the stamps.
    calendar = BusinessCalendar(parse_spec({"tz": "UTC", "weekly": weekly(DAYS[:5], "14:00", "23:00")}))
    seen, right = 0, 0
    for row in last_events(folder / "events" / "uci_incident_log.csv.gz").values():
        if row["priority"] == priority:
            opened_at, closed_at = (
                datetime.strptime(row[name] + "+0000", "%d/%m/%Y %H:%M%z") for name in ("opened_at", "closed_at")
            )
            kept = calendar.between(opened_at, closed_at) <= timedelta(hours=limit_hours)
            seen += 1
            right += kept == (row["made_sla"] == "true")
    assert seen > 100
    assert right / seen >= 0.998, f"{right} of {seen}"
    print(f"made_sla, priority {priority}: {right} of {seen}")
