"""On call over HTTP: who is, what people change, the feed; and a chain that follows the change."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from icalendar import Calendar

from shared.ticket import commands as c
from tests.support.waiting import wait_for
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
    assert [(one["user"], one["start"]) for one in duty["conflicts"]] == [("cat", "2026-03-10T00:00:00Z")]
    assert duty["gaps"] == []
    span = {"start": (START + timedelta(days=2)).isoformat(), "end": (START + timedelta(days=3)).isoformat()}
    desk.call("POST", "/v1/oncall/duty/changes", {"kind": "temporary", **span}, status=201)
    gaps = desk.get("/v1/oncall/duty")["gaps"]
    assert [gap["from"] for gap in gaps] == ["2026-03-05T02:00:00Z"]


def test_the_feed_is_a_calendar_of_duty(desk: World) -> None:
    calendar = Calendar.from_ical(desk.get("/v1/oncall/duty/feed.ics?person=cat"))
    events = list(calendar.walk("VEVENT"))
    assert events
    assert all("cat" in str(event["summary"]) for event in events)


def _calendar(desk: World, path: str, status: int = 200) -> str:
    """What a calendar program gets, which sends no key."""
    answer = desk.door.call("GET", path)
    assert answer.status == status, answer.body
    return answer.body.decode()


def test_a_calendar_program_reads_a_feed_by_an_address_that_is_shown_once_kept_as_a_hash_and_taken_back(
    desk: World,
) -> None:
    made = desk.call("POST", "/v1/oncall/duty/feeds", {"person": "cat"}, status=201, person="cat", roles=("agent",))
    path = made.pop("path")
    events = list(Calendar.from_ical(_calendar(desk, path)).walk("VEVENT"))
    assert events
    assert all("cat" in str(event["summary"]) for event in events)
    everybody = desk.call("POST", "/v1/oncall/duty/feeds", {}, status=201)["path"]
    assert "ben on call" in _calendar(desk, everybody)
    token = path.removeprefix("/c/").removesuffix(".ics")
    assert desk.one("select count(*) from access.calendar_feed f where f::text like %s", f"%{token}%") == 0
    assert desk.one("select count(*) from access.calendar_feed where hash = sha256(%s::bytea)", token.encode()) == 1
    listed = desk.call("GET", "/v1/oncall/duty/feeds", person="cat", roles=("agent",))["items"]
    assert listed == [made]
    assert len(desk.get("/v1/oncall/duty/feeds")["items"]) == 2  # whoever may change the directory sees all
    desk.call("DELETE", f"/v1/oncall/duty/feeds/{made['id']}", status=404, person="ben", roles=("agent",))
    desk.call("DELETE", f"/v1/oncall/duty/feeds/{made['id']}", status=204, person="cat", roles=("agent",))
    _calendar(desk, path, status=404)
    _calendar(desk, "/c/nobody-made-this.ics", status=404)
    assert "ben on call" in _calendar(desk, everybody)
    desk.call("POST", "/v1/oncall/duty/feeds", {"person": "zoe"}, status=400)
    desk.call("POST", "/v1/oncall/nights/feeds", {}, status=404)


def test_the_address_of_somebody_who_has_left_shows_nothing_any_more(desk: World, tmp_path: Path) -> None:
    path = desk.call("POST", "/v1/oncall/duty/feeds", {}, status=201, person="ann", roles=("agent",))["path"]
    assert "BEGIN:VEVENT" in _calendar(desk, path)
    desk.publish(write_playbook(tmp_path / "without", PLAYBOOK.replace("  ann: {}\n", "")))
    wait_for(lambda: desk.door.call("GET", path).status == 404)  # the gateway looks for changed people each second
