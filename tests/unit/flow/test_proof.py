"""The corpus of broken and sound flows: every broken one is refused for its reason, no sound one is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.ticket.flow.findings import Code
from shared.ticket.flow.model import read
from shared.ticket.flow.proof import prove
from tests.support.flows import condition, flow_data

HERE = Path(__file__).parent
SOUND: list[dict[str, Any]] = yaml.safe_load((HERE / "sound.yaml").read_text("utf-8"))
BROKEN: list[dict[str, Any]] = yaml.safe_load((HERE / "broken.yaml").read_text("utf-8"))


def _flow(case: dict[str, Any]) -> dict[str, Any]:
    more = {name: value for name, value in case.items() if name in ("needs", "start")}
    data = flow_data(case["nodes"], **more)
    if case.get("bare"):
        del data["responsible"]
    return data


@pytest.mark.parametrize("case", SOUND, ids=[case["why"] for case in SOUND])
def test_a_sound_flow_is_not_refused(case: dict[str, Any]) -> None:
    assert [str(finding) for finding in prove(read(_flow(case)), condition, lists=case.get("lists", ()))] == []


@pytest.mark.parametrize("case", BROKEN, ids=[case["why"] for case in BROKEN])
def test_a_broken_flow_is_refused_for_its_reason(case: dict[str, Any]) -> None:
    assert Code(case["code"]) in {finding.code for finding in prove(read(_flow(case)), condition)}


@pytest.mark.parametrize("case", BROKEN, ids=[case["why"] for case in BROKEN])
def test_a_finding_says_where_it_is_and_how_to_get_there(case: dict[str, Any]) -> None:
    found = prove(read(_flow(case)), condition)
    assert all(finding.path and finding.message for finding in found)
    shown = [f for f in found if f.code not in (Code.BAD_SHAPE, Code.UNKNOWN_NODE, Code.UNREACHABLE)]
    assert all(f.counterexample or "nodes[" in f.path for f in shown)


def test_the_corpus_has_every_kind_of_fault() -> None:
    assert {Code(case["code"]) for case in BROKEN} == set(Code)


def test_the_corpus_is_large_enough_to_mean_something() -> None:
    assert len(SOUND) >= 25
    assert len(BROKEN) >= 25
