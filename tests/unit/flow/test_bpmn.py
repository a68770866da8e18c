"""BPMN files as common modellers write them, what is refused in them, and that our own export can be read back."""

from __future__ import annotations

import contextlib
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.ticket.flow import bpmn_conditions, engine
from shared.ticket.flow.bpmn_export import export_bpmn
from shared.ticket.flow.bpmn_import import import_bpmn
from shared.ticket.flow.bpmn_read import BPMN, BpmnRefused, duration, iso
from shared.ticket.flow.model import Flow, Kind, read
from shared.ticket.flow.program import compile_flow
from shared.ticket.flow.proof import prove
from tests.support.flow_trees import TreeMaker, drawn
from tests.support.flows import condition, flow_data

HERE = Path(__file__).parent
FILES = sorted((HERE / "bpmn").glob("*.bpmn"))
SOUND: list[dict[str, Any]] = yaml.safe_load((HERE / "sound.yaml").read_text("utf-8"))
DI = "{http://www.omg.org/spec/BPMN/20100524/DI}"


def _file(name: str) -> Flow:
    return import_bpmn((HERE / "bpmn" / f"{name}.bpmn").read_bytes())


def _process(body: str, root: str = "") -> str:
    """A small file: start → a → body's own elements; `a` is a user task."""
    return (
        f'<definitions xmlns="{BPMN}" id="d" targetNamespace="t">{root}<process id="p"><startEvent id="s"/>'
        f'<sequenceFlow id="f1" sourceRef="s" targetRef="a"/><userTask id="a"/>{body}</process></definitions>'
    )


DONE = '<endEvent id="e"/><sequenceFlow id="f2" sourceRef="a" targetRef="e"/>'


def _refused(document: str) -> dict[str, str]:
    with pytest.raises(BpmnRefused) as caught:
        import_bpmn(document)
    return {one.element: one.reason for one in caught.value.refused}


def _normal(flow: Flow) -> list[Any]:
    """A flow with shorthand written out, for comparison."""
    plain = msgspec.to_builtins(flow)
    del plain["nodes"]
    nodes = [{**msgspec.to_builtins(node), "next": list(node.edges)} for node in flow.nodes]
    return [plain, nodes]


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_file_of_a_common_modeller_becomes_a_sound_flow(path: Path) -> None:
    assert prove(import_bpmn(path.read_bytes()), condition) == []


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_an_imported_flow_survives_export_and_import(path: Path) -> None:
    flow = import_bpmn(path.read_bytes())
    assert _normal(import_bpmn(export_bpmn(flow))) == _normal(flow)


def test_named_ways_out_of_a_gateway_are_the_outcomes_of_the_task_before_it() -> None:
    program = compile_flow(_file("bpmn_io"), condition)
    state = engine.start(program).state
    assert engine.complete(program, state, "Activity_triage").refused is not None
    skipped = engine.complete(program, state, "Activity_triage", outcome="software").state
    assert [token.node for token in skipped.open] == ["Activity_fix"]


def test_a_lane_is_the_role_of_what_lies_in_it() -> None:
    nodes = {node.name: node.responsible for node in _file("bpmn_io").nodes}
    assert {name: owner.role for name, owner in nodes.items() if owner} == {
        "Activity_triage": "First line",
        "Activity_check": "Technician",
        "Activity_fix": "Technician",
    }


def test_owners_forms_timers_and_conditions_of_camunda_are_read() -> None:
    nodes = {node.name: node for node in _file("camunda7").nodes}
    assert [need.field for need in nodes["report"].needs] == ["amount"]
    assert nodes["ask"].service == "mes-status"
    assert [(timer.after, timer.to, timer.interrupts) for timer in nodes["quality"].timers] == [(7200, "tell", False)]
    first, default = nodes["big"].edges
    assert first.when == {"all": [{"fields.amount": {"gt": 1000}}, {"priority": "urgent"}]}
    assert default.default


def test_an_inclusive_gateway_waits_for_the_branches_that_were_taken() -> None:
    program = compile_flow(_file("camunda8"), condition)
    state = engine.start(program).state
    state = engine.complete(program, state, "visit", {"fields.warranty": True}, fields={"parts_used": True}).state
    assert [token.node for token in state.open] == ["parts"]
    assert engine.complete(program, state, "parts").state.done


@pytest.mark.parametrize(
    "kind",
    [
        "task", "scriptTask", "manualTask", "sendTask", "receiveTask", "businessRuleTask", "callActivity", "subProcess",
        "adHocSubProcess", "transaction", "eventBasedGateway", "complexGateway", "intermediateCatchEvent",
        "intermediateThrowEvent", "dataObject", "dataObjectReference", "dataStoreReference", "choreographyTask",
    ],
)  # fmt: skip
def test_what_is_outside_the_profile_is_refused_by_its_id(kind: str) -> None:
    assert _refused(_process(f'{DONE}<{kind} id="odd"/>')) == {"odd": f"{kind} is not supported"}


