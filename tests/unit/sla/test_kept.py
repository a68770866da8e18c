"""How clocks are written: rows of before stay readable, what is written stays as it is, and nothing of a state is lost."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from services.sla.domain.clock import Clock, State, Warning, WarningState
from services.sla.domain.kept import from_json, to_json
from services.sla.domain.ticket import Desk, OpenNode, Place, SlaState
from services.sla.domain.track import Phase, Span
from tests.unit.sla.world import at


class Sample(msgspec.Struct):
    """A state in both forms, as written when the short one came in; never written anew."""

    name: str
    before: msgspec.Raw
    kept: msgspec.Raw

    @property
    def state(self) -> SlaState:
        return msgspec.json.decode(self.before, type=SlaState)


SAMPLES = [
    msgspec.json.decode(line, type=Sample) for line in Path(__file__).with_name("kept.ndjson").read_bytes().splitlines()
]
USUAL = next(one for one in SAMPLES if one.name == "classified and assigned in one breath").state
NOON = at("12:00")
OF_A_CLOCK: dict[str, Any] = {
    "metric": "node:x", "cycle": 3, "started_at": NOON, "counts_from": NOON, "spans": (Span(NOON, 7, "other", None),),
    "calendar": None, "state": State.BREACHED, "target": None, "due_at": None, "armed_at": NOON, "cause": "resumed",
    "generation": 4, "warnings": (Warning("1h", NOON, WarningState.SENT),), "warned_at": (NOON,), "breached_at": NOON,
    "breach_cause": "time", "stopped_at": NOON, "stop_cause": "closed", "paused": True, "continued": True,
    "anchors": {"p/": NOON}, "elapsed": timedelta(1, 2, 3), "paused_time": timedelta(microseconds=1), "as_of": NOON,
}  # fmt: skip
OF_A_TICKET: dict[str, Any] = {
    "version": 9, "at": NOON, "attributes": {"priority": 4}, "ready": False, "policy": None, "priority": None,
    "opening": False, "answered": True, "waiting_since": NOON, "replied_at": NOON, "group": None, "group_since": None,
    "nodes": {"a": OpenNode(NOON, 2)}, "merged": True, "clocks": (), "desk": Desk("new"), "person": None,
    "places": (Place(NOON, "closed"),), "phases": (Phase(USUAL.created_at, "new"), Phase(NOON, USUAL.status)),
}  # fmt: skip
TOLD_BY_PHASES = {"created_at", "status"}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda one: one.name)
def test_a_row_of_before_is_read_and_written_short_the_next_time(sample: Sample) -> None:
    assert from_json(bytes(sample.before)) == sample.state
    assert from_json(bytes(sample.before).decode()) == sample.state
    assert to_json(sample.state) == bytes(sample.kept)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda one: one.name)
def test_a_short_row_is_read_as_the_same_clocks(sample: Sample) -> None:
    assert from_json(bytes(sample.kept)) == from_json(bytes(sample.kept).decode()) == sample.state


def test_nothing_of_a_clock_is_lost_however_unusual() -> None:
    assert set(OF_A_CLOCK) == set(Clock.__struct_fields__)
    for name, value in OF_A_CLOCK.items():
        first, *others = USUAL.clocks
        assert getattr(first, name) != value
        state = replace(USUAL, clocks=(replace(first, **{name: value}), *others))
        assert from_json(to_json(state)) == state, name


def test_nothing_of_a_ticket_is_lost_however_unusual() -> None:
    assert set(OF_A_TICKET) | TOLD_BY_PHASES == set(SlaState.__struct_fields__)
    for name, value in OF_A_TICKET.items():
        assert getattr(USUAL, name) != value
        state = replace(USUAL, **{name: value})
        assert from_json(to_json(state)) == state, name


def test_what_is_kept_of_a_new_ticket_with_three_clocks_is_a_kilobyte() -> None:
    three = replace(USUAL, clocks=USUAL.clocks[:3])
    assert len(to_json(three)) < 1_100
