"""Addresses of outside systems and their answers as facts; what a playbook may ask for."""

from __future__ import annotations

from typing import Any

import pytest

from shared.playbook.enrichment import address, facts_of_answer, fault_of
from shared.playbook.routing import Routing
from shared.playbook.routingcheck import check
from shared.playbook.types import decode

MES = "http://mes.example:8443/devices/{fields.device}/status?of={subject}"


def test_facts_are_percent_encoded_into_the_address() -> None:
    facts = {"fields.device": "press/7 ü", "subject": "a&b=c#d"}
    assert address(MES, facts) == "http://mes.example:8443/devices/press%2F7%20%C3%BC/status?of=a%26b%3Dc%23d"


@pytest.mark.parametrize("device", [None, "", "  ", ".", "..", True, ["a"], "x" * 1_500])
def test_no_address_is_made_from_a_fact_that_is_missing_or_climbs(device: Any) -> None:
    assert address(MES, {"fields.device": device, "subject": "s"}) is None


@pytest.mark.parametrize(
    ("url", "allow", "fault"),
    [
        ("ftp://mes.example/x", ("mes.example",), "begins with http"),
        ("http://{fields.host}/x", ("mes.example",), "written out"),
        ("http://mes.{fields.host}.example/x", ("*.example",), "written out"),
        ("http://user:pw@mes.example/x", ("mes.example",), "no user name"),
        ("http://evil.example/x", ("mes.example",), "not in `allow`"),
        ("http://mes.example.evil/x", ("*.example",), "not in `allow`"),
        ("http://mes.example:81/x", ("mes.example:80",), "not in `allow`"),
        ("http://mes.example/{fields.device", ("mes.example",), "brace"),
        ("http://mes.example:99999/x", ("mes.example",), "port"),
    ],
)
def test_an_address_that_could_lead_elsewhere_is_refused(url: str, allow: tuple[str, ...], fault: str) -> None:
    found = fault_of(url, allow)
    assert found is not None
    assert fault in found


def test_hosts_are_allowed_by_name_by_name_and_port_and_by_suffix() -> None:
    assert [fault_of(MES, allow) for allow in (("mes.example",), ("mes.example:8443",), ("*.example",))] == [None] * 3


def test_an_answer_is_flattened_and_bounded() -> None:
    answer = {
        "status": "stopped", "line": {"id": 7, "deep": {"er": {"e": {"too": "deep"}}}}, "tags": ["a", 1], "mixed": [{}],
        "long": "x" * 1_001, "nothing": None, "ok": True, "number": float("inf"),
    }  # fmt: skip
    assert facts_of_answer(answer) == {"status": "stopped", "line.id": 7, "tags": ["a", 1], "ok": True}
    assert len(facts_of_answer({f"f{n}": n for n in range(500)})) == 200


@pytest.mark.parametrize("answer", [[], "text", 1, None])
def test_an_answer_that_is_no_object_is_no_answer(answer: Any) -> None:
    with pytest.raises(ValueError, match="no JSON object"):
        facts_of_answer(answer)


def problems(*, warnings: bool = False, **changes: Any) -> list[str]:
    sections: dict[str, Any] = {
        "groups": {"triage": {"members": []}},
        "fields": {"device": {"type": "text"}},
        "enrichments": {"mes": {"url": "http://mes.example/{fields.device}", "allow": ["mes.example"]}},
        "rules": [
            {
                "name": "r",
                "enrich": ["mes"],
                "rules": [
                    {"name": "down", "when": {"enrich.mes.status": "down"}, "then": {"priority": "1"}},
                    {"name": "else", "default": True},
                ],
            }
        ],
    }
    routing = decode(sections | changes, Routing)
    return [f"{one.path}: {one.reason}" for one in check(routing) if one.warning is warnings]


def test_a_playbook_that_asks_before_it_reads_is_sound() -> None:
    assert problems() == []


def test_a_rule_that_reads_an_answer_nobody_asked_for_is_found() -> None:
    rules = [
        {
            "name": "r",
            "rules": [
                {"name": "down", "when": {"enrich.mes.status": "down"}, "then": {"priority": "1"}},
                {"name": "else", "default": True},
            ],
        }
    ]
    assert problems(rules=rules) == [
        "rules[0].rules[0].when: reads enrich.mes.status, but the set does not ask 'mes' before (`enrich: [mes]`)"
    ]


def test_a_misspelt_answer_is_warned_of() -> None:
    def reading(fact: str) -> list[dict[str, Any]]:
        rule = {"name": "down", "when": {fact: "down"}, "then": {"priority": "1"}}
        return [{"name": "r", "enrich": ["mes"], "rules": [rule, {"name": "else", "default": True}]}]

    mes = {"url": "http://mes.example/x", "allow": ["mes.example"], "default": {"status": "unknown"}}
    assert problems(warnings=True, enrichments={"mes": mes}, rules=reading("enrich.mes.status")) == []
    assert problems(warnings=True, enrichments={"mes": mes}, rules=reading("enrich.mes.stats")) == [
        "rules[0].rules[0].when: reads enrich.mes.stats, which the default of mes does not have; did you mean 'status'?"
    ]
    assert problems(warnings=True, enrichments={"mes": mes | {"default": {}}}, rules=reading("enrich.mes.stats")) == []


def test_an_address_over_a_fact_that_does_not_exist_is_found() -> None:
    mes = {"url": "http://mes.example/{fields.devise}", "allow": ["mes.example"]}
    assert problems(enrichments={"mes": mes}) == [
        "enrichments.mes.url: unknown field 'fields.devise'; did you mean 'fields.device'?"
    ]


def test_a_time_out_that_would_hold_tickets_for_long_is_found() -> None:
    mes = {"url": "http://mes.example/x", "allow": ["mes.example"], "timeout": "2m"}
    assert problems(enrichments={"mes": mes})[0].startswith("enrichments.mes.timeout: ")
