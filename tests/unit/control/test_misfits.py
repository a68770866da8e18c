"""What `check` says of members and values that a section does not have: the place, and what may have been meant."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.control.checks import _names
from services.control.misfits import misfit
from shared.playbook.model import Document
from shared.playbook.types import decode


@pytest.mark.parametrize(
    ("section", "value", "path", "reason"),
    [
        ("triage", 3, ("triage",), "Expected `str`, got `int`"),
        ("work", {"defalt": 1}, ("work", "defalt"), "unknown member 'defalt'; did you mean 'default'?"),
        (
            "rules",
            [{"name": "a", "rules": [{"name": "x", "then": {"zzz": 1}}]}],
            ("rules", 0, "rules", 0, "then", "zzz"),
            "unknown member 'zzz' (known: agent, effort, group, hold, kind, labels, model, override, preferred, priority, "
            "skills, weight)",
        ),
        (
            "rules",
            [{"name": "a", "matches": "some", "rules": []}],
            ("rules", 0, "matches"),
            "'some' is none of first, all",
        ),
        (
            "groups",
            {"g": {"members": [], "offer": {"on_decline": "gone"}}},
            ("groups",),
            "'gone' is none of available, away, offline",
        ),
        ("tasks", {"on_end": "burn"}, ("tasks", "on_end"), "'burn' is none of close, keep, wait"),
        ("groups", {"g": {"membrs": []}}, ("groups",), "unknown member 'membrs'; did you mean 'members'?"),
    ],
)
def test_a_misfit_is_named_with_what_there_is(section: str, value: Any, path: tuple[Any, ...], reason: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        decode({"groups": {}} | {section: value}, Document)
    assert misfit(refused.value, Document) == (path, reason)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    found = [reason for _, reason, _ in _names([(("groups", "g", "lead"), "li.an")], ["li.na", "sun.li"], "person")]
    assert found == ["unknown person 'li.an'; did you mean 'li.na'?"]
