"""What is wrong with a routing section is found, with its path, before anything is published."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from shared.playbook.routing import Routing
from shared.playbook.routingcheck import check
from shared.playbook.types import decode

SOUND: dict[str, Any] = {
    "taxonomy": {
        "dimensions": {
            "business_type": {"values": ["net", "mail"]},
            "impact": {"values": [1, 2, 3], "default": 3},
            "urgency": {"values": [1, 2, 3], "default": 3},
        },
        "priority": {"values": [1, 2, 3, 4], "default": 4, "matrix": {"cells": {1: {1: 1, 2: 2}}, "otherwise": 4}},
    },
    "fields": {"device": {"type": "text"}, "owner": {"type": "text"}},
    "rules": [
        {
            "name": "s",
            "rules": [
                {"name": "a", "when": {"labels.business_type": "net"}, "then": {"group": "g", "skills": {"linux": 2}}},
                {"name": "rest", "default": True, "then": {"group": "triage"}},
            ],
        }
    ],
    "groups": {"g": {"members": ["ann", "bob"], "overflow": "triage"}, "triage": {"members": ["bob"]}},
    "agents": {"ann": {"skills": {"linux": 2}}, "bob": {"delegate": "ann"}},
}


def changed(path: str, value: Any) -> Routing:
    """The sound section with one member set; `path` as in `rules.0.rules.1`."""
    section = copy.deepcopy(SOUND)
    *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    at: Any = section
    for step in steps:
        at = at[step] if isinstance(at, list) else at.setdefault(step, {})
    if isinstance(at, list) and last == len(at):
        at.append(value)
    else:
        at[last] = value
    return decode(section, Routing)


def test_a_sound_section_has_no_findings() -> None:
    assert check(decode(SOUND, Routing)) == []


BROKEN: list[tuple[str, Any, str, str]] = [
    ("zone", "Mars/Base", "zone", "unknown time zone"),
    ("taxonomy/dimensions/impact/default", 9, "taxonomy.dimensions.impact.default", "unknown value '9'"),
    ("taxonomy/dimensions/empty", {"values": []}, "taxonomy.dimensions.empty.values", "without values"),
    ("taxonomy/priority/default", "5", "taxonomy.priority.default", "unknown priority"),
    ("taxonomy/priority/matrix/otherwise", 7, "taxonomy.priority.matrix.otherwise", "unknown priority"),
    ("taxonomy/priority/matrix/by", ["impakt", "urgency"], "taxonomy.priority.matrix.by", "did you mean 'impact'"),
    ("taxonomy/priority/matrix/cells/8", {1: 1}, "taxonomy.priority.matrix.cells.8", "unknown impact '8'"),
    ("taxonomy/priority/matrix/cells/2", {1: 9}, "taxonomy.priority.matrix.cells.2.1", "unknown priority '9'"),
    ("fields/kind", {"type": "choice"}, "fields.kind.values", "without values"),
    ("fields/note", {"type": "text", "values": ["a"]}, "fields.note.values", "for a choice"),
    ("rules/0/rules/0/when", {"labels.business_type": "nett"}, "rules[0].rules[0].when.labels.business_type", "'net'"),
    ("rules/0/rules/0/when", None, "rules[0].rules[0].when", "default: true"),
    ("rules/0/rules/1/when", {"source": "x"}, "rules[0].rules[1].when", "has no condition"),
    ("rules/0/rules/1/default", False, "rules[0].rules[1].when", "default: true"),
    ("rules/0/rules/2", {"name": "d2", "default": True}, "rules[0]", "exactly one default rule, it has 2"),
    ("rules/0/rules/2", {"name": "a", "when": {"source": "x"}}, "rules[0]", "two rules called 'a'"),
    (
        "rules/0/rules/2",
        {"name": "b", "when": {"labels.business_type": "net", "source": "x"}},
        "rules[0].rules[2].when",
        "b: is never reached: covered by 'a'",
    ),
    ("rules/0/enrich", ["mes"], "rules[0].enrich[0]", "unknown enrichment 'mes'"),
    ("rules/1", {"name": "s", "rules": [{"name": "d", "default": True}]}, "rules[1].name", "a second 's'"),
    ("rules/0/rules/0/then/labels", {"impact": 5}, "rules[0].rules[0].then.labels.impact", "unknown value of impact"),
    ("rules/0/rules/0/then/labels", {"inpact": 1}, "rules[0].rules[0].then.labels.inpact", "unknown dimension"),
    ("rules/0/rules/0/then/priority", 0, "rules[0].rules[0].then.priority", "unknown priority"),
    ("rules/0/rules/0/then/group", "gg", "rules[0].rules[0].then.group", "unknown group"),
    ("rules/0/rules/0/then/agent", "zoe", "rules[0].rules[0].then.agent", "unknown person"),
    ("rules/0/rules/0/then/weight", 0, "rules[0].rules[0].then.weight", "above 0"),
    ("rules/0/rules/0/then/model", {"name": "m", "label": "x"}, "rules[0].rules[0].then.model.label", "dimension"),
    ("rules/0/rules/0/then/hold", {"at_least": 0, "within": 5}, "rules[0].rules[0].then.hold.at_least", "at least 1"),
    (
        "rules/0/rules/0/then/hold",
        {"at_least": 2, "within": 5, "per": "dedup"},
        "rules[0].rules[0].then.hold.per",
        "unknown field",
    ),
    ("groups/g/strategy", "by_field", "groups.g.field", "needs the field"),
    ("groups/g/weights", {"zoe": 2}, "groups.g.weights.zoe", "unknown member"),
    ("groups/g/members", ["ann", "ann"], "groups.g.members", "named twice"),
    ("groups/triage/relax", [{"after": "5m", "to": "overflow"}], "groups.triage.relax", "none is named"),
    ("groups/triage/overflow", "triage", "groups.triage.overflow", "into itself"),
    ("groups/g/rate", {"limit": 0}, "groups.g.rate.limit", "at least 1"),
    ("agents/ann/leave", [{"first": "2026-02-02", "last": "2026-02-01"}], "agents.ann.leave[0]", "ends before"),
    (
        "agents/ann/leave",
        [{"first": "2026-02-01", "last": "2026-02-01", "delegate": "zoe"}],
        "agents.ann.leave[0].delegate",
        "unknown person",
    ),
    ("agents/ann/zone", "Nowhere", "agents.ann.zone", "unknown time zone"),
    ("agents/ann/capacity", -1, "agents.ann.capacity", "not below 0"),
    ("work", {"rules": [{"when": {}, "weight": 1}]}, "work.rules[0].when", "blank condition"),
    ("work", {"states": {"sleeping": 1}}, "work.states.sleeping", "unknown status"),
    ("enrichments", {"mes": {"url": "https://x/{external_id}", "allow": []}}, "enrichments.mes.allow", "no host"),
]


@pytest.mark.parametrize(("path", "value", "where", "reason"), BROKEN)
def test_each_mistake_is_found_where_it_is(path: str, value: Any, where: str, reason: str) -> None:
    found = check(changed(path, value))
    assert [problem.path for problem in found] == [where]
    assert reason in found[0].reason
    assert not found[0].warning


def test_delegates_in_a_circle_are_named() -> None:
    found = check(changed("agents/ann/delegate", "bob"))
    assert [
        (problem.path, "bob → ann → bob" in problem.reason or "ann → bob → ann" in problem.reason) for problem in found
    ] == [
        ("agents.ann.delegate", True),
        ("agents.bob.delegate", True),
    ]


def test_a_skill_that_nobody_of_the_group_has_is_a_warning() -> None:
    found = check(changed("rules/0/rules/0/then/skills", {"linux": 3}))
    assert [(problem.path, problem.warning) for problem in found] == [("rules[0].rules[0].then.skills.linux", True)]
