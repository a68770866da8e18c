"""The board and the Gantt view, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.ticket import commands as c
from tests.e2e.test_flows import PLAYBOOK
from tests.support.world import World, world, write_playbook


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[World]:
    with world(database_url, write_playbook(tmp_path / "flows", PLAYBOOK)) as made:
        yield made


def _all(desk: World, path: str, limit: int = 2) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = desk.get(f"{path}limit={limit}" + (f"&cursor={cursor}" if cursor else ""))
        items += page["items"]
        if page["next"] is None:
            return items
        cursor = page["next"]


def test_the_board_counts_stages_and_shows_what_is_due_first_with_its_risk_and_reason(desk: World) -> None:
    first = desk.open(kind="service", fields={"asset": "A1"})
    desk.wait(minutes=20)
    second = desk.open(kind="service", fields={"asset": "A2"})
    third = desk.open(kind="service", fields={"asset": "A3"})
    plain = desk.open()
    desk.done(third, c.CompleteNode(node="triage", outcome="software"), "boss")
    desk.wait(minutes=45)
    board = desk.get("/v1/board")
    assert board["stages"] == [
        {"stage": "intake", "count": 2, "overdue": 1},
        {"stage": "fix", "count": 1, "overdue": 0},
        {"stage": "assigned", "count": 1, "overdue": 0},
    ]
    items = _all(desk, "/v1/board?")
    assert [int(one["id"]) for one in items] == [first, second, third, plain]
    assert [(one["risk"], one["reason"]) for one in items] == [
        ("high", "overdue"), ("medium", "due_soon"), ("medium", "unaccepted"), ("medium", "unaccepted"),
    ]  # fmt: skip
    assert items[0]["dwell"] == {"wall_seconds": 65 * 60, "open_seconds": 65 * 60}
    assert [int(one["id"]) for one in _all(desk, "/v1/board?stage=intake&")] == [first, second]
    desk.done(first, c.CompleteNode(node="triage", outcome="software"), "ann")
    desk.done(second, c.Close(), "ann")
    assert {one["stage"]: one["count"] for one in desk.get("/v1/board")["stages"]} == {"fix": 2, "assigned": 1}


def test_dwell_counts_open_time_by_the_flows_calendar(desk: World) -> None:
    number = desk.open(kind="service", fields={"asset": "A1"})
    desk.done(number, c.Accept(), str(desk.ticket(number).assignee))
    desk.wait(hours=24)
    item = desk.get("/v1/board?stage=intake")["items"][0]
    assert item["dwell"] == {"wall_seconds": 24 * 3600, "open_seconds": 9 * 3600}


def test_the_gantt_view_has_a_span_for_each_visit_with_its_people_and_expected_time(desk: World) -> None:
    number = desk.open(kind="service", fields={"asset": "A1"})
    owner = desk.ticket(number).assignee
    desk.wait(minutes=90)
    desk.done(number, c.CompleteNode(node="triage", outcome="hardware"), "ann")
    row = desk.get(f"/v1/gantt?ticket=T-{number}")["items"][0]
    spans = row["spans"]
    assert [(one["node"], one["expected_seconds"], one["wall_seconds"], one["late"]) for one in spans] == [
        ("triage", 3600, 5400, True), ("check", 8 * 3600, 0, False),
    ]  # fmt: skip
    assert [one["agent"] for one in spans[0]["responsible"]] == [owner]
    assert spans[1]["responsible"][0]["group"] == "field"
    plain = desk.open()
    desk.wait(minutes=10)
    items = _all(desk, "/v1/gantt?", 1)
    assert [int(one["id"]) for one in items] == [plain, number]
    assert [(one["node"], one["wall_seconds"]) for one in items[0]["spans"]] == [("main", 600)]


def test_what_is_no_filter_or_cursor_is_refused(desk: World) -> None:
    assert desk.get("/v1/board?colour=red", 400)["errors"] == [{"pointer": "colour", "reason": "unknown parameter"}]
    assert desk.get("/v1/board?cursor=xx", 400)["errors"][0]["pointer"] == "cursor"
