"""The shipped playbooks, each with the scenario it is for, on a movable clock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from services.control import publish
from shared.contracts.intake import RequesterIn
from shared.playbook.source import read_folder
from shared.ticket import commands as c
from tests.support.http_sink import Answer, HttpSink
from tests.support.world import PNG, START, World, world

SHIPPED = ("selected", "service", "production", "repair", "after-sales")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_playbook_is_sound_and_speaks_both_languages(name: str) -> None:
    checked = publish.load(name, range(2026, 2027))
    document = checked.playbook.document
    assert isinstance(document.title, dict)
    assert set(document.title) == {"zh-CN", "en"}
    for rule in document.messages.rules:
        assert all({"zh-CN", "en"} <= set(words) for words in rule.templates.values())
    for flow in document.flows:
        assert all(node.title for node in flow.nodes if node.stays)


# ---- service ------------------------------------------------------------


def test_service_a_software_problem_skips_the_hardware_check_and_both_reviews_merge(database_url: str) -> None:
    with world(database_url, "service") as desk:
        number = desk.open(subject="登录后软件报错", source="web")
        ticket = desk.ticket(number)
        assert (ticket.kind, ticket.node, ticket.labels["business_type"].value) == ("service", "triage", "software")
        desk.done(number, c.Accept(), str(ticket.assignee))
        ticket = desk.done(number, c.CompleteNode(node="triage", outcome="software"), str(ticket.assignee))
        assert (ticket.node, ticket.group) == ("repair", "engineers")
        refused = desk.act(number, c.CompleteNode(node="repair"), str(ticket.assignee)).refused
        assert refused is not None
        assert refused.missing == ("solution",)
        desk.done(number, c.CompleteNode(node="repair", fields={"solution": "patched"}), str(ticket.assignee))
        assert {one.name for one in desk.ticket(number).nodes} == {"review", "customer"}
        ticket = desk.done(number, c.CompleteNode(node="review", outcome="rejected"), "qin.an")
        assert [(one.name, one.visit) for one in ticket.nodes] == [("repair", 2)]  # the other branch was cancelled
        desk.done(number, c.CompleteNode(node="repair"), str(ticket.assignee))
        desk.done(number, c.CompleteNode(node="review"), "qin.an")
        assert desk.ticket(number).status == "assigned"
        assert (
            desk.done(number, c.CompleteNode(node="customer"), str(desk.ticket(number).assignee)).status == "resolved"
        )


def test_service_a_hardware_problem_needs_its_material_and_may_jump_back(database_url: str) -> None:
    with world(database_url, "service") as desk:
        number = desk.open(subject="屏幕不亮", source="web")
        desk.done(number, c.CompleteNode(node="triage", outcome="hardware"), "an.qi")
        ticket = desk.ticket(number)
        assert (ticket.node, ticket.group) == ("hardware-check", "hardware")
        refused = desk.act(number, c.CompleteNode(node="hardware-check"), "du.feng").refused
        assert refused is not None
        assert refused.missing == ("serial", "photo", "powered-off")
        assert desk.done(number, c.Jump(node="hardware-check", to="triage"), "du.feng").node == "triage"
        desk.wait(hours=3)
        assert "node.stalled" in desk.types(number)
        assert desk.told(number, "escalation.stepped")


# ---- production ------------------------------------------------------------


@contextmanager
def _plant(database_url: str, tmp_path: Path, status: str) -> Iterator[tuple[World, HttpSink]]:
    """The shipped production playbook, with its manufacturing execution system at a stub's address."""
    with HttpSink() as mes:
        _says(mes, status)
        folder = tmp_path / "production"
        folder.mkdir()
        for name, value in read_folder(publish.find("production")).sections.items():
            text = yaml.safe_dump({name: value}, allow_unicode=True).replace(
                "127.0.0.1:18090", f"{mes.host}:{mes.port}"
            )
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
        with world(database_url, folder) as plant:
            yield plant, mes


