"""Whose time it was."""

from __future__ import annotations

from random import Random

import pytest

from services.sla.domain import facts as f
from services.sla.domain.attribution import Kind, attribute, slices_of, split
from services.sla.domain.decide import decide
from services.sla.domain.kept import from_json, to_json
from tests.unit.sla.world import at, library, minutes, opened

LIFE = [
    opened(at("09:00")),
    f.GroupChanged(at("09:10"), "level1"),
    f.PersonChanged(at("09:30"), "anna"),
    f.NodeEntered(at("09:30"), "inspect", 1),
    f.StatusChanged(at("10:00"), "pending"),
    f.StatusChanged(at("11:00"), "in_progress"),
    f.NodeEntered(at("11:10"), "order", 1),
    f.NodeCompleted(at("11:20"), "order", 1),
    f.GroupChanged(at("11:30"), "level2"),
    f.PersonChanged(at("11:40"), "ben"),
    f.StatusChanged(at("12:00"), "resolved"),
]


def test_a_life_is_split_by_team_person_node_queue_customer_and_closed_time() -> None:
    slices = attribute(LIFE, at("13:00"))
    assert split(slices, "kind") == {
        ("queue", None): minutes(10), ("queue", "level1"): minutes(20), ("person", None): minutes(80),
        ("customer", None): minutes(60), ("queue", "level2"): minutes(10), ("closed", None): minutes(60),
    }  # fmt: skip
    assert split(slices, "person") == {
        ("queue", None): minutes(10), ("queue", "level1"): minutes(20), ("person", "anna"): minutes(60),
        ("customer", None): minutes(60), ("queue", "level2"): minutes(10), ("person", "ben"): minutes(20),
        ("closed", None): minutes(60),
    }  # fmt: skip
    assert split(slices, "team")["team", "level1"] == minutes(80)
    assert split(slices, "node") == {
        ("node", None): minutes(30), ("node", "inspect"): minutes(80), ("node", "order"): minutes(10),
        ("customer", None): minutes(60), ("closed", None): minutes(60),
    }  # fmt: skip


def test_neighbours_of_one_bearer_are_one_slice_and_later_facts_are_left_out() -> None:
    slices = attribute(
        [opened(at("09:00")), f.StatusChanged(at("09:10"), "assigned"), f.Replied(at("09:20"))], at("09:15")
    )
    assert [(one.start, one.end, one.kind) for one in slices] == [(at("09:00"), at("09:15"), Kind.QUEUE)]


def test_nothing_has_no_slices() -> None:
    assert attribute([], at("09:00")) == ()


def test_what_is_kept_with_the_clocks_is_the_same_split_as_from_the_facts_alone() -> None:
    state = None
    for fact in LIFE:
        state = decide(state, [fact], fact.at, library({"targets": {"resolution": "9h"}})).state
    assert state is not None
    state = from_json(to_json(state))
    for until in (at("09:00"), at("09:20"), at("10:30"), at("11:40"), at("13:00")):
        assert slices_of(state.places, until) == attribute(LIFE, until)


@pytest.mark.parametrize("seed", range(5))
def test_kept_and_walked_splits_agree_on_random_lives_and_leave_no_remainder(seed: int) -> None:
    random = Random(seed)
    for _ in range(100):
        now, facts = at("08:00"), [opened(at("08:00"))]
        for _ in range(random.randrange(1, 25)):
            now += minutes(random.choice([0, 0, 3, 50]))
            node = random.choice(["a", "b"])
            facts.append(
                random.choice(
                    [
                        f.StatusChanged(now, random.choice(["new", "assigned", "pending:x", "resolved", "closed"])),
                        f.GroupChanged(now, random.choice(["one", "two"])),
                        f.PersonChanged(now, random.choice(["anna", None])),
                        f.NodeEntered(now, node, 1),
                        f.NodeCompleted(now, node, 1),
                    ]
                )
            )
        state = decide(None, facts, now, library({"targets": {"resolution": "9h"}})).state
        until = now + minutes(7)
        kept = slices_of(state.places, until)
        assert sum((one.end - one.start for one in kept), minutes(0)) == until - at("08:00")
        walked = attribute(facts, until)
        for view in ("kind", "team", "person", "node"):
            assert split(kept, view) == split(walked, view)  # type: ignore[arg-type]
