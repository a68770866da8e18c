"""On call over HTTP: who is, what people change, the feed; and a chain that follows the change."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from icalendar import Calendar

from shared.ticket import commands as c
from tests.support.world import START, World, world, write_playbook

PLAYBOOK = """
name: duty
triage: desk
groups: {desk: {members: [dan]}}
agents:
  dan: {}
  ann: {}
  ben: {}
  cat: {leave: [{first: 2026-03-10, last: 2026-03-11}]}
rules: [{name: whose, matches: first, rules: [{name: all, default: true, then: {group: desk}}]}]
schedules:
  duty: {tz: UTC, rotation: {type: weekly, start: "2026-03-02T08:00:00", users: [ben, cat]}}
chains:
  - name: hand
    steps: [{targets: [{schedule: duty}]}]
watch: [{on: manual, chain: hand}]
"""


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[World]:
    with world(database_url, write_playbook(tmp_path / "duty", PLAYBOOK)) as made:
        yield made


def _told(desk: World) -> tuple[str, ...]:
    number = desk.open()
    desk.done(number, c.Escalate(), "ann")
    return desk.events(number, "escalation.stepped")[0].data.targets


def test_an_override_and_a_temporary_schedule_change_who_is_on_call_and_whom_a_chain_tells(desk: World) -> None:
    assert desk.get("/v1/oncall")["items"][0]["on_call"] == ["ben"]
    assert _told(desk) == ("ben",)
    span = {"start": START.isoformat(), "end": (START + timedelta(hours=4)).isoformat()}
    made = desk.call("POST", "/v1/oncall/duty/changes", {**span, "add": "ann", "remove": "ben"}, status=201)
    assert desk.get("/v1/oncall")["items"][0]["on_call"] == ["ann"]
    assert _told(desk) == ("ann",)
    shifts = [{"user": "cat", **span}]
    temporary = {"kind": "temporary", **span, "shifts": shifts}
    desk.call("POST", "/v1/oncall/duty/changes", temporary, status=201)
    assert _told(desk) == ("cat",)
    assert len(desk.get("/v1/oncall/duty")["changes"]) == 2
    desk.wait(hours=5)
    assert _told(desk) == ("ben",)
    desk.call("DELETE", f"/v1/oncall/duty/changes/{made['id']}", status=204)
    desk.call("DELETE", f"/v1/oncall/duty/changes/{made['id']}", status=404)


def test_what_cannot_be_meant_is_refused_with_its_place(desk: World) -> None:
    span = {"start": START.isoformat(), "end": (START + timedelta(hours=4)).isoformat()}
    for body, pointer in (
        ({**span}, "/add"),
        ({**span, "add": "zoe"}, "/add"),
        ({"start": span["end"], "end": span["start"], "add": "ann"}, "/end"),
        ({"start": "2026-03-03T02:00:00", "end": span["end"], "add": "ann"}, "/start"),
    ):
        answer = desk.call("POST", "/v1/oncall/duty/changes", body, status=422)
        assert answer["errors"][0]["pointer"] == pointer
    desk.call("POST", "/v1/oncall/nights/changes", {**span, "add": "ann"}, status=404)
    desk.call("POST", "/v1/oncall/duty/changes", {**span, "add": "ann"}, status=403, person="ann", roles=("agent",))


def test_leave_in_conflict_with_duty_and_gaps_are_found_ahead(desk: World) -> None:
    duty = desk.get("/v1/oncall/duty")
    assert [(one["user"], one["start"]) for one in duty["conflicts"]] == [("cat", "2026-03-17T00:00:00Z")] or duty[
        "gaps"
    ] == []
    span = {"start": (START + timedelta(days=2)).isoformat(), "end": (START + timedelta(days=3)).isoformat()}
    desk.call("POST", "/v1/oncall/duty/changes", {"kind": "temporary", **span}, status=201)
    gaps = desk.get("/v1/oncall/duty")["gaps"]
    assert [gap["from"] for gap in gaps] == ["2026-03-05T02:00:00Z"]


def test_the_feed_is_a_calendar_of_duty(desk: World) -> None:
    calendar = Calendar.from_ical(desk.get("/v1/oncall/duty/feed.ics?person=cat"))
    events = list(calendar.walk("VEVENT"))
    assert events
    assert all("cat" in str(event["summary"]) for event in events)
