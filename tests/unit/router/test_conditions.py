"""Conditions: what they mean, and what is refused before it can do harm."""

from __future__ import annotations

from typing import Any

import pytest

from shared.playbook.conditions import Condition, ConditionError, parse
from shared.playbook.facts import BOOL, LIST, NUMBER, TEXT, Field, Kind, Schema, choice

SCHEMA = Schema(
    {
        "priority": choice("1234"),
        "labels.business_type": choice(["network", "email", "hr"]),
        "subject": TEXT,
        "body": TEXT,
        "fields.amount": NUMBER,
        "fields.day": Field(Kind.DATE),
        "tags": LIST,
        "requester.automated": BOOL,
        "time.hour": NUMBER,
        "time.weekday": choice(["mon", "tue", "wed", "thu", "fri", "sat", "sun"], always=True),
    },
    ("enrich.",),
)

MEANINGS: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({"priority": "1"}, {"priority": "1"}, True),
    ({"priority": 1}, {"priority": "1"}, True),
    ({"priority": "1"}, {"priority": "2"}, False),
    ({"priority": "1"}, {}, False),
    ({"priority": [1, 2]}, {"priority": "2"}, True),
    ({"priority": {"not": 1}}, {}, True),
    ({"priority": {"not": [1, 2]}}, {"priority": "2"}, False),
    ({"priority": 1, "subject": {"contains": "vip"}}, {"priority": "1", "subject": "For a VIP"}, True),
    ({"priority": 1, "subject": {"contains": "vip"}}, {"priority": "2", "subject": "For a VIP"}, False),
    ({"subject": {"contains": "停机"}}, {"subject": "三号线全线停机,请速派人"}, True),
    ({"subject": {"contains": "停机"}}, {"subject": "三号线停了一会儿机"}, False),
    ({"subject": {"contains": ["退款", "refund"]}}, {"subject": "REFUND please"}, True),
    ({"subject": {"contains": "ERP登录"}}, {"subject": "无法使用ｅｒｐ登录"}, True),
    ({"subject": {"contains": "straße"}}, {"subject": "STRASSE gesperrt"}, True),
    ({"subject": {"contains": "x"}}, {}, False),
    ({"subject": {"matches": "(?i)error [0-9]{3}"}}, {"subject": "an Error 503 again"}, True),
    ({"subject": {"matches": "^[A-Z]{2}-[0-9]+$"}}, {"subject": "see AB-12"}, False),
    ({"subject": {"matches": "^$"}}, {"subject": ""}, True),
    ({"fields.amount": {"gte": 100, "lt": 5000}}, {"fields.amount": 100}, True),
    ({"fields.amount": {"gte": 100, "lt": 5000}}, {"fields.amount": 5000}, False),
    ({"fields.amount": {"gt": 100}}, {"fields.amount": 100}, False),
    ({"fields.amount": {"lte": 100}}, {"fields.amount": float("nan")}, False),
    ({"fields.amount": {"lte": 100}}, {"fields.amount": "12"}, False),
    ({"fields.amount": {"lte": 100}}, {}, False),
    ({"fields.day": {"gte": "2026-02-01"}}, {"fields.day": "2026-11-24"}, True),
    ({"tags": "vip"}, {"tags": ["vip", "eu"]}, True),
    ({"tags": ["a", "b"]}, {"tags": ["vip", "eu"]}, False),
    ({"tags": {"contains": "eu"}}, {"tags": ("vip", "eu")}, True),
    ({"tags": "vip"}, {}, False),
    ({"requester.automated": True}, {"requester.automated": True}, True),
    ({"requester.automated": {"not": True}}, {}, True),
    ({"subject": {"exists": True}}, {"subject": ""}, False),
    ({"subject": {"exists": False}}, {"subject": None}, True),
    ({"any": [{"priority": 1}, {"tags": "vip"}]}, {"tags": ["vip"]}, True),
    ({"any": [{"priority": 1}, {"tags": "vip"}]}, {"priority": "2"}, False),
    ({"all": [{"priority": 1}, {"not": {"tags": "vip"}}]}, {"priority": "1"}, True),
    ({"not": {"priority": 1, "tags": "vip"}}, {"priority": "1"}, True),
    ({"time.hour": {"gte": 18}, "time.weekday": ["sat", "sun"]}, {"time.hour": 20, "time.weekday": "sat"}, True),
    ({"enrich.mes.status": "down"}, {"enrich.mes.status": "down"}, True),
    ({"enrich.crm.score": {"gt": 7}}, {"enrich.crm.score": 9}, True),
    ({"enrich.crm.tier": "gold"}, {"enrich.crm.tier": ["gold"]}, False),
    ({"enrich.crm.tier": ["gold", "blue"]}, {"enrich.crm.tier": ["gold"]}, False),
]


@pytest.mark.parametrize(("written", "facts", "holds"), MEANINGS)
def test_a_condition_means_what_it_says(written: dict[str, Any], facts: dict[str, Any], holds: bool) -> None:
    assert parse(written, SCHEMA).compile()(facts) is holds


