"""Classification: given, rule, model, default; the priority follows its labels; lanes, weights and notes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from services.control.evaluate.classify import evaluate
from services.router.classifying import opening_facts
from services.router.domain.answers import Prediction
from services.router.domain.classify import Classified, Classifier
from services.router.domain.labels import Source, priority_of
from services.router.errors import PlaybookUnsound
from shared.contracts.events import TicketOpened, TicketSet
from shared.playbook.routing import IMPACT_URGENCY, ModelUse, Routing
from shared.playbook.ticketfacts import facts_of
from shared.playbook.types import decode
from shared.ticket import projection

OPENED = datetime(2026, 3, 4, 22, 30, tzinfo=UTC)  # Thursday 06:30 in Shanghai


def routing(*sets: dict[str, Any], **more: Any) -> Routing:
    return decode(
        {
            "taxonomy": {
                "dimensions": {
                    "business_type": {"values": ["network", "email", "hr"]},
                    "impact": {"values": [1, 2, 3], "default": 3},
                    "urgency": {"values": [1, 2, 3], "default": 2, "given_wins": False},
                }
            },
            "groups": {name: {"members": []} for name in ("net", "mail", "triage")},
            "zone": "Asia/Shanghai",
            "rules": list(sets),
            **more,
        },
        Routing,
    )


def rule_set(*rules: dict[str, Any], matches: str = "all", name: str = "s") -> dict[str, Any]:
    return {"name": name, "matches": matches, "rules": [*rules, {"name": "rest", "default": True}]}


def rule(name: str, when: dict[str, Any], **then: Any) -> dict[str, Any]:
    return {"name": name, "when": when, "then": then}


OUTAGE = rule("outage", {"text": {"contains": ["停机", "outage"]}}, labels={"impact": 1, "business_type": "network"})
TO_NET = rule("net", {"labels.business_type": "network"}, group="net", skills={"linux": 2}, preferred={"zh": 1})
BASIC = routing(rule_set(OUTAGE, TO_NET))


def classified(section: Routing, ticket: dict[str, Any], predict: Any = None) -> Classified:
    classifier = Classifier(section)
    return classifier.classify(classifier.facts(ticket, OPENED), predict)


def shown(decided: Classified) -> dict[str, tuple[str, str]]:
    labels = {name: (label.value, label.source.value) for name, label in decided.labels.items()}
    return labels | {
        "priority": (decided.priority.value, decided.priority.source.value),
        "group": (decided.group.value, decided.group.source.value),
    }


CASES: list[tuple[dict[str, Any], dict[str, tuple[str, str]]]] = [
    (
        {"subject": "全线停机"},
        {
            "business_type": ("network", "rule"),
            "impact": ("1", "rule"),
            "urgency": ("2", "default"),
            "priority": ("2", "matrix"),
            "group": ("net", "rule"),
        },
    ),
    (
        {"subject": "outage", "labels": {"impact": 3, "urgency": 1}},
        {
            "business_type": ("network", "rule"),
            "impact": ("3", "given"),
            "urgency": ("1", "given"),
            "priority": ("3", "matrix"),
            "group": ("net", "rule"),
        },
    ),
    (
        {"subject": "hello"},
        {
            "impact": ("3", "default"),
            "urgency": ("2", "default"),
            "priority": ("4", "matrix"),
            "group": ("triage", "default"),
        },
    ),
    (
        {"subject": "hello", "priority": 1, "group": "mail"},
        {
            "impact": ("3", "default"),
            "urgency": ("2", "default"),
            "priority": ("1", "given"),
            "group": ("mail", "given"),
        },
    ),
]


@pytest.mark.parametrize(("ticket", "expected"), CASES)
def test_labels_say_where_they_came_from(ticket: dict[str, Any], expected: dict[str, tuple[str, str]]) -> None:
    assert shown(classified(BASIC, ticket)) == expected


@pytest.mark.parametrize(
    ("impact", "urgency", "priority"),
    [("1", "1", "1"), ("1", "2", "2"), ("2", "1", "2"), ("2", "2", "3"), ("3", "1", "3"), ("2", "3", "4"),
     ("3", "2", "4"), ("3", "3", "4"), ("1", None, None), (None, "1", None)],
)  # fmt: skip
def test_the_usual_matrix(impact: str | None, urgency: str | None, priority: str | None) -> None:
    assert priority_of(IMPACT_URGENCY, impact, urgency) == priority


def test_what_was_given_gives_way_where_the_playbook_says_so() -> None:
    section = routing(
        rule_set(
            rule("urgency", {"subject": {"contains": "x"}}, labels={"urgency": 3}),  # given_wins is off
            rule("impact", {"subject": {"contains": "x"}}, labels={"impact": 1}, override=True),
            rule("kept", {"subject": {"contains": "x"}}, labels={"business_type": "hr"}),
        )
    )
    given = {"impact": "2", "urgency": "1", "business_type": "email"}
    decided = classified(section, {"subject": "x", "labels": given})
    assert {name: label.value for name, label in decided.labels.items()} == {
        "business_type": "email",
        "impact": "1",
        "urgency": "3",
    }


def test_a_given_value_outside_the_taxonomy_counts_as_not_given_and_is_noted() -> None:
    decided = classified(BASIC, {"subject": "outage", "labels": {"impact": "9"}, "priority": "huge", "group": "gone"})
    assert decided.labels["impact"].source is Source.RULE
    assert decided.priority.source is Source.MATRIX
    assert decided.group.value == "net"
    assert [note.split(" is ")[0] for note in decided.notes] == [
        "given impact '9'",
        "given priority 'huge'",
        "given group 'gone'",
    ]


def test_a_rule_that_sets_the_priority_ends_the_matrix() -> None:
    section = routing(
        rule_set(rule("vip", {"requester.tier": "vip"}, priority=1)),
        rule_set(rule("later", {"priority": 1}, labels={"impact": 2}, group="net"), name="t"),
    )
    decided = classified(section, {"subject": "x", "requester": {"tier": "vip"}})
    assert (decided.priority.value, decided.priority.rule, decided.group.value) == ("1", "s/vip", "net")


def test_a_rule_may_ask_for_the_priority_that_earlier_labels_made() -> None:
    section = routing(
        rule_set(OUTAGE, rule("big", {"priority": ["1", "2"]}, group="net")),
    )
    assert classified(section, {"subject": "outage"}).group.rule == "s/big"


def test_demands_are_gathered_and_the_decision_keeps_the_facts_each_rule_read() -> None:
    decided = classified(BASIC, {"subject": "outage"})
    assert (decided.skills, decided.preferred) == ((("linux", 2),), (("zh", 1),))
    assert [(one.rule, one.inputs) for one in decided.acted] == [
        ("outage", {"text": "outage"}),
        ("net", {"labels.business_type": "network"}),
    ]


LANES = {
    "urgent": {"when": {"subject": {"contains": "urgent"}}, "priorities": [1]},
    "bulk": {"when": {"source": "import"}},
}


@pytest.mark.parametrize(
    ("ticket", "intake", "later"),
    [
        ({"subject": "URGENT"}, "urgent", "normal"),
        ({"subject": "x", "source": "import"}, "bulk", "bulk"),
        ({"subject": "x", "source": "import", "priority": "1"}, "bulk", "urgent"),
        ({"subject": "x"}, "normal", "normal"),
        ({"subject": "x", "labels": {"impact": 1, "urgency": 1}}, "normal", "urgent"),
    ],
)
def test_the_lane_comes_from_conditions_at_intake_and_from_the_priority_later(
    ticket: dict[str, Any], intake: str, later: str
) -> None:
    classifier = Classifier(routing(lanes=LANES))
    facts = classifier.facts(ticket, OPENED)
    assert (classifier.lane_at_intake(facts), classifier.classify(facts).lane) == (intake, later)


def test_time_facts_are_those_of_the_playbooks_zone() -> None:
    section = routing(rule_set(rule("early", {"time.hour": {"lt": 7}, "time.weekday": "thu"}, group="net")))
    assert classified(section, {"subject": "x"}).group.value == "net"


def test_the_weight_is_the_rules_then_the_first_work_rule_then_the_default() -> None:
    work = {"default": 1, "rules": [{"when": {"priority": "1"}, "weight": 2.5}]}
    section = routing(rule_set(rule("heavy", {"source": "x"}, weight=4)), work=work)
    weights = [classified(section, ticket).weight for ticket in ({"source": "x"}, {"priority": "1"}, {})]
    assert weights == [400, 250, 100]


ASK = rule("ask", {"subject": {"exists": True}}, model={"name": "m", "label": "business_type"})
ROUTED = routing(rule_set(ASK), rule_set(TO_NET, name="route"))


def answers(prediction: Prediction | None) -> Any:
    def predict(use: ModelUse, text: str) -> Prediction | None:
        assert (use.name, text) == ("m", "cannot log in")
        return prediction

    return predict


def test_a_model_labels_and_later_rules_see_it() -> None:
    decided = classified(ROUTED, {"subject": "cannot log in"}, answers(Prediction("network", 0.93)))
    label = decided.labels["business_type"]
    assert (label.value, label.source, label.rule, label.confidence) == ("network", Source.MODEL, "m", 0.93)
    assert decided.group.value == "net"


def test_a_model_that_abstains_sends_the_ticket_to_triage_with_its_best_guesses() -> None:
    guesses = (("network", 0.4), ("email", 0.3), ("hr", 0.2), ("other", 0.1))
    decided = classified(ROUTED, {"subject": "cannot log in"}, answers(Prediction(None, 0.4, guesses)))
    assert (decided.group.value, decided.group.source) == ("triage", Source.MODEL)
    assert decided.guesses == guesses[:3]


def test_a_model_is_not_asked_for_what_was_given_and_its_absence_is_noted() -> None:
    given = {"subject": "cannot log in", "labels": {"business_type": "hr"}}
    assert classified(ROUTED, given, answers(Prediction("network", 1.0))).labels["business_type"].value == "hr"
    assert classified(ROUTED, {"subject": "cannot log in"}).notes == ("model m is not published",)


def test_a_loop_of_rules_is_noted_and_the_ticket_still_routed() -> None:
    section = routing(
        rule_set(
            rule("up", {"labels.impact": "3"}, labels={"impact": 1}, group="net"),
            rule("down", {"labels.impact": "1"}, labels={"impact": 3}),
        )
    )
    decided = classified(section, {"subject": "x"})
    assert decided.group.value == "net"
    assert "loop up → down → up" in decided.notes[0]


@pytest.mark.parametrize(
    ("sets", "path"),
    [
        ([rule_set(rule("a", {"labels.impakt": 1}))], "rules[0].rules[0].when.labels.impakt"),
        ([rule_set(), {"name": "t", "rules": []}], "rules[1]"),
        ([{"name": "t", "rules": [{"name": "blank"}]}], "rules[0].rules[0].when"),
    ],
)
def test_an_unsound_section_is_refused_with_its_path(sets: list[dict[str, Any]], path: str) -> None:
    with pytest.raises(PlaybookUnsound) as caught:
        Classifier(routing(*sets))
    assert caught.value.path == path


def test_eval_classify_answers_in_the_shape_of_the_contract() -> None:
    answer = evaluate({"id": 7, "ticket": {"subject": "outage"}, "expected": {"queue": None}}, BASIC)
    assert list(answer) == ["id", "ticket", "expected"]
    expected = answer["expected"]
    assert expected["labels"]["impact"] == {"value": "1", "from": "rule", "rule": "s/outage"}
    assert (expected["priority"], expected["queue"]) == ("2", "net")


def test_a_rule_that_writes_what_it_reads_is_explained_by_what_it_read() -> None:
    calm = rule("calm", {"labels.urgency": 1}, labels={"urgency": 3})
    loud = rule("loud", {"labels.impact": 3}, labels={"urgency": 1})
    for matches, first in (("first", {"labels.urgency": "1"}), ("all", {"labels.urgency": "1"})):
        raised = rule_set(loud, name="raise")
        decided = classified(routing(raised, rule_set(calm, matches=matches)), {"subject": "x"})
        assert decided.labels["urgency"].value == "3"
        assert [one.inputs for one in decided.acted if one.rule == "calm"] == [first]


@pytest.mark.parametrize(
    "posted",
    [
        {},
        {"body": "of floor 3", "kind": "outage", "external_id": "4711", "dedup_key": "d"},
        {"requester": {"id": "u1", "email": "Ann@Clinic.EXAMPLE", "tier": "gold", "automated": True}},
        {"requester": {"email": ""}, "labels": {"impact": "1", "urgency": "2"}, "fields": {"site": "west", "floors": [1, 2]}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("with_text", [True, False])
def test_the_facts_of_an_opening_are_those_of_what_was_posted(posted: dict[str, Any], with_text: bool) -> None:
    ticket = {"subject": "no network", "body": "", "source": "web", "requester": {}} | posted
    opened = msgspec.convert(ticket, TicketOpened)
    found = opening_facts(opened, projection.opened(1, opened, OPENED, 1), with_text=with_text)
    expected = facts_of(ticket, with_text=with_text)
    assert {name: value for name, value in found.items() if name in expected} == expected
    assert {value for name, value in found.items() if name not in expected} <= {None, False}


def test_what_people_set_since_is_among_the_facts_of_an_opening() -> None:
    opened = TicketOpened(subject="no network", labels={"impact": "3"}, fields={"site": "west"})
    ticket = projection.opened(1, opened, OPENED, 1)
    ticket = projection.evolve(
        ticket, TicketSet(labels={"impact": "1"}, fields={"site": "east"}, priority="2"), OPENED, 2
    )
    found = opening_facts(opened, ticket, with_text=False)
    assert (found["labels.impact"], found["fields.site"], found["priority"]) == ("1", "east", "2")
