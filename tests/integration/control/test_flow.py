"""Flows drawn in BPMN: in a playbook's folder, printed as YAML, and a playbook's flows as BPMN."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace

from services.control import publish
from services.control.cli import main
from shared.playbook.source import read_folder
from shared.ticket import commands as c
from shared.ticket.flow.bpmn_import import import_bpmn
from shared.ticket.flow.model import Flow
from tests.support.world import world, write_playbook

DRAWINGS = Path(__file__).parents[2] / "unit" / "flow" / "bpmn"
SHIPPED = [("service", "service"), ("production", "exception"), ("repair", "repair")]
PLAYBOOK = """
name: drawn
triage: stock
groups: {stock: {members: [sam]}, billing: {members: [bo]}, technicians: {members: [tom]}}
agents: {sam: {}, bo: {}, tom: {}, anna: {}, dispatcher: {}}
fields: {parts_used: {type: bool}, warranty: {type: bool}, cost: {type: number}}
rules: [{name: whose, matches: first, rules: [{name: all, default: true, then: {group: technicians, kind: repair}}]}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = write_playbook(tmp_path / "drawn", PLAYBOOK)
    (made / "repair.bpmn").write_bytes((DRAWINGS / "camunda8.bpmn").read_bytes())
    return made


def test_a_drawing_in_the_playbooks_folder_is_a_flow_that_tickets_go_through(database_url: str, folder: Path) -> None:
    with world(database_url, folder) as desk:
        number = desk.open(fields={"parts_used": False, "warranty": False, "cost": 5})
        ticket = desk.ticket(number)
        assert (ticket.node, ticket.assignee) == ("visit", "tom")
        desk.done(number, c.CompleteNode(node="visit"), "tom")
        assert [(one.name, one.assignee) for one in desk.ticket(number).nodes] == [("bill", "bo")]
        assert desk.done(number, c.CompleteNode(node="bill"), "bo").status == "resolved"


def test_what_is_outside_the_profile_is_refused_with_file_and_element(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawing = folder / "repair.bpmn"
    text = drawing.read_text()
    start = text.index('<bpmn:userTask id="bill">')
    end = text.index("</bpmn:userTask>", start)
    drawing.write_text(text[:start] + '<bpmn:scriptTask id="bill" />' + text[end + len("</bpmn:userTask>") :])
    assert main(["check", str(folder)]) == 1
    assert any(line.startswith("repair.bpmn:1: bill: ") for line in capsys.readouterr().err.splitlines())
    assert main(["flow", "import", str(drawing)]) == 1
    assert "bill" in capsys.readouterr().err


def test_a_drawing_is_proven_like_a_written_flow(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawing = folder / "repair.bpmn"
    drawing.write_text(drawing.read_text().replace('candidateGroups="billing"', 'candidateGroups="nobody"'))
    assert main(["check", str(folder)]) == 1
    assert "repair.bpmn:1: flows[0].nodes" in capsys.readouterr().err


def test_an_imported_drawing_is_the_yaml_of_the_same_flow(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    drawing = DRAWINGS / "bpmn_io.bpmn"
    assert main(["flow", "import", str(drawing), "--responsible", "group:desk"]) == 0
    text = capfdbinary.readouterr().out.decode()
    (made,) = yaml.safe_load(text)["flows"]
    folder = write_playbook(tmp_path / "written", text)
    assert read_folder(folder).sections["flows"] == [made]
    assert made["responsible"] == {"group": "desk"}
    assert main(["flow", "import", str(drawing), "--responsible", "desk"]) == 1


def _long(flow: Flow) -> Flow:
    """The flow with its transitions written out."""
    return replace(flow, nodes=[replace(node, next=list(node.edges)) for node in flow.nodes])


@pytest.mark.parametrize(("playbook", "name"), SHIPPED)
def test_a_shipped_flow_is_exported_and_read_back_without_loss(
    playbook: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "flow.bpmn"
    assert main(["flow", "export", playbook, name, "--out", str(out)]) == 0
    flows = {one.name: one for one in publish.load(playbook, range(2026, 2027)).playbook.document.flows}
    assert _long(import_bpmn(out.read_bytes())) == _long(flows[name])
    assert main(["flow", "export", playbook, "nothing"]) == 1
    assert f"no flow 'nothing' in {playbook}" in capsys.readouterr().err


def test_a_folder_without_a_playbook_does_not_hide_the_shipped_one_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "repair").mkdir()
    assert publish.find("repair") == publish.SHIPPED / "repair"
    write_playbook(tmp_path / "repair", PLAYBOOK)
    assert publish.find("repair") == Path("repair")