def _says(mes: HttpSink, status: str) -> None:
    mes.script("/devices", then=Answer(body=json.dumps({"status": status}).encode()))


def _asked(mes: HttpSink) -> list[str]:
    return [one.path for one in mes.to("/devices")]


def _reported(plant: World, subject: str) -> int:
    return plant.open(subject=subject, source="andon", fields={"device": "R-7"})


def _photos(plant: World, number: int) -> dict[str, list[str]]:
    return {"photo": [plant.attach(number, "front.png"), plant.attach(number, "back.png", PNG + b"2")]}


def test_production_the_live_device_status_decides_the_way_and_photos_are_required(
    database_url: str, tmp_path: Path
) -> None:
    with _plant(database_url, tmp_path, "stopped") as (plant, mes):
        assert plant.submit(subject="机械臂报警", kind="exception").missing == ("device",)
        number = _reported(plant, "机械臂报警")
        assert _asked(mes) == ["/devices/R-7"]
        ticket = plant.ticket(number)
        assert (ticket.node, ticket.priority, ticket.labels["device_status"].value) == (
            "preliminary",
            "urgent",
            "stopped",
        )
        owner = str(ticket.assignee)
        plant.done(number, c.Accept(), owner)
        # named, but never attached
        refused = plant.act(number, c.CompleteNode(node="preliminary", material={"photo": ["a1", "a2"]}), owner).refused
        assert refused is not None
        assert refused.missing == ("photo",)
        plant.wait(minutes=4)
        ticket = plant.done(number, c.CompleteNode(node="preliminary", material=_photos(plant, number)), owner)
        assert (ticket.node, ticket.group) == ("repair", "maintenance")
        assert _asked(mes) == ["/devices/R-7", "/devices/R-7"]  # and again when the check is done
        plant.done(number, c.CompleteNode(node="repair", fields={"cause": "bearing"}), str(ticket.assignee))
        assert plant.act(number, c.Waive(node="quality", material="first-piece", reason="hurry"), "shen.yun").refused
        ticket = plant.done(
            number, c.CompleteNode(node="quality", fields={"scrap": 3}, material={"first-piece": True}), "kang.hui"
        )
        assert (ticket.node, ticket.assignee, ticket.status) == ("resume", owner, "assigned")
        assert plant.done(number, c.CompleteNode(node="resume"), owner).status == "resolved"


def test_production_a_running_device_goes_straight_to_quality_review(database_url: str, tmp_path: Path) -> None:
    with _plant(database_url, tmp_path, "running") as (plant, _):
        number = _reported(plant, "产品划痕不良")
        ticket = plant.done(number, c.CompleteNode(node="preliminary", material=_photos(plant, number)), "ding.li")
        assert (ticket.node, ticket.group, ticket.labels["device_status"].value) == ("quality", "quality", "running")


def test_production_what_the_device_does_when_the_check_is_done_counts_and_not_what_it_did_before(
    database_url: str, tmp_path: Path
) -> None:
    with _plant(database_url, tmp_path, "stopped") as (plant, mes):
        restarted, broke, silent = (_reported(plant, "产品划痕不良") for _ in range(3))
        assert _asked(mes) == ["/devices/R-7"]  # one answer serves all that come within its five seconds
        plant.wait(seconds=6)
        _says(mes, "running")
        again = _reported(plant, "产品划痕不良")
        assert plant.ticket(again).labels["device_status"].value == "running"
        assert len(_asked(mes)) == 2
        ticket = plant.done(
            restarted, c.CompleteNode(node="preliminary", material=_photos(plant, restarted)), "ding.li"
        )
        assert (ticket.node, ticket.labels["device_status"].value, len(_asked(mes))) == ("quality", "stopped", 2)
        plant.wait(seconds=6)
        _says(mes, "stopped")
        assert (
            plant.done(again, c.CompleteNode(node="preliminary", material=_photos(plant, again)), "ding.li").node
            == "repair"
        )
        assert len(_asked(mes)) == 3
        (asked,) = [one for one in plant.events(again, "node.completed") if one.data.node == "device"]
        assert asked.data.material == {"mes": {"status": "stopped"}}
        assert asked.reason["enriched"]["mes"]["from"] == "answer"
        plant.wait(seconds=6)
        mes.script("/devices", then=Answer(status=503))
        ticket = plant.done(silent, c.CompleteNode(node="preliminary", material=_photos(plant, silent)), "ding.li")
        assert ticket.node == "repair"  # it stood when it was reported
        assert plant.done(broke, c.Close(), "ding.li").status == "closed"