@pytest.mark.parametrize(
    ("body", "element"),
    [
        ('<endEvent id="x"><errorEventDefinition/></endEvent>', "x"),
        ('<endEvent id="x"><messageEventDefinition/></endEvent>', "x"),
        ('<startEvent id="x"><timerEventDefinition/></startEvent>', "x"),
        ('<startEvent id="x"/>', "x"),
        ('<userTask id="x"><multiInstanceLoopCharacteristics/></userTask>', "x"),
        ('<userTask id="x"><standardLoopCharacteristics/></userTask>', "x"),
        ('<userTask id="x" isForCompensation="true"/>', "x"),
        ('<boundaryEvent id="x" attachedToRef="a"><errorEventDefinition/></boundaryEvent>', "x"),
        ('<boundaryEvent id="x" attachedToRef="a"><timerEventDefinition/></boundaryEvent>', "x"),
        ('<boundaryEvent id="x" attachedToRef="nobody"><timerEventDefinition/></boundaryEvent>', "x"),
        ('<sequenceFlow id="x" sourceRef="a" targetRef="nowhere"/>', "x"),
        ('<sequenceFlow id="x" sourceRef="e" targetRef="a"/>', "x"),
        ('<sequenceFlow id="x" sourceRef="a" targetRef="s"/>', "x"),
        ('<userTask id="a"/>', "a"),
        ('<userTask id="b"/><sequenceFlow id="x" sourceRef="a" targetRef="b"/>', "a"),
    ],
)
def test_parts_of_elements_outside_the_profile_are_refused_by_id(body: str, element: str) -> None:
    assert element in _refused(_process(DONE + body))


@pytest.mark.parametrize(
    ("when", "refused"),
    [
        ("${execution.getVariable('x') == 1}", True),
        ("${a + b > 3}", True),
        ("${a > b}", True),
        ("${}", True),
        ("${a", True),
        ("${a > 1}", False),
    ],
)
def test_a_condition_that_cannot_be_read_is_refused_by_the_flow_it_is_on(when: str, refused: bool) -> None:
    escaped = when.replace(">", "&gt;")
    body = (
        '<sequenceFlow id="f2" sourceRef="a" targetRef="g"/><exclusiveGateway id="g" default="f4"/><endEvent id="e"/>'
        f'<sequenceFlow id="f3" sourceRef="g" targetRef="e"><conditionExpression>{escaped}</conditionExpression>'
        '</sequenceFlow><sequenceFlow id="f4" sourceRef="g" targetRef="e"/>'
    )
    if refused:
        assert set(_refused(_process(body))) == {"f3"}
    else:
        assert import_bpmn(_process(body)).nodes[-2].kind is Kind.DECISION


def test_a_gateway_whose_ways_say_nothing_is_refused_by_each_of_them() -> None:
    ways = "".join(f'<sequenceFlow id="g{n}" sourceRef="g" targetRef="e"/>' for n in (1, 2))
    body = f'<sequenceFlow id="f2" sourceRef="a" targetRef="g"/><exclusiveGateway id="g"/><endEvent id="e"/>{ways}'
    assert set(_refused(_process(body))) == {"g1", "g2"}


def test_a_parallel_gateway_that_waits_for_two_alternatives_is_refused() -> None:
    links = [("a", "f"), ("f", "b"), ("f", "c"), ("b", "x"), ("x", "d"), ("x", "j"), ("d", "j"), ("c", "j"), ("j", "e")]
    flows = "".join(
        f'<sequenceFlow id="l{index}" sourceRef="{one}" targetRef="{other}" {"name=" + chr(34) + other + chr(34)}/>'
        for index, (one, other) in enumerate(links)
    )
    nodes = '<userTask id="b"/><userTask id="c"/><userTask id="d"/><endEvent id="e"/><exclusiveGateway id="x"/>'
    document = _process(f'<parallelGateway id="f"/><parallelGateway id="j"/>{nodes}{flows}')
    assert set(_refused(document)) == {"j"}
    inclusive = document.replace('<parallelGateway id="j"/>', '<inclusiveGateway id="j"/>')
    assert prove(import_bpmn(inclusive, responsible={"group": "g"}), condition) == []


def test_messages_between_pools_and_a_second_process_are_refused() -> None:
    root = '<collaboration id="c"><messageFlow id="m" sourceRef="a" targetRef="q"/></collaboration>'
    document = _process(DONE, root).replace(
        "</definitions>", '<process id="q"><userTask id="z"/></process></definitions>'
    )
    assert set(_refused(document)) == {"m", "q"}


@pytest.mark.parametrize(
    "document",
    [
        '<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><definitions>&b;</definitions>',
        '<!DOCTYPE d SYSTEM "file:///etc/passwd"><definitions/>',
        "not xml at all",
        "<definitions/>",
        "",
        f'<definitions xmlns="{BPMN}"/>',
        "<a>" * 100 + "</a>" * 100,
        f"<definitions>{'<a/>' * 20_001}</definitions>",
        "<definitions>" + " " * 2_000_001 + "</definitions>",
    ],
    ids=["entities", "external", "text", "other", "empty", "no process", "deep", "many", "large"],
)
def test_a_dangerous_or_foreign_file_is_refused_whole(document: str) -> None:
    assert set(_refused(document)) == {"file"}


