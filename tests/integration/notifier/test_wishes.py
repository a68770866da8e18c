"""Preferences and watching over HTTP and through the services."""

from __future__ import annotations

from typing import Any

from shared.ticket import commands as c
from tests.support.desk import Desk, Door

JSON = {"content_type": "application/json"}
WATCHED = """
    - name: watched
      on: [ticket.resolved]
      audience: [{to: [watchers]}]
      plan: [{channel: inbox}]
      templates: {any: {en: {title: done, text: "done {{ ticket.number }}"}}}
    - name: done
"""
APART = """
    - name: unwanted
      on: [ticket.assigned]
      when: {subject: {contains: [kiosk]}}
      audience: [{to: [assignee]}]
      plan: [{channel: sms}]
      templates: {any: {en: {text: "{{ ticket.number }}"}}}
    - name: patient
      on: [ticket.assigned]
      when: {subject: {contains: [beamer]}}
      audience: [{to: [assignee]}]
      plan: [{channel: mail, wait: 10m}]
      templates: {any: {en: {title: late, text: "{{ ticket.number }}"}}}
"""


def put(door: Door, path: str, key: str, body: dict[str, Any]) -> Any:
    return door.call("PUT", path, body, authorization=f"Bearer {key}", **JSON)


def sms(desk: Desk, ticket: int) -> tuple[str, str | None]:
    row = desk.rows("select state, reason from notifier.notification where ticket_id = %s and channel = 'sms'", ticket)[
        0
    ]
    return row.state, row.reason


def test_a_person_turns_a_channel_off_and_on_again_and_a_team_does_for_those_who_say_nothing(
    desk: Desk, door: Door
) -> None:
    first = desk.open_many([{} for _ in range(4)])
    owners = {
        row.recipient for row in desk.rows("select recipient from notifier.message where ticket_id = any(%s)", first)
    }
    assert len(owners) == 4
    one, key = sorted(owners)[0], desk.key(sorted(owners)[0])
    assert put(door, "/v1/preferences", key, {"preferences": {"assigned": {"sms": "off"}}}).status == 200
    lead = desk.key("ma.chao", "lead")
    assert put(door, "/v1/preferences/teams/field", lead, {"preferences": {"*": {"sms": "off"}}}).status == 200
    desk.deps.directory.forget()
    said = {sms(desk, ticket) for ticket in desk.open_many([{} for _ in range(4)])}
    assert said == {
        ("suppressed", f"turned off by {one} (assigned on sms)"),
        ("suppressed", "turned off by the team field (* on sms)"),
    }
    put(door, "/v1/preferences", key, {"preferences": {"*": {"sms": "on"}}})
    desk.deps.directory.forget()
    said = {sms(desk, ticket) for ticket in desk.open_many([{} for _ in range(4)])}
    assert said == {("sent", None), ("suppressed", "turned off by the team field (* on sms)")}


def test_what_is_no_preference_is_refused_with_the_place_named(desk: Desk, door: Door) -> None:
    key = desk.key("li.na")
    for body, pointer in (
        ({"quiet_hours": "ten to six"}, "/quiet_hours"),
        ({"zone": "Mars/Olympus"}, "/zone"),
        ({"preferences": {"no topic!": {"sms": "off"}}}, "/preferences/no topic!"),
        ({"preferences": {"assigned": {"sms": "maybe"}}}, "/preferences/assigned/sms"),
    ):
        refused = put(door, "/v1/preferences", key, body)
        assert (refused.status, refused.json["errors"][0]["pointer"].split("/...")[0][:13]) == (422, pointer[:13])
    kept = put(door, "/v1/preferences", key, {"quiet_hours": "22:00-07:00", "zone": "Asia/Shanghai"}).json
    assert kept["quiet_hours"] == "22:00-07:00"
    assert door.call("GET", "/v1/preferences", authorization=f"Bearer {key}").json == kept


def test_whoever_watches_hears_of_it_and_goes_on_doing_so_when_the_ticket_is_merged(desk: Desk) -> None:
    desk.publish_changed(lambda text: text.replace("\n    - name: done\n", WATCHED))
    old, new = desk.open_many([{}, {}])
    desk.act(old, c.Watch(), "li.na")
    desk.act(old, c.Watch(), "li.na")
    desk.act(old, c.Watch(person="wu.qian"), "sun.li")
    desk.act(old, c.Unwatch(person="wu.qian"), "sun.li")
    desk.act(old, c.Merge(into=str(new)), "sun.li")
    desk.act(new, c.Resolve(), "sun.li")
    heard = desk.rows("select recipient from notifier.message where ticket_id = %s and rule = 'watched'", new)
    assert [row.recipient for row in heard] == ["li.na"]


def test_a_step_that_is_not_taken_hurries_the_next_of_its_own_ticket_only(desk: Desk) -> None:
    desk.publish_changed(
        lambda text: text.replace("      on: [ticket.assigned]", "      on: [ticket.merged]").replace(
            "  rules:\n    - name: assigned\n", f"  rules:{APART}    - name: assigned\n"
        )
    )
    with desk.database.begin() as connection:
        connection.exec_driver_sql(
            """update ledger.item set version = version + 1, state = state || '{"preferences": {"unwanted": {"*": "off"}}}'
            where kind = 'agent' and version > 0"""
        )
    desk.deps.directory.forget()
    desk.open_many([{"subject": subject} for _ in range(12) for subject in ("kiosk", "beamer")])
    made = desk.rows("select rule, recipient, state from notifier.notification")
    assert {row.state for row in made if row.rule == "unwanted"} == {"suppressed"}
    assert {row.state for row in made if row.rule == "patient"} == {"planned"}
    assert {row.recipient for row in made if row.rule == "unwanted"} & {
        row.recipient for row in made if row.rule == "patient"
    }
