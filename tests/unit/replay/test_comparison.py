"""What a person reads of two playbooks over the same history."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from services.control.replay import report

SAME = {
    "tickets": 3, "breached": [1, 1], "breached_only": [0, 0], "escalated": [1, 1], "escalated_otherwise": 0,
    "told": [4, 4], "told_otherwise": 0,
}  # fmt: skip
OTHER = SAME | {"tickets": 2, "breached": [1, 1], "breached_only": [1, 1]}


def printed(*rows: dict[str, Any]) -> str:
    total = {name: [sum(two) for two in zip(*(row[name] for row in rows), strict=True)]
             if isinstance(SAME[name], list) else sum(row[name] for row in rows) for name in SAME}  # fmt: skip
    groups = [row | {"group": f"g{index}", "priority": "low"} for index, row in enumerate(rows)]
    found = {
        "history": {"name": "log.csv"}, "playbooks": ["one", "two"], "total": total, "by_group_and_priority": groups,
        "messages_by_person": {},
    }  # fmt: skip
    console = Console(file=io.StringIO(), width=150)
    console.print(report.compared(found))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_groups_that_do_not_differ_are_left_out_and_the_columns_are_explained() -> None:
    told = printed(SAME, OTHER)
    assert "g1" in told
    assert "g0" not in told
    assert report.LEGEND in told


@pytest.mark.parametrize("rows", [(SAME,), (SAME, SAME)])
def test_where_nothing_differs_nothing_is_explained(rows: tuple[dict[str, Any], ...]) -> None:
    told = printed(*rows)
    assert "Nothing differs." in told
    assert report.LEGEND not in told