def test_production_a_timeout_copies_the_vice_president_and_opens_a_joint_response(
    database_url: str, tmp_path: Path
) -> None:
    with _plant(database_url, tmp_path, "stopped") as (plant, _):
        number = _reported(plant, "设备停机")
        plant.done(number, c.Accept(), str(plant.ticket(number).assignee))
        plant.wait(minutes=26)
        steps = [one.data for one in plant.events(number, "escalation.stepped")]
        mine = [one for one in steps if one.escalation == steps[0].escalation]
        assert mine[0].targets == ("lu.jian",)
        assert mine[1].copies == ("zhong.da",)
        assert set(mine[1].targets) == {"shen.yun", "geng.yi"}
        assert plant.ticket(number).tasks[0].owner in ("shen.yun", "geng.yi")
        assert "zhong.da" in plant.told(number, "escalation.stepped")


# ---- repair ------------------------------------------------------------

CUSTOMER = RequesterIn(id="c1", name="周先生", phone="13800001111")


def _visited(desk: World, number: int, outcome: str, found: str) -> None:
    ticket = desk.ticket(number)
    visit = {"at": desk.now.isoformat(), "technician": ticket.assignee, "found": found, "done": outcome == "fixed"}
    desk.done(
        number, c.CompleteNode(node=ticket.node, outcome=outcome, append={"visits": [visit]}), str(ticket.assignee)
    )


def test_repair_every_visit_and_part_stays_on_the_ticket(database_url: str) -> None:
    with world(database_url, "repair") as desk:
        assert desk.submit(subject="冰箱不制冷", kind="repair", requester=CUSTOMER).missing == ("asset",)
        number = desk.open(subject="冰箱不制冷", source="phone", requester=CUSTOMER, fields={"asset": "F-1"})
        desk.done(number, c.CompleteNode(node="dispatch", fields={"address": "长安街 1 号"}), "lan.xi")
        _visited(desk, number, "parts-needed", "compressor")
        assert desk.ticket(number).node == "parts"
        wrong = c.CompleteNode(node="parts", append={"parts": [{"code": "P1", "count": "two"}]})
        assert desk.act(number, wrong, "lan.xi").refused.code == "invalid"
        desk.done(number, c.CompleteNode(node="parts", append={"parts": [{"code": "P1", "count": 2}]}), "lan.xi")
        _visited(desk, number, "fixed", "replaced")
        ticket = desk.ticket(number)
        assert [one["found"] for one in ticket.fields["visits"]] == ["compressor", "replaced"]
        assert ticket.fields["parts"] == [{"code": "P1", "count": 2}]
        assert desk.done(number, c.CompleteNode(node="call-back"), "lan.xi").status == "resolved"


