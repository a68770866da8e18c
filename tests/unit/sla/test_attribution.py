"""Whose time it was."""

from __future__ import annotations

from services.sla.domain import facts as f
from services.sla.domain.attribution import Kind, attribute, split
from tests.unit.sla.world import at, minutes, opened

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
