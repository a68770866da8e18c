"""Reports over a period: how often the same thing had to be done again, and what stood still in whose hands."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from shared.contracts.intake import RequesterIn
from shared.ticket import commands as c
from tests.support.world import START, World, world, write_playbook

CUSTOMER = RequesterIn(id="c1", name="周先生", phone="13800001111")


@pytest.fixture
def shop(database_url: str) -> Iterator[World]:
    with world(database_url, "repair") as made:
        yield made


def reported(shop: World, asset: str | None) -> int:
    fields = {} if asset is None else {"asset": asset, "address": "x"}
    kind = {} if asset is None else {"kind": "repair"}
    return shop.open(
        subject="冰箱不制冷" if asset else "谢谢", source="phone", requester=CUSTOMER, fields=fields, **kind
    )


def test_the_repeat_rate_is_the_share_of_tickets_that_name_an_earlier_one(shop: World) -> None:
    empty = shop.get(f"/v1/reports/repeats?from={(START - timedelta(days=1)).isoformat().replace('+', '%2B')}")
    assert (empty["tickets"], empty["repeats"], empty["rate"], empty["items"]) == (0, 0, None, [])
    for asset in ("F-1", "F-2", "F-3"):
        shop.done(reported(shop, asset), c.Close(), "mo.ran")
    shop.wait(days=20)
    middle = shop.now
    again = reported(shop, "F-1")
    assert shop.ticket(again).fields["repeat_of"]
    shop.wait(minutes=1)
    whole = shop.get("/v1/reports/repeats")
    assert (whole["tickets"], whole["repeats"], whole["rate"]) == (4, 1, 0.25)
    assert [(one["name"], one["tickets"], one["repeats"], one["rate"]) for one in whole["items"]] == [
        ("repair", 4, 1, 0.25)
    ]
    since = middle.isoformat().replace("+", "%2B")
    late = shop.get(f"/v1/reports/repeats?by=month&from={since}")
    assert [(one["name"], one["rate"]) for one in late["items"]] == [("2026-03", 1.0)]
    early = shop.get(f"/v1/reports/repeats?by=group&to={since}")
    assert (early["tickets"], early["rate"]) == (3, 0.0)


def test_a_playbook_that_knows_no_repeats_has_no_rate(database_url: str) -> None:
    with world(database_url, "selected") as desk:
        desk.open(subject="x", source="web")
        desk.wait(minutes=1)
        assert desk.get("/v1/reports/repeats")["rate"] is None


def test_reports_are_for_those_who_may_read_all_and_refuse_what_they_do_not_know(shop: World) -> None:
    shop.call("GET", "/v1/reports/repeats", status=403, roles=("customer",))
    shop.call("GET", "/v1/reports/repeats?by=phone", status=400)
    shop.call("GET", "/v1/reports/stalls?by=kind", status=400)
    shop.call("GET", "/v1/reports/stalls?from=2026-03-01", status=400)


STALLING = """
name: stalls
zone: UTC
triage: desk
groups: {desk: {members: [ann, ben]}}
agents: {ann: {manager: boss}, ben: {manager: boss}, boss: {roles: [lead]}}
rules: [{name: whose, matches: first, rules: [{name: all, default: true, then: {group: desk, kind: job}}]}]
flows:
  - name: job
    responsible: {ticket: true}
    nodes: [{name: work, expected: 1h, expected_in: wall, next: done}, {name: done, kind: end}]
chains: [{name: up, steps: [{targets: [{manager: 1}]}], fallback: boss}]
watch: [{on: node, chain: up}]
"""


def test_a_stall_counts_for_whoever_had_it_and_its_time_for_everybody_who_had_had_it(
    database_url: str, tmp_path: Path
) -> None:
    with world(database_url, write_playbook(tmp_path / "stalls", STALLING)) as desk:
        number = desk.open()
        first = str(desk.ticket(number).assignee)
        second = "ben" if first == "ann" else "ann"
        desk.done(number, c.Accept(), first)
        desk.wait(minutes=20)
        desk.done(number, c.Transfer(agent=second), first)
        desk.wait(minutes=41)
        found = desk.get("/v1/reports/stalls")
        assert found["stalls"] == 1
        (mine,) = found["items"]
        assert (mine["name"], mine["stalls"], mine["escalated"], mine["longest_dwell_seconds"]) == (second, 1, 1, 3600)
        shares = {one["name"]: one["seconds"] for one in found["shares"]}
        assert shares == {first: 1200, second: 2400}
        assert desk.get("/v1/reports/stalls?by=node")["items"][0]["name"] == "work"
