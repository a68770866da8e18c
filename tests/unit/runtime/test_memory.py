"""What a settled worker's garbage collector looks at."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from shared.playbook.model import Document, Playbook
from shared.playbook.types import decode


class Compiled:
    """Something that a service makes of a playbook."""


@pytest.fixture
def settled() -> Iterator[None]:
    gc.freeze()
    yield
    gc.unfreeze()


def looked_at(thing: object) -> bool:
    return any(one is thing for one in gc.get_objects())


def made() -> Compiled:
    playbook = Playbook(1, decode({"name": "one", "groups": {}}, Document), {})
    return playbook.derived("test", lambda _: Compiled())


@pytest.mark.usefixtures("settled")
def test_what_is_compiled_from_a_playbook_is_never_looked_at_again() -> None:
    assert not looked_at(made())
    another = Compiled()
    assert looked_at(another)


def test_a_process_that_has_not_settled_keeps_nothing_for_good() -> None:
    assert gc.get_freeze_count() == 0
    assert looked_at(made())