REFUSED: list[tuple[Any, str, str]] = [
    ({}, "when", "blank condition"),
    (None, "when", "mapping"),
    ([{"priority": 1}], "when", "mapping"),
    ({"any": []}, "when.any", "at least one"),
    ({"any": [{"priority": 1}, {}]}, "when.any[1]", "blank condition"),
    ({"prioritty": 1}, "when.prioritty", "did you mean 'priority'"),
    ({"priority": 7}, "when.priority", "can never be '7'"),
    ({"labels.business_type": "netwrok"}, "when.labels.business_type", "did you mean 'network'"),
    ({"priority": [1, 9]}, "when.priority[1]", "can never be '9'"),
    ({"priority": []}, "when.priority", "blank list"),
    ({"priority": None}, "when.priority", "blank value"),
    ({"priority": {}}, "when.priority", "blank comparison"),
    ({"priority": {"gt": 1}}, "when.priority", "only numbers and dates"),
    ({"subject": {"like": "x"}}, "when.subject.like", "unknown comparison"),
    ({"subject": {"contains": " "}}, "when.subject.contains", "not blank"),
    ({"subject": {"contains": []}}, "when.subject.contains", "list of 1"),
    ({"subject": {"matches": ".*"}}, "when.subject.matches", "fits every text"),
    ({"subject": {"matches": "(a"}}, "when.subject.matches", "RE2 refuses"),
    ({"subject": {"matches": r"(a)\1"}}, "when.subject.matches", "RE2 refuses"),
    ({"subject": {"matches": "((a{100}){100}){100}"}}, "when.subject.matches", "RE2 refuses"),
    ({"subject": {"matches": "a" * 1001}}, "when.subject.matches", "1,000 characters"),
    ({"subject": {"exists": "yes"}}, "when.subject.exists", "true or false"),
    ({"fields.amount": "x"}, "when.fields.amount", "is a number"),
    ({"fields.amount": True}, "when.fields.amount", "cannot be compared with True"),
    ({"fields.amount": {"gt": 5, "lt": 5}}, "when.fields.amount", "empty"),
    ({"fields.amount": {"gte": 6, "lte": 5}}, "when.fields.amount", "empty"),
    ({"fields.amount": {"gt": 1, "gte": 5}}, "when.fields.amount", "both"),
    ({"fields.amount": {"gt": float("inf")}}, "when.fields.amount.gt", "is a number"),
    ({"fields.amount": {"contains": "5"}}, "when.fields.amount.contains", "only text contains"),
    ({"fields.day": {"gt": "tomorrow"}}, "when.fields.day.gt", "YYYY-MM-DD"),
    ({"requester.automated": "yes"}, "when.requester.automated", "true or false"),
    ({"subject": True}, "when.subject", "in quotes"),
    ({"not": {"subject": {"not": {}}}}, "when.not.subject.not", "blank comparison"),
    ({3: 4}, "when.3", "field name is text"),
]


@pytest.mark.parametrize(("written", "path", "reason"), REFUSED)
def test_what_cannot_be_meant_is_refused_with_its_path(written: Any, path: str, reason: str) -> None:
    with pytest.raises(ConditionError) as caught:
        parse(written, SCHEMA)
    assert caught.value.path == path
    assert reason in caught.value.reason


def test_ten_thousand_nested_conditions_are_refused_without_recursion_to_the_bottom() -> None:
    written: dict[str, Any] = {"priority": 1}
    for _ in range(10_000):
        written = {"not": written}
    with pytest.raises(ConditionError, match="32 levels"):
        parse(written, SCHEMA)


def test_a_condition_of_more_than_a_thousand_parts_is_refused() -> None:
    with pytest.raises(ConditionError, match="1,000 parts"):
        parse({"any": [{"priority": 1}] * 1_001}, SCHEMA)


def test_a_pattern_that_ruins_backtracking_engines_takes_linear_time() -> None:
    test = parse({"subject": {"matches": "^(a+)+$"}}, SCHEMA).compile()
    assert test({"subject": "a" * 50_000 + "b"}) is False


def test_a_condition_names_the_facts_it_reads() -> None:
    condition = parse({"priority": 1, "any": [{"tags": "x"}, {"not": {"subject": {"contains": "y"}}}]}, SCHEMA)
    assert condition.fields() == {"priority", "tags", "subject"}


def test_conditions_that_are_written_alike_are_equal() -> None:
    def read(written: dict[str, Any]) -> Condition:
        return parse(written, SCHEMA)

    assert read({"priority": [1, 2]}) == read({"priority": ["2", "1"]})
    assert read({"all": [{"priority": 1}]}) == read({"priority": 1})


def test_a_fact_cannot_be_called_like_a_combining_word() -> None:
    with pytest.raises(ValueError, match="combines conditions"):
        Schema({"any": TEXT})
