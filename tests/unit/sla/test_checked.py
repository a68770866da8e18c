"""What `signalbox check` says of the `sla` section of a whole playbook."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from services.control.publish import SHIPPED, find, load
from shared.playbook.source import BadPlaybook

PROMISES = """
sla:
  - name: one
    calendar: clinic
    targets: {{{targets}}}
    {more}
"""
FLOW = """
flows:
  - name: fixing
    nodes: [{name: inspect, responsible: {group: desk}, next: done}, {name: done, kind: end}]
rules:
"""


def complaints(folder: Path, targets: str, more: str = "", *, warnings: bool = False) -> list[str]:
    """The mistakes, or the warnings about the promises."""
    book = folder / "book"
    shutil.copytree(SHIPPED / "selected", book, dirs_exist_ok=True)
    promises = (book / "promises.yaml").read_text()
    head, _, rest = promises.partition("sla:")
    chains = "chains:" + rest.partition("chains:")[2]
    (book / "promises.yaml").write_text(head + PROMISES.format(targets=targets, more=more) + chains)
    (book / "rules.yaml").write_text((SHIPPED / "selected" / "rules.yaml").read_text().replace("rules:\n", FLOW, 1))
    try:
        found = load(str(book), range(2026, 2028)).warnings
    except BadPlaybook as error:
        found = error.problems
    return [
        f"{one.field}: {one.reason}" for one in found if one.warning == warnings and (one.field or "").startswith("sla")
    ]


@pytest.mark.parametrize(
    ("targets", "more", "complaint"),
    [
        (
            "resolution: {urgnt: 2h, default: 4h}",
            "",
            "sla[0].targets.resolution.urgnt: unknown priority 'urgnt'; did you mean 'urgent'?",
        ),
        ("'ownership:lap': 2h", "", "sla[0].targets.ownership:lap: unknown group 'lap'"),
        (
            "resolution: 2h",
            "pause_on: [pendng]",
            "sla[0].pause_on[0]: unknown status 'pendng'; did you mean 'pending'?",
        ),
        (
            "resolution: 2h",
            "pause_on: {resolution: [new, wait]}",
            "sla[0].pause_on.resolution[1]: unknown status 'wait'",
        ),
        ("resolution: 2h", "first_response: [acepted]", "sla[0].first_response[0]: unknown status 'acepted'"),
    ],
)
def test_what_a_policy_names_and_nobody_has_is_a_mistake(
    tmp_path: Path, targets: str, more: str, complaint: str
) -> None:
    assert complaints(tmp_path, targets, more) == [complaint]


def test_a_node_of_no_flow_is_warned_of_because_cases_of_before_may_be_there(tmp_path: Path) -> None:
    found = complaints(tmp_path, "'node:inspekt': 2h", "warn: {'node:inspekt': [10m]}", warnings=True)
    assert found == [
        f"sla[0].{where}.node:inspekt: unknown node of any flow 'inspekt'; did you mean 'inspect'?"
        for where in ("targets", "warn")
    ]
    assert complaints(tmp_path, "'node:inspekt': 2h") == []


def test_priorities_nodes_groups_and_statuses_that_exist_are_sound(tmp_path: Path) -> None:
    targets = (
        "resolution: {urgent: 2h, default: 4h}, 'node:inspect': 1h, 'node:*': 2h, 'node:main': 2h, 'ownership:desk': 3h"
    )
    more = "pause_on: {default: ['pending:vendor', new], 'ownership:*': []}\n    first_response: [in_progress]"
    assert complaints(tmp_path, targets, more) == []


def test_who_names_a_playbook_that_is_not_there_is_told_which_are(tmp_path: Path) -> None:
    with pytest.raises(BadPlaybook, match="shipped: after-sales, production, repair, selected, service"):
        find(str(tmp_path / "none"))