def test_repair_a_repeat_visit_is_recognised_and_goes_to_a_senior(database_url: str) -> None:
    with world(database_url, "repair") as desk:
        asked = {"subject": "冰箱不制冷", "source": "phone", "requester": CUSTOMER}
        first = desk.open(**asked, fields={"asset": "F-1"})
        desk.done(first, c.Close(), "mo.ran")
        other = desk.open(**asked, fields={"asset": "F-2"})
        desk.wait(days=20)
        again = desk.open(**asked, fields={"asset": "F-1"})
        assert "repeat_of" not in desk.ticket(other).fields
        ticket = desk.ticket(again)
        assert ticket.fields["repeat_of"] == f"T-{first}"
        assert ticket.labels["visit"].value == "repeat"
        desk.done(again, c.CompleteNode(node="dispatch", fields={"address": "x"}), "lan.xi")
        assert (desk.ticket(again).node, desk.ticket(again).group) == ("senior-visit", "senior")
        desk.wait(days=60)
        late = desk.open(subject="冰箱不制冷", source="phone", requester=CUSTOMER, fields={"asset": "F-2"})
        assert "repeat_of" not in desk.ticket(late).fields


# ---- after-sales ------------------------------------------------------------


def test_after_sales_a_return_is_inspected_approved_and_refunded_with_masked_identity(database_url: str) -> None:
    with world(database_url, "after-sales") as desk:
        number = desk.open(
            subject="要求退货", source="shop", fields={"order": "A-9", "amount": 1500, "id_card": "110101199001011234"}
        )
        assert desk.ticket(number).node == "review"
        shown = desk.call("GET", f"/v1/tickets/{number}", person="ai.lin", roles=("agent",))
        assert shown["fields"]["id_card"] == "**************1234"
        desk.done(number, c.CompleteNode(node="review", outcome="accepted", fields={"reason": "damaged"}), "ai.lin")
        assert desk.ticket(number).group == "warehouse"
        material = {"photo": [desk.attach(number, "goods.png")], "complete": True}
        ticket = desk.done(number, c.CompleteNode(node="receive", material=material), "fei.yu")
        assert (ticket.node, ticket.assignee) == ("lead-approval", "yan.shu")
        ticket = desk.done(number, c.CompleteNode(node="lead-approval"), "yan.shu")
        assert (ticket.node, ticket.group, ticket.assignee) == ("refund", "role:cashier", "hua.jin")
        desk.done(number, c.CompleteNode(node="refund"), "hua.jin")
        assert desk.act(number, c.CompleteNode(node="tell"), "ai.lin").refused.missing == ("decision",)
        assert (
            desk.done(number, c.CompleteNode(node="tell", fields={"decision": "退款"}), "ai.lin").status == "resolved"
        )


def test_after_sales_a_complaint_is_heard_within_minutes_or_goes_up(database_url: str) -> None:
    with world(database_url, "after-sales") as desk:
        number = desk.open(subject="投诉：要找媒体曝光", source="app")
        ticket = desk.ticket(number)
        assert (ticket.kind, ticket.priority, ticket.group, ticket.lane) == (
            "complaint",
            "urgent",
            "complaints",
            "urgent",
        )
        desk.wait(minutes=20)
        breached = desk.events(number, "sla.breached")
        assert [one.data.metric for one in breached] == ["first_response"]
        assert breached[0].data.breached_at == START + timedelta(minutes=15)
        assert [one.data.targets for one in desk.events(number, "escalation.stepped")] == [("yan.shu",)]


def test_selected_an_it_ticket_is_classified_reminded_twice_and_answered_in_time(database_url: str) -> None:
    with world(database_url, "selected", datetime(2026, 3, 3, 2, 0, tzinfo=UTC)) as desk:
        number = desk.open(subject="全院网络瘫痪", source="phone")
        ticket = desk.ticket(number)
        assert (ticket.priority, ticket.group) == ("urgent", "network")
        assert desk.told(number, "ticket.assigned") == [ticket.assignee, ticket.assignee]
        desk.done(number, c.Accept(), str(ticket.assignee))
        desk.done(number, c.Reply(text="在处理"), str(ticket.assignee))
        desk.done(number, c.Resolve(), str(ticket.assignee))
        desk.wait(hours=3)
        assert not {"sla.breached", "sla.warned"} & set(desk.types(number))
