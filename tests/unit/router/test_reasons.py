"""Reasons as events keep them, and as they are read."""

from __future__ import annotations

import pytest

from shared.contracts import reasons


@pytest.mark.parametrize("names", [[], ["ann"], ["ann", "bob"], ["a|n", "bob"], ["", "bob"], ["王 伟", "o'neil"]])
def test_names_are_read_as_they_were_kept(names: list[str]) -> None:
    reason = {"group": "desk", "considered": reasons.kept(names)}
    assert reasons.told(reason) == {"group": "desk", "considered": names}


def test_usual_names_are_kept_as_one_text() -> None:
    assert reasons.kept(["ann", "bob"]) == "ann|bob"


@pytest.mark.parametrize("reason", [None, {}, {"considered": ["ann", "bob"]}, {"considered": [{"policy": "gold"}]}])
def test_what_is_kept_otherwise_is_read_as_it_is(reason: dict[str, object] | None) -> None:
    assert reasons.told(reason) == reason
