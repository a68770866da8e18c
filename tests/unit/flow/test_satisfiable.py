"""Whether conditions can hold together: never called impossible when some facts fulfil them, and the plain contradictions found."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shared.playbook.conditions import ConditionError
from shared.ticket.flow.satisfiable import Known, possible
from tests.support.flows import condition

_FACTS: dict[str, list[Any]] = {
    "p": [None, "a", "b", "other"],
    "n": [None, 0, 1, 1.5, 2, 3, 4],
    "f": [None, True, False],
}
_ASSIGNMENTS = [dict(zip(_FACTS, values, strict=True)) for values in product(*_FACTS.values())]

_comparison = st.one_of(
    st.sampled_from(["a", "b"]).map(lambda v: {"p": v}),
    st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=2).map(lambda v: {"p": v}),
    st.sampled_from(["a", "b"]).map(lambda v: {"p": {"not": v}}),
    st.sampled_from(["p", "n", "f"]).flatmap(lambda name: st.booleans().map(lambda v: {name: {"exists": v}})),
    st.booleans().map(lambda v: {"f": v}),
    st.tuples(st.sampled_from(["gt", "gte", "lt", "lte"]), st.integers(0, 4)).map(lambda v: {"n": {v[0]: v[1]}}),
    st.tuples(st.integers(0, 2), st.integers(2, 4)).map(lambda v: {"n": {"gte": v[0], "lte": v[1]}}),
    st.sampled_from(["a", "x"]).map(lambda v: {"p": {"contains": v}}),
    st.integers(0, 4).map(lambda v: {"n": v}),
)
_conditions = st.recursive(
    _comparison,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda v: {"all": v}),
        st.lists(inner, min_size=1, max_size=3).map(lambda v: {"any": v}),
        inner.map(lambda v: {"not": v}),
    ),
    max_leaves=6,
)


def _compiled(written: list[dict[str, Any]]) -> list[Any] | None:
    try:
        return [condition(one) for one in written]
    except ConditionError:
        return None


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(_conditions, st.booleans()), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_what_some_facts_fulfil_is_never_called_impossible(
    wanted: list[tuple[dict[str, Any], bool]], chance: random.Random
) -> None:
    tests = _compiled([one for one, _ in wanted])
    if tests is None:
        return
    for facts in chance.sample(_ASSIGNMENTS, 30):
        if all(test(facts) == holds for test, (_, holds) in zip(tests, wanted, strict=True)):
            assert possible(wanted, Known({}))
            assert possible(wanted, Known({"p": facts["p"]}))
            assert possible(wanted, Known({}, present={name for name, value in facts.items() if value is not None}))


@settings(max_examples=200, deadline=None)
@given(_conditions)
def test_a_condition_and_its_contrary_are_impossible_where_nothing_is_in_doubt(written: dict[str, Any]) -> None:
    assume("contains" not in str(written) and len(str(written)) <= 60)
    assert not possible([(written, True), (written, False)], Known({}))


@pytest.mark.parametrize(
    "wanted",
    [
        [({"p": "a"}, True), ({"p": "b"}, True)],
        [({"p": ["a", "b"]}, True), ({"p": "a"}, False), ({"p": "b"}, False)],
        [({"n": {"gt": 1}}, True), ({"n": {"lte": 1}}, True)],
        [({"n": {"gt": 1, "lt": 2}}, True), ({"n": {"gte": 1.2}}, False), ({"n": {"lt": 1.2}}, False)],
        [({"p": {"exists": False}}, True), ({"p": "a"}, True)],
        [({"any": [{"p": "a"}, {"p": "b"}]}, True), ({"p": {"not": "a"}}, True), ({"not": {"p": "b"}}, True)],
        [({"d": {"gte": "2026-01-01"}}, True), ({"d": {"lt": "2026-01-01"}}, True)],
    ],
)
def test_plain_contradictions_are_found(wanted: list[tuple[dict[str, Any], bool]]) -> None:
    assert not possible(wanted, Known({}))


@pytest.mark.parametrize(
    ("wanted", "present"),
    [
        ([({"n": {"gt": 1}}, False), ({"n": {"lte": 1}}, False)], {"n"}),
        ([({"f": True}, False), ({"f": False}, False)], {"f"}),
    ],
)
def test_what_covers_every_case_does_so_only_where_the_fact_is_there(
    wanted: list[tuple[dict[str, Any], bool]], present: set[str]
) -> None:
    assert not possible(wanted, Known({}, present))
    assert possible(wanted, Known({}))


def test_several_values_of_a_list_hold_at_once() -> None:
    both = [({"tags": "a"}, True), ({"tags": "b"}, True)]
    assert possible(both, Known({}, lists={"tags"}))
    assert not possible(both, Known({}))


def test_more_cases_than_can_be_looked_at_count_as_possible() -> None:
    many = {"all": [{"any": [{"p": "a"}, {"p": "b"}]} for _ in range(12)]}
    assert possible([(many, True), ({"p": "c"}, True)], Known({}))
