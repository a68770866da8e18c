"""Rule sets: the index answers as a scan would, chains end, what is never reached is found."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.playbook.conditions import parse
from shared.playbook.facts import BOOL, LIST, NUMBER, TEXT, Schema, choice
from shared.playbook.rulecheck import check
from shared.playbook.rulecost import Prices, positions
from shared.playbook.ruleindex import RuleIndex
from shared.playbook.ruleset import Mode, Rule, RuleSet

VALUES = ["a", "b", "c"]
SCHEMA = Schema(
    {
        "x": choice(VALUES),
        "y": choice(VALUES, always=True),
        "free": TEXT,
        "subject": TEXT,
        "n": NUMBER,
        "tags": LIST,
        "auto": BOOL,
    },
    ("enrich.",),
)
WORDS = ["ab", "b", "停机", "Error", "ｅｒ"]

_leaf: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries({"x": st.one_of(st.sampled_from(VALUES), st.lists(st.sampled_from(VALUES), min_size=1))}),
    st.fixed_dictionaries({"y": st.sampled_from(VALUES)}),
    st.fixed_dictionaries({"x": st.fixed_dictionaries({"not": st.sampled_from(VALUES)})}),
    st.fixed_dictionaries({"free": st.sampled_from(["p", "q"])}),
    st.fixed_dictionaries({"tags": st.sampled_from(["t", "u"])}),
    st.fixed_dictionaries({"auto": st.booleans()}),
    st.fixed_dictionaries({"enrich.k": st.sampled_from(["p", 3, 2.5])}),
    st.fixed_dictionaries({"subject": st.fixed_dictionaries({"contains": st.sampled_from(WORDS)})}),
    st.fixed_dictionaries(
        {"subject": st.fixed_dictionaries({"contains": st.lists(st.sampled_from(WORDS), min_size=1)})}
    ),
    st.fixed_dictionaries({"subject": st.fixed_dictionaries({"matches": st.sampled_from(["a.b", "(?i)er+", "机$"])})}),
    st.fixed_dictionaries({"n": st.fixed_dictionaries({"gte": st.integers(-5, 5)})}),
    st.fixed_dictionaries({"not": st.fixed_dictionaries({"n": st.fixed_dictionaries({"lt": st.integers(-5, 5)})})}),
    st.integers(-5, 5).flatmap(lambda low: st.just({"n": {"not": {"gte": low, "lte": low + 3}}})),
    st.integers(-5, 5).flatmap(lambda low: st.just({"n": {"not": {"gt": low, "lte": low + 3}}})),
    st.fixed_dictionaries({"free": st.fixed_dictionaries({"not": st.lists(st.sampled_from(["p", "q"]), min_size=1)})}),
    st.integers(-5, 5).flatmap(lambda low: st.just({"n": {"gt": low, "lt": low + 3}})),
    st.fixed_dictionaries({"subject": st.fixed_dictionaries({"exists": st.booleans()})}),
)
_condition = st.recursive(
    _leaf,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=6,
)
_facts = st.fixed_dictionaries(
    {},
    optional={
        "x": st.sampled_from([*VALUES, None]),
        "y": st.sampled_from(VALUES),
        "free": st.sampled_from(["p", "q", "r", ["p"]]),
        "tags": st.lists(st.sampled_from(["t", "u", "v"])),
        "auto": st.booleans(),
        "enrich.k": st.sampled_from(["p", 3, 2.5, ["p"]]),
        "subject": st.text(alphabet="ab停机erERｅ ", max_size=12),
        "n": st.one_of(st.integers(-7, 7), st.floats(allow_nan=True), st.just("3")),
    },
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_condition, min_size=1, max_size=60), st.lists(_facts, min_size=1, max_size=5))
def test_the_index_answers_as_a_linear_scan(written: list[dict[str, Any]], tickets: list[dict[str, Any]]) -> None:
    conditions = [parse(one, SCHEMA) for one in written]
    index, tests = RuleIndex(conditions), [condition.compile() for condition in conditions]
    for facts in tickets:
        reference = [place for place, test in enumerate(tests) if test(facts)]
        assert list(index.matching(facts)) == reference
        assert index.first(facts) == (reference[0] if reference else -1)
        assert list(positions(index.holding(facts))) == reference


_plain = st.one_of(
    st.fixed_dictionaries({"x": st.one_of(st.sampled_from(VALUES), st.lists(st.sampled_from(VALUES), min_size=1))}),
    st.fixed_dictionaries({"y": st.sampled_from(VALUES)}),
    st.fixed_dictionaries({"free": st.sampled_from(["p", "q"])}),
    st.fixed_dictionaries({"tags": st.sampled_from(["t", "u"])}),
    st.fixed_dictionaries({"auto": st.booleans()}),
    st.integers(-5, 5).flatmap(lambda low: st.just({"n": {"gt": low, "lt": low + 3}})),
)
_ways = st.lists(
    st.one_of(
        _plain,
        st.fixed_dictionaries({"all": st.lists(st.one_of(_plain, _leaf), min_size=1, max_size=3)}),
        st.fixed_dictionaries({"any": st.lists(_plain, min_size=1, max_size=2)}),
    ),
    min_size=1,
    max_size=3,
)
_nested = st.one_of(
    st.fixed_dictionaries({"any": _ways}),
    st.fixed_dictionaries(
        {"all": st.lists(st.one_of(_leaf, st.fixed_dictionaries({"any": _ways})), min_size=1, max_size=3)}
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(_nested, min_size=1, max_size=40), st.lists(_facts, min_size=1, max_size=5))
def test_conditions_with_alternatives_are_answered_as_by_a_scan(
    written: list[dict[str, Any]], tickets: list[dict[str, Any]]
) -> None:
    conditions = [parse(one, SCHEMA) for one in written]
    index, tests = RuleIndex(conditions), [condition.compile() for condition in conditions]
    for facts in tickets:
        reference = [place for place, test in enumerate(tests) if test(facts)]
        assert list(index.matching(facts)) == reference
        assert index.first(facts) == (reference[0] if reference else -1)
        assert sum(index.cleared(facts).values()) == len(conditions) - len(reference)


def test_of_many_conditions_with_alternatives_few_are_left_to_be_asked() -> None:
    schema = Schema({"product": TEXT, "region": TEXT, "n": NUMBER, "tags": LIST})
    written: list[dict[str, Any]] = []
    for i in range(400):
        a, b = {"product": f"p{i}"}, {"product": f"p{i + 1}"}
        written += [
            {"any": [a, b], "region": "eu"},
            {"any": [a | {"region": "eu"}, b | {"region": "us"}]},
            {"all": [{"any": [a, {"tags": f"t{i}"}]}, {"n": {"gte": 0}}]},
            {"any": [a, {"n": {"gte": 10 * i, "lt": 10 * i + 10}}]},
        ]
    index = RuleIndex([parse(one, schema) for one in written])
    facts = {"product": "p7", "region": "eu", "n": 55, "tags": ["t3", "t4"]}
    assert index.candidates(facts).bit_count() <= 30  # a segment of the ranges holds seven of them


def test_ranges_and_their_negations_hold_at_their_bounds_as_they_say() -> None:
    ranges: list[dict[str, Any]] = [{op: low} for op in ("gt", "gte", "lt", "lte") for low in range(-2, 3)]
    ranges += [
        {above: low, below: high}
        for above in ("gt", "gte")
        for below in ("lt", "lte")
        for low, high in product(range(-2, 3), repeat=2)
        if low < high
    ]
    conditions = [parse({"n": one}, SCHEMA) for one in (*ranges, *({"not": one} for one in ranges))]
    index, tests = RuleIndex(conditions), [condition.compile() for condition in conditions]
    for value in (None, True, "1", float("nan"), *(half / 2 for half in range(-7, 8))):
        assert list(index.matching({"n": value})) == [place for place, test in enumerate(tests) if test({"n": value})]


@settings(max_examples=150, deadline=None)
@given(st.lists(_condition, min_size=1, max_size=8), _facts)
def test_in_a_long_text_it_does_too(written: list[dict[str, Any]], facts: dict[str, Any]) -> None:
    conditions = [parse(one, SCHEMA) for one in written]
    long = facts | {"subject": facts["subject"] + "-" * 3_000 + facts["subject"]} if "subject" in facts else facts
    reference = [place for place, condition in enumerate(conditions) if condition.compile()(long)]
    index = RuleIndex(conditions)
    assert [list(index.matching(one)) for one in (long, dict(long))] == [reference, reference]


@given(st.lists(st.integers(0, 3_000), max_size=400))
def test_the_positions_of_a_bitmap_are_its_bits(places: list[int]) -> None:
    bits = sum(1 << place for place in set(places))
    assert list(positions(bits)) == sorted(set(places))


@given(st.lists(st.integers(0, 200), max_size=40), st.integers(0), st.integers(0, 9_000))
def test_a_look_is_priced_at_no_less_than_it_costs_and_its_dearest_are_found(
    costs: list[int], within: int, excess: int
) -> None:
    prices, bits = Prices(costs), within & ((1 << len(costs)) - 1)
    real = sum(cost for place, cost in enumerate(costs) if bits >> place & 1)
    assert real <= prices.of(bits) <= 2 * real
    dearest = prices.dearest(bits, excess)
    assert dearest & ~bits == 0
    assert prices.of(dearest) >= min(excess, prices.of(bits))
    cheapest = min(positions(dearest), key=costs.__getitem__, default=-1)
    assert cheapest < 0 or prices.of(dearest & ~(1 << cheapest)) < excess
    left = [cost for place, cost in enumerate(costs) if (bits & ~dearest) >> place & 1]
    assert all(2 * costs[place] > max(left, default=0) for place in positions(dearest))


def test_many_words_over_many_rules_are_found_in_one_pass() -> None:
    conditions = [parse({"subject": {"contains": f"word{i}"}}, SCHEMA) for i in range(500)]
    assert list(RuleIndex(conditions).matching({"subject": "a WORD17 and word3"})) == [1, 3, 17]


def rule(name: str, when: dict[str, Any] | None, **writes: Any) -> Rule:
    return Rule(name, None if when is None else parse(when, SCHEMA), writes)


def test_the_first_rule_that_holds_acts_alone() -> None:
    rules = RuleSet(
        "s", Mode.FIRST, [rule("d", None, x="c"), rule("one", {"n": {"gt": 1}}, x="a"), rule("two", {"n": {"gt": 0}})]
    )
    facts: dict[str, Any] = {"n": 2}
    assert [acted.name for acted in rules.run(facts).acted] == ["one"]
    assert facts["x"] == "a"
    assert [acted.name for acted in rules.run({"n": 0}).acted] == ["d"]


def test_a_rule_sees_what_earlier_and_later_rules_wrote_and_acts_once() -> None:
    rules = RuleSet(
        "s",
        Mode.ALL,
        [
            rule("third", {"y": "b"}, free="q"),
            rule("second", {"x": "b"}, y="b"),
            rule("first", {"x": "a"}, x="b"),
            rule("d", None),
        ],
    )
    facts: dict[str, Any] = {"x": "a"}
    run = rules.run(facts)
    assert [acted.name for acted in run.acted] == ["first", "second", "third"]
    assert facts == {"x": "b", "y": "b", "free": "q"}
    assert run.passes == 3
    assert not run.loop


def test_the_default_acts_only_when_nothing_else_did() -> None:
    rules = RuleSet("s", Mode.ALL, [rule("a", {"x": "a"}), rule("d", None, y="c")])
    facts: dict[str, Any] = {"x": "b"}
    assert [acted.name for acted in rules.run(facts).acted] == ["d"]
    assert facts["y"] == "c"
    assert [acted.name for acted in rules.run({"x": "a"}).acted] == ["a"]


def test_rules_that_set_each_other_off_are_reported_and_act_once() -> None:
    rules = RuleSet("s", Mode.ALL, [rule("up", {"x": "a"}, x="b"), rule("down", {"x": "b"}, x="a"), rule("d", None)])
    run = rules.run({"x": "a"})
    assert [acted.name for acted in run.acted] == ["up", "down"]
    assert run.loop == ("up", "down", "up")
    assert [(found.rule, "for ever: up → down → up" in found.reason) for found in check(rules, SCHEMA)] == [
        ("up", True)
    ]


def test_a_later_rule_that_overrides_an_earlier_one_is_no_loop() -> None:
    rules = RuleSet("s", Mode.ALL, [rule("a", {"x": "a"}, y="a"), rule("b", {"n": {"gt": 0}}, y="b"), rule("d", None)])
    assert rules.run({"x": "a", "n": 1}).loop == ()
    assert check(rules, SCHEMA) == []


def test_a_chain_that_needs_more_than_ten_passes_is_cut_and_says_so() -> None:
    steps = [rule(f"s{i}", {"free": f"v{i}"}, free=f"v{i + 1}") for i in reversed(range(15))]
    run = RuleSet("s", Mode.ALL, [*steps, rule("d", None)]).run({"free": "v0"})
    assert (run.passes, run.exhausted, len(run.acted)) == (10, True, 10)


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ([rule("a", {"x": "a"})], "exactly one default rule, it has 0"),
        ([rule("a", None), rule("b", None)], "exactly one default rule, it has 2"),
        ([rule("a", {"x": "a"}), rule("a", {"x": "b"}), rule("d", None)], "two rules called 'a'"),
    ],
)
def test_a_set_without_exactly_one_default_or_with_a_name_twice_is_refused(rules: list[Rule], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RuleSet("s", Mode.FIRST, rules)


UNREACHABLE: list[tuple[list[dict[str, Any]], list[tuple[int, str]]]] = [
    ([{"x": ["a", "b"]}, {"x": "a", "n": {"gt": 1}}], [(1, "covered by 'r0'")]),
    ([{"x": "a"}, {"x": ["a", "b"]}], []),
    ([{"subject": {"contains": "k"}}, {"subject": {"contains": "k"}, "x": "a"}], [(1, "covered by 'r0'")]),
    ([{"subject": {"contains": "k"}, "x": "a"}, {"subject": {"contains": "k"}}], []),
    ([{"y": "a"}, {"y": ["b", "c"]}, {"n": {"gt": 3}}], [(2, "covered by 'r0', 'r1'")]),
    ([{"x": "a"}, {"x": ["b", "c"]}, {"n": {"gt": 3}}], []),  # x may be absent
    ([{"x": "a"}, {"x": ["b", "c"]}, {"x": {"not": "a"}, "y": "a"}], []),
    ([{"auto": True}, {"auto": {"not": True}}, {"y": "a"}], [(2, "covered by 'r0', 'r1'")]),
    ([{"x": "a", "all": [{"x": "b"}]}], [(0, "nothing is left for x")]),
    ([{"n": {"gt": 5}, "all": [{"n": {"lt": 5}}]}], [(0, "exclude each other")]),
    ([{"free": "p", "all": [{"free": "q"}]}], [(0, "exclude each other")]),
]


@pytest.mark.parametrize(("written", "expected"), UNREACHABLE)
def test_a_rule_that_can_never_act_is_found(written: list[dict[str, Any]], expected: list[tuple[int, str]]) -> None:
    rules = RuleSet("s", Mode.FIRST, [*(rule(f"r{i}", one) for i, one in enumerate(written)), rule("d", None)])
    found = check(rules, SCHEMA)
    assert [problem.path for problem in found] == [f"rules[{place}].when" for place, _ in expected]
    assert all(reason in problem.reason for problem, (_, reason) in zip(found, expected, strict=True))


_enumerated = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "x": st.one_of(st.lists(st.sampled_from(VALUES), min_size=1), st.fixed_dictionaries({"not": st.just("a")})),
            "y": st.lists(st.sampled_from(VALUES), min_size=1),
            "auto": st.booleans(),
        },
    ).filter(bool),
    min_size=2,
    max_size=8,
)


@settings(max_examples=200, deadline=None)
@given(_enumerated)
def test_over_enumerated_fields_exactly_the_rules_that_never_act_are_found(written: list[dict[str, Any]]) -> None:
    rules = RuleSet("s", Mode.FIRST, [*(rule(f"r{i}", one) for i, one in enumerate(written)), rule("d", None)])
    cases = product([*VALUES, None], VALUES, [True, False, None])
    acting = {rules.first({"x": x, "y": y, "auto": auto}).name for x, y, auto in cases}
    assert {problem.rule for problem in check(rules, SCHEMA)} == {f"r{i}" for i in range(len(written))} - acting


def test_a_verdict_names_the_condition_that_cleared_a_rule_and_what_it_read() -> None:
    rules = RuleSet("s", Mode.FIRST, [rule("a", {"x": "a", "subject": {"contains": "b"}}), rule("d", None)])
    verdict = rules.verdict("a", {"x": "a", "subject": "zzz"})
    assert verdict.cleared_by == "subject contains 'b'"
    assert [dict(asked.facts) for asked in verdict.asked] == [{"x": "a"}, {"subject": "zzz"}]
    assert rules.cleared({"x": "b"}) == {"x": 1}
    assert rules.cleared({"x": "a", "subject": "zzz"}) == {"text and combined conditions": 1}