@pytest.mark.parametrize("case", SOUND, ids=[case["why"] for case in SOUND])
def test_every_sound_flow_can_be_exported_and_read_back_without_loss(case: dict[str, Any]) -> None:
    flow = read(flow_data(case["nodes"], needs=case.get("needs", [])))
    assert _normal(import_bpmn(export_bpmn(flow))) == _normal(flow)


@settings(max_examples=40, deadline=None)
@given(st.integers(min_value=0))
def test_random_flows_survive_export_and_import(seed: int) -> None:
    flow = read(flow_data(drawn(TreeMaker(Random(seed), size=15).tree())))
    assert _normal(import_bpmn(export_bpmn(flow))) == _normal(flow)


def test_texts_in_several_languages_and_all_settings_survive_export() -> None:
    title = {"zh": "质检", "en": "Quality"}
    nodes: list[dict[str, Any]] = [
        {
            "name": "a", "title": title, "description": "look closely", "stage": "check", "expected": "1h30m",
            "expected_in": "wall", "chain": "vp", "responsible": {"role": "r"}, "needs": [{"check": "x", "waivable": False}],
            "timers": [{"after": "2h", "to": "b", "title": title}, {"after": 90, "to": "t", "time": "wall", "interrupts": False}],
            "next": [{"to": "b", "when": {"priority": "urgent"}, "title": title}, "z"],
        },
        {"name": "b", "kind": "service", "next": "z"},
        {"name": "t", "kind": "service", "service": "mes", "next": "z"},
        {"name": "z", "kind": "end", "outcome": "resumed"},
    ]  # fmt: skip
    flow = read(flow_data(nodes, title=title, start="a", description=title))
    assert _normal(import_bpmn(export_bpmn(flow, locale="zh"))) == _normal(flow)
    assert "质检" in export_bpmn(flow, locale="zh").decode()


@settings(max_examples=30, deadline=None)
@given(st.integers(min_value=0))
def test_a_diagram_draws_every_element_once_and_nothing_on_top_of_anything(seed: int) -> None:
    root = ElementTree.fromstring(export_bpmn(read(flow_data(drawn(TreeMaker(Random(seed), size=12).tree())))))
    process = root.find(f"{{{BPMN}}}process")
    assert process is not None
    elements = [one.get("id") for one in process if "id" in one.attrib]
    shown = [one.get("bpmnElement") for tag in ("BPMNShape", "BPMNEdge") for one in root.iter(DI + tag)]
    assert sorted(map(str, shown)) == sorted(map(str, elements))
    ids = [one.get("id") for one in root.iter() if "id" in one.attrib]
    assert len(ids) == len(set(ids))
    boxes = [{name: int(value) for name, value in b.attrib.items()} for b in root.iter() if b.tag.endswith("}Bounds")]
    for index, one in enumerate(boxes):
        for other in boxes[index + 1 :]:
            apart_x = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
            apart_y = one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]
            assert apart_x or apart_y


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("approved", {"fields.approved": True}),
        ("!approved", {"not": {"fields.approved": True}}),
        (
            "a == 1 or b != 'x' and c",
            {"any": [{"fields.a": 1}, {"all": [{"fields.b": {"not": "x"}}, {"fields.c": True}]}]},
        ),
        (
            "(a or b) and not(c)",
            {"all": [{"any": [{"fields.a": True}, {"fields.b": True}]}, {"not": {"fields.c": True}}]},
        ),
        ('labels.impact = "high"', {"labels.impact": "high"}),
        ("= n >= -2.5", {"fields.n": {"gte": -2.5}}),
        ("#{outcome eq 'ok'}", {"outcome": "ok"}),
        (r"${name == 'it\'s'}", {"fields.name": "it's"}),
        ("数量 < 3", {"fields.数量": {"lt": 3}}),
    ],
)
def test_expressions_become_conditions(text: str, expected: dict[str, Any]) -> None:
    assert bpmn_conditions.read(text) == expected
    condition(expected)


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_refused_and_never_anything_else(text: str) -> None:
    found: dict[str, Any] | None = None
    with contextlib.suppress(ValueError):
        found = bpmn_conditions.read(text)
    assert found is None or condition(found) is not None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT2H", 7200), ("P1DT30M", 88200), ("P2W", 1_209_600), ("PT1.5S", 1.5), ("P1M", None), ("P", None), ("2h", None)],
)
def test_iso_durations_without_months_are_read(text: str, seconds: float | None) -> None:
    length = duration(text)
    assert (None if length is None else length.total_seconds()) == seconds
    if length is not None:
        assert duration(iso(length)) == length
