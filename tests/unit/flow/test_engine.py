"""What a single step answers: material, refusals, owners, timers, jumps; the rest is in the vectors and the random flows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from shared.ticket.flow import engine
from shared.ticket.flow.material import missing
from shared.ticket.flow.model import Need, Responsible, read, span, written
from shared.ticket.flow.state import FlowState, Joined, Reason, Visit
from tests.support.flows import flow_data, program_of

END = {"name": "z", "kind": "end"}
PAR: list[dict[str, Any]] = [
    {"name": "f", "kind": "fork", "next": ["a", "b", "c"]},
    *({"name": name, "on_reject": "vote", "next": "j"} for name in "abc"),
    {"name": "j", "kind": "join", "need": 2, "next": [{"to": "d", "when": {"votes.against": 1}}, "z"]},
    {"name": "d", "next": "z"},
    END,
]


def _at(nodes: list[dict[str, Any]], *steps: str) -> tuple[engine.Program, FlowState]:
    program = program_of(nodes)
    state = engine.start(program).state
    for name in steps:
        state = engine.complete(program, state, name).state
    return program, state


@pytest.mark.parametrize(
    ("need", "material", "there"),
    [
        ({"check": "x"}, {"x": True}, True),
        ({"check": "x"}, {"x": False}, False),
        ({"check": "x"}, {"x": "yes"}, False),
        ({"check": "x"}, {"x": {"done": True, "by": "u1"}}, True),
        ({"check": "x"}, ["x"], True),
        ({"check": "x"}, None, False),
        ({"attachment": "x"}, ["x"], True),
        ({"attachment": "x"}, {"x": "id-1"}, True),
        ({"attachment": "x"}, {"x": " "}, False),
        ({"attachment": "x"}, {"x": []}, False),
        ({"attachment": "x"}, {"x": 0}, False),
        ({"attachment": "x", "count": 2}, {"x": ["i1"]}, False),
        ({"attachment": "x", "count": 2}, {"x": ["i1", "i2"]}, True),
        ({"attachment": "x", "types": ["image/*"]}, {"x": [{"id": "i", "type": "text/plain"}]}, False),
        ({"attachment": "x", "types": ["image/*"]}, {"x": [{"id": "i", "type": "image/png"}]}, True),
        ({"attachment": "x", "types": ["application/pdf"]}, {"x": {"id": "i", "type": "application/pdf"}}, True),
        ({"field": "x"}, ["x"], False),
    ],
)
def test_material_is_there_or_missing(need: dict[str, Any], material: Any, there: bool) -> None:
    found = missing([(msgspec.convert(need, Need), None)], {}, material)
    assert found == (() if there else ("x",))


@pytest.mark.parametrize(
    ("value", "there"), [("S1", True), ("", False), (" ", False), (None, False), ([], False), (0, True), (False, True)]
)
def test_a_blank_field_is_missing_and_a_false_one_is_not(value: Any, there: bool) -> None:
    found = missing([(Need(field="x"), None)], {"fields.x": value}, None)
    assert found == (() if there else ("x",))


def test_a_list_of_what_is_lacking_can_be_had_before_completing() -> None:
    nodes = [{"name": "a", "outcomes": ["x", "y"], "needs": [{"field": "n"}, {"check": "c"}], "next": "z"}, END]
    program, state = _at(nodes)
    assert engine.lacking(program, state.open[0], {"fields.n": 1}) == ("c", "outcome")


def test_a_refused_step_changes_nothing() -> None:
    program, state = _at([{"name": "a", "needs": [{"check": "c"}], "next": "z"}, END])
    result = engine.complete(program, state, "a", by="u1")
    assert result.state is state
    assert result.refused is not None
    assert result.refused.reason is Reason.MATERIAL_MISSING


def test_what_began_was_completed_and_was_cancelled_is_told() -> None:
    program, state = _at(PAR, "a")
    result = engine.complete(program, state, "b")
    assert result.completed == (Visit("b", 1),)
    assert result.cancelled == (Visit("c", 1),)
    assert result.joined == (Joined("j", 1, "passed", in_favour=2, against=0, pending=1),)
    assert result.state.done


def test_transitions_of_a_join_see_how_the_votes_went() -> None:
    program, state = _at(PAR, "a")
    state = engine.complete(program, state, "b", outcome="rejected").state
    assert [token.node for token in engine.complete(program, state, "c").state.open] == ["d"]


def test_who_completed_a_node_last_is_remembered_for_those_after() -> None:
    nodes = [{"name": "a", "next": "b"}, {"name": "b", "responsible": {"same_as": "a"}, "next": "z"}, END]
    program, state = _at(nodes)
    state = engine.complete(program, state, "a", by="u7").state
    owner = program.flow.responsible_for(program.nodes["b"])
    assert owner == Responsible(same_as="a")
    assert state.completed_by["a"] == "u7"


def test_the_outcome_of_the_case_is_that_of_the_end_it_came_to() -> None:
    nodes = [
        {"name": "a", "outcomes": ["x", "y"], "next": [{"to": "n", "when": {"outcome": "x"}}, "z"]},
        {"name": "n", "kind": "end", "outcome": "refused"},
        END,
    ]
    program, state = _at(nodes)
    assert engine.complete(program, state, "a", outcome="x").state.outcome == "refused"
    assert engine.complete(program, state, "a", outcome="y").state.outcome == "completed"


def test_the_end_of_what_goes_on_beside_does_not_change_the_outcome() -> None:
    nodes = [
        {"name": "a", "timers": [{"after": "1h", "interrupts": False, "to": "t"}], "next": "n"},
        {"name": "t", "next": "z"},
        {"name": "n", "kind": "end", "outcome": "resumed"},
        END,
    ]
    program, state = _at(nodes)
    state = engine.expire(program, state, "a", 0).state
    state = engine.complete(program, state, "a").state
    assert (state.done, state.main and state.main.node) == (False, "t")
    assert engine.complete(program, state, "t").state.outcome == "resumed"


def test_an_interrupting_timer_cancels_the_visit_and_a_second_time_finds_it_closed() -> None:
    program, state = _at(
        [{"name": "a", "timers": [{"after": 60, "to": "b"}], "next": "z"}, {"name": "b", "next": "z"}, END]
    )
    result = engine.expire(program, state, "a", 0, visit=1)
    assert (result.cancelled, result.entered) == ((Visit("a", 1),), (Visit("b", 1),))
    again = engine.expire(program, result.state, "a", 0, visit=1).refused
    assert again is not None
    assert again.reason is Reason.NOT_OPEN


@pytest.mark.parametrize("timer", [-1, 1, 99])
def test_an_unknown_timer_is_refused(timer: int) -> None:
    program, state = _at(
        [{"name": "a", "timers": [{"after": 60, "to": "b"}], "next": "z"}, {"name": "b", "next": "z"}, END]
    )
    refused = engine.expire(program, state, "a", timer).refused
    assert refused is not None
    assert refused.reason is Reason.UNKNOWN_TIMER


def test_a_waiver_twice_is_the_same_as_once_and_is_kept_with_the_visit() -> None:
    program, state = _at([{"name": "a", "needs": [{"check": "c"}], "next": "z"}, END])
    once = engine.waive(program, state, "a", "c").state
    assert engine.waive(program, once, "a", "c").state == once
    assert once.open[0].waived == ("c",)
    assert engine.complete(program, once, "a").state.done


def test_only_what_is_needed_can_be_waived() -> None:
    program, state = _at([{"name": "a", "next": "z"}, END])
    refused = engine.waive(program, state, "a", "photo").refused
    assert refused is not None
    assert refused.reason is Reason.NOT_NEEDED


def test_a_step_that_would_run_for_ever_is_refused_and_not_taken() -> None:
    nodes = [
        {"name": "a", "next": "d"},
        {"name": "d", "kind": "decision", "next": [{"to": "z", "when": {"priority": "urgent"}}, "e"]},
        {"name": "e", "kind": "decision", "next": "d"},
        END,
    ]
    program, state = _at(nodes)
    result = engine.complete(program, state, "a")
    assert result.refused is not None
    assert (result.refused.reason, result.state) == (Reason.ENDLESS, state)


def test_a_transition_may_leave_a_fork_in_the_very_step_that_enters_it() -> None:
    nodes = [
        {"name": "f", "kind": "fork", "next": ["d", "b"]},
        {
            "name": "d",
            "kind": "decision",
            "next": [{"to": "n", "when": {"priority": "low"}, "siblings": "cancel"}, "j"],
        },
        {"name": "b", "next": "j"},
        {"name": "j", "kind": "join", "next": "z"},
        {"name": "n", "next": "z"},
        END,
    ]
    state = engine.start(program_of(nodes), {"priority": "low"}).state
    assert [token.node for token in state.open] == ["n"]


def test_the_main_path_is_the_least_forked_and_then_the_first_branch() -> None:
    _, state = _at(PAR)
    assert state.main is not None
    assert state.main.node == "a"
    assert _at(PAR, "a", "b")[1].main is None


def test_a_declared_jump_brings_its_own_treatment_of_siblings() -> None:
    nodes = [
        {**node, **({"jumps": [{"to": "d", "siblings": "cancel"}]} if node["name"] == "a" else {})} for node in PAR
    ]
    program, state = _at(nodes)
    result = engine.jump(program, state, "a", "d")
    assert [token.node for token in result.state.open] == ["d"]
    assert {visit.node for visit in result.cancelled} == {"a", "b", "c"}


@pytest.mark.parametrize("to", ["j", "nowhere"])
def test_nobody_jumps_to_a_join_or_to_nowhere(to: str) -> None:
    program, state = _at(PAR)
    refused = engine.jump(program, state, "a", to, free=True).refused
    assert refused is not None
    assert refused.reason is Reason.UNSAFE_JUMP


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("1h30m", 5400), ("2d", 172_800), (90, 90), (1.5, 1.5), ("1.5h", 5400)]
)
def test_durations_are_read_as_people_write_them(text: Any, seconds: float) -> None:
    assert span(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["soon", "", "-1h", "2h later", -1, 1e11, True])
def test_what_is_no_duration_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="duration"):
        span(text)


def test_a_flow_written_out_and_read_again_is_the_same_flow() -> None:
    flow = read(flow_data(PAR))
    assert read(written(flow)) == flow


def test_an_unknown_member_is_refused_with_its_place() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"colour.*nodes\[0\]"):
        read(flow_data([{"name": "a", "colour": "red"}]))
