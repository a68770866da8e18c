"""Rule sets that somebody wrote to harm, or without thinking: refused when they are checked, or bounded when they run."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.control import publish
from services.router.domain.classify import Classified, Classifier
from shared.playbook.routing import Routing
from shared.playbook.source import BadPlaybook, read_document
from shared.playbook.types import decode

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
BODY = "lorem ipsum dolor sit amet consectetur " * 2_500
"""100,000 characters, the longest body that is taken in."""


def sections(rules: list[dict[str, Any]], matches: str = "all") -> dict[str, Any]:
    default = {"name": "else", "default": True, "then": {"group": "desk"}}
    return {
        "groups": {"desk": {"members": []}, "triage": {"members": []}},
        "rules": [{"name": "r", "matches": matches, "rules": [*rules, default]}],
    }


def refused(rules: list[dict[str, Any]], matches: str = "all") -> str:
    with pytest.raises(BadPlaybook) as found:
        publish.check(read_document(sections(rules, matches)), range(2025, 2028))
    return str(found.value)


def classifier(rules: list[dict[str, Any]]) -> Classifier:
    return Classifier(decode(sections(rules), Routing))


def classified(made: Classifier, body: str = BODY, **members: Any) -> tuple[Classified, float]:
    """The decision, and the CPU seconds it took."""
    began = time.process_time()
    found = made.classify(made.facts({"subject": "x", "body": body, **members}, NOON))
    return found, time.process_time() - began


def test_ten_thousand_nested_conditions_are_refused(tmp_path: Path) -> None:
    when: dict[str, Any] = {"subject": {"contains": "x"}}
    for _ in range(10_000):
        when = {"not": when}
    assert "nested deeper than 32 levels" in refused([{"name": "deep", "when": when, "then": {"priority": 1}}])
    text = (
        "rules: [{name: r, rules: [{name: deep, when: " + "{not: " * 10_000 + "{subject: x}" + "}" * 10_000 + "}]}]\n"
    )
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(BadPlaybook, match=r"rules\.yaml:1: .*nested"):
        publish.load(str(tmp_path), range(2025, 2028))


def test_a_condition_of_ten_thousand_parts_is_refused() -> None:
    when = {"any": [{"subject": {"contains": f"w{n}"}} for n in range(10_000)]}
    assert "more than 1,000 parts" in refused([{"name": "wide", "when": when, "then": {"priority": 1}}])


@pytest.mark.parametrize(
    "pattern", [r"(a+)+\1", r"(?<=a)b", "(a{1000}){1000}", "(" * 400 + "a" + ")" * 400 + "{1000}{1000}"]
)
def test_a_pattern_that_only_a_backtracking_engine_runs_is_refused(pattern: str) -> None:
    assert "RE2 refuses" in refused([{"name": "p", "when": {"text": {"matches": pattern}}, "then": {"priority": 1}}])


def test_a_pattern_that_is_catastrophic_elsewhere_is_linear_here() -> None:
    made = classifier([{"name": "p", "when": {"text": {"matches": "(a+)+$"}}, "then": {"priority": 1}}])
    found, seconds = classified(made, "a" * 99_999 + "!")
    assert seconds < 0.5
    assert found.priority.value == "4"


def test_rules_that_set_each_other_off_are_refused() -> None:
    rules = [
        {"name": "up", "when": {"labels.impact": "1"}, "then": {"labels": {"impact": 2}}},
        {"name": "down", "when": {"labels.impact": "2"}, "then": {"labels": {"impact": 1}}},
    ]
    assert "set each other off for ever: up → down → up" in refused(rules)


def test_rules_that_set_each_other_off_in_a_way_no_proof_finds_run_once_each_and_are_reported() -> None:
    made = classifier(
        [
            {"name": "up", "when": {"labels.impact": {"not": "2"}}, "then": {"labels": {"impact": 2}, "priority": 1}},
            {"name": "down", "when": {"priority": {"not": "4"}}, "then": {"labels": {"impact": 1}, "priority": 2}},
        ]
    )
    found, _ = classified(made, "short")
    assert [one.rule for one in found.acted] == ["up", "down"]
    assert any("loop" in note for note in found.notes)


def test_more_words_than_a_set_may_look_for_are_refused() -> None:
    words = [[f"w{n}x{m}" for m in range(9_000)] for n in range(23)]
    rules = [
        {"name": f"r{n}", "when": {"text": {"contains": some}}, "then": {"priority": 1}} for n, some in enumerate(words)
    ]
    assert "more than 200,000 words" in refused(rules)


@pytest.mark.parametrize("pattern", ["[ab]*a[ab]{200}c", "(a|b)*a(a|b){900}c", "[a-z]*q[a-z]{200}Z"])
def test_a_pattern_that_is_catastrophic_for_re2_is_refused(pattern: str) -> None:
    rules = [{"name": "p", "when": {"any": [{"text": {"matches": pattern}}, {"source": "x"}]}, "then": {"priority": 1}}]
    assert "takes too long on some texts" in refused(rules)


@pytest.mark.parametrize(
    "pattern",
    ["order.{0,80}cancel", r"INC-\d{6,8}", r"(?i)\b(refund|invoice)\b.{0,40}\d{12}", r"\p{L}{3,20} x", "=[a-f]{32}"],
)
def test_a_pattern_that_repeats_something_harmlessly_is_not_refused(pattern: str) -> None:
    rules = [{"name": "p", "when": {"text": {"matches": pattern}}, "then": {"priority": 1}}]
    publish.check(read_document(sections(rules)), range(2025, 2028))


AB = "".join(random.Random(5).choices("ab", k=100_000))
"""The worst text for what follows."""


def heavy(count: int) -> list[dict[str, Any]]:
    """Rules that RE2 cannot run as an automaton."""
    return [
        {
            "name": f"h{n}",
            "when": {"source": "evil", "text": {"matches": f"[ab]*a[ab]{{{100 + n}}}c"}},
            "then": {"priority": 1},
        }
        for n in range(count)
    ]


NET = {"name": "net", "when": {"text": {"contains": "lorem"}}, "then": {"labels": {"impact": 1}}}


def test_ninety_thousand_words_in_negations_are_found_in_one_pass() -> None:
    rules = [
        {
            "name": f"w{n}",
            "when": {"not": {"text": {"contains": [f"q{n}z{m}" for m in range(900)]}}},
            "then": {"effort": "5m"},
        }
        for n in range(100)
    ]
    made = classifier(rules)
    found, seconds = classified(made, BODY + "q42z7")
    assert {one.rule for one in found.acted} == {f"w{n}" for n in range(100)} - {"w42"}
    assert seconds < 0.1


def test_what_would_take_too_long_is_not_run_and_the_ticket_falls_to_triage() -> None:
    made = classifier(heavy(10))
    found, seconds = classified(made, AB, source="evil")
    assert found.group.value == "triage"
    assert found.stopped == "h0"
    assert "would take too long on this ticket: triage" in found.notes[-1]
    assert seconds < 0.01


def test_on_a_short_text_the_same_rules_are_run() -> None:
    found, _ = classified(classifier(heavy(1)), "a" * 120 + "c", source="evil")
    assert (found.stopped, found.priority.value) == (None, "1")


def test_its_neighbours_are_classified_as_before() -> None:
    made = classifier(
        [*heavy(10), {"name": "net", "when": {"text": {"contains": "wifi"}}, "then": {"priority": 2, "group": "desk"}}]
    )
    for _ in range(3):
        classified(made, AB, source="evil")
    found, _ = classified(made, "the wifi is down", source="web")
    assert (found.group.value, found.priority.value, found.stopped, found.notes) == ("desk", "2", None, found.notes[:6])


def test_rules_that_are_to_blame_three_times_are_quarantined_together_and_the_others_go_on() -> None:
    made = classifier([*heavy(10), NET])
    text = f"lorem {AB}"[:100_000]
    assert [classified(made, text, source="evil")[0].stopped for _ in range(4)] == ["h0", "h0", "h0", None]
    found, seconds = classified(made, text, source="evil")
    assert found.labels["impact"].value == "1"
    assert found.notes[0] == "rule r/h0 is quarantined: it took too long"
    assert found.notes[-1] == "5 more rules of r are quarantined: they took too long"
    assert seconds < 0.01


def test_a_pattern_that_burnt_the_budget_unforeseen_is_left_out_at_once() -> None:
    evil = {"source": "evil", "text": {"matches": "[ab]*a" + "[ab]" * 100 + "c"}}
    made = classifier([{"name": "evil", "when": evil, "then": {"priority": 1}}, NET])
    text = f"lorem {AB}"[:50_000]
    found = [classified(made, text, source="evil") for _ in range(3)]
    assert [one.stopped for one, _ in found] == [None, "evil", None]  # in the pass of all, by itself, not at all
    assert found[2][0].labels["impact"].value == "1"
    assert found[2][0].notes == ("rule r/evil is quarantined: it took too long",)
    assert found[2][1] < 0.01


def test_rules_that_wake_thousands_of_others_again_and_again_are_stopped() -> None:
    rules = [
        {
            "name": f"r{n}",
            "when": {"source": "evil", "any": [{"labels.impact": {"not": str(n % 3 + 1)}}, {"subject": f"s{n}"}]},
            "then": {"labels": {"impact": n % 2 + 1}},
        }
        for n in range(3_000)
    ]
    found, seconds = classified(classifier(rules), "short", source="evil")
    assert found.stopped is not None
    assert seconds < 0.1


def test_rules_that_an_index_tells_apart_wake_each_other_at_little_cost() -> None:
    rules = [
        {
            "name": f"r{n}",
            "when": {"source": "evil", "not": {"labels.impact": str(n % 3 + 1)}},
            "then": {"labels": {"impact": n % 2 + 1}},
        }
        for n in range(3_000)
    ]
    found, seconds = classified(classifier(rules), "short", source="evil")
    assert found.notes == ("rule set r: loop r0 → r1 → r0, each ran once",)
    assert seconds < 0.1


def test_four_thousand_rules_that_no_index_helps_with_are_asked() -> None:
    rules = [
        {
            "name": f"r{n}",
            "when": {"any": [{"subject": f"s{n}"}, {"not": {"source": "web"}}]},
            "then": {"effort": f"{n % 50 + 1}m"},
        }
        for n in range(4_000)
    ]
    made = classifier(rules)
    found = made.classify(made.facts({"subject": "s77", "body": "", "source": "web"}, NOON))
    assert ([one.rule for one in found.acted], found.stopped) == (["r77"], None)


def test_a_decision_stores_the_beginning_of_a_long_text() -> None:
    found, _ = classified(classifier([NET]))
    (acted,) = found.acted
    assert acted.inputs["text"].startswith("x\nlorem")
    assert acted.inputs["text"].endswith("… (97,502 characters)")
    assert len(acted.inputs["text"]) < 600


def test_what_hostile_tickets_cost_hardly_delays_their_neighbours() -> None:
    """CPU of a hundred ordinary tickets alone, and with one hostile ticket among every ten, under the same rules."""
    rules = [
        *heavy(60),
        *({"name": f"n{n}", "when": {"text": {"contains": f"word{n}"}}, "then": {"priority": 2}} for n in range(50)),
    ]

    def worst(hostile: bool) -> float:
        made = classifier(rules)
        waits, queue = [], 0.0
        for number in range(100):
            if hostile and number % 10 == 0:
                queue = classified(made, AB, source="evil")[1]
            waits.append(queue + classified(made, f"a ticket about word{number % 50}", source="web")[1])
            queue = 0.0
        return sorted(waits)[98]

    alone, beside = (min(worst(hostile) for _ in range(3)) for hostile in (False, True))
    assert beside <= alone * 1.2 + 0.002
