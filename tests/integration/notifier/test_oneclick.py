"""One-click links over HTTP: a scanner changes nothing, the person with the code succeeds once, too late is said clearly."""

from __future__ import annotations

import itertools
from collections import Counter

from services.notifier.forgetting import forget
from shared.ticket import commands as c
from tests.support.desk import CODE, LINK, Desk, Door


def link_of(desk: Desk, ticket_id: int, channel: str = "sms") -> tuple[str, str, str]:
    """Path, code and person of the newest message about a ticket."""
    job = next(one for one in reversed(desk.sent) if one.row.ticket_id == ticket_id and one.row.channel == channel)
    text = job.message.content.text
    found, code = LINK.search(text), CODE.search(text)
    assert found is not None
    assert code is not None
    return found.group(1), code.group(1), job.row.recipient


def scan(door: Door, path: str) -> Counter[int]:
    """What mail scanners do: HEAD, GET again and again, and pressing every button with what they find on the page."""
    seen = Counter([door.call("HEAD", path).status])
    for _ in range(20):
        page = door.call("GET", path)
        seen[page.status] += 1
    assert b"<script" not in page.body
    assert "script-src" not in page.headers["content-security-policy"]  # default-src 'none': nothing runs
    token = path.rpartition("/")[2]
    for form in ({}, {"code": ""}, {"code": "code"}, {"code": token[:6]}, {"to": "desk", "text": "x"}):
        seen[door.call("POST", path, form).status] += 1
    return seen


def test_a_scanner_that_follows_the_link_and_presses_every_button_changes_nothing(desk: Desk, door: Door) -> None:
    ticket = desk.open()
    path, code, _ = link_of(desk, ticket)
    before = desk.version(ticket)
    assert scan(door, path) == {200: 21, 403: 5}
    assert desk.version(ticket) == before
    assert door.call("POST", path, {"code": code}).status == 200  # and the person still can


def test_the_page_never_shows_the_code_nor_lets_itself_be_kept(desk: Desk, door: Door) -> None:
    path, code, _ = link_of(desk, desk.open())
    page = door.call("GET", path)
    assert code.encode() not in page.body
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"


def test_whoever_gives_the_code_acts_as_the_person_it_was_sent_to_and_only_once(desk: Desk, door: Door) -> None:
    ticket = desk.open()
    path, code, person = link_of(desk, ticket)
    assert door.call("POST", path, {"code": code}).status == 200
    taken = list(desk.rows("select type, actor from ledger.event where id = %s", ticket))[-1]
    assert (taken.type, taken.actor["id"], taken.actor["kind"]) == ("ticket.accepted", person, "person")
    version = desk.version(ticket)
    again = door.call("POST", path, {"code": code}, accept="application/json")
    assert (again.status, again.json["title"]) == (409, "used")
    assert desk.version(ticket) == version


def test_every_one_of_many_people_who_press_at_the_same_time_succeeds_and_each_once(desk: Desk, door: Door) -> None:
    from concurrent.futures import ThreadPoolExecutor

    tickets = desk.open_many([{} for _ in range(30)])
    held = [one for one in tickets if any(job.row.ticket_id == one for job in desk.sent)]
    with ThreadPoolExecutor(6) as people:
        presses = [(one, *link_of(desk, one)) for one in held for _ in range(3)]  # three clicks each
        statuses = list(people.map(lambda one: door.call("POST", one[1], {"code": one[2]}).status, presses))
    pressed = itertools.groupby(zip(presses, statuses, strict=True), lambda x: x[0][0])
    by_ticket = [sorted(status for _, status in both) for _, both in pressed]
    assert by_ticket == [[200, 409, 409]] * len(held)
    accepted = desk.rows("select id, count(*) as n from ledger.event where type = 'ticket.accepted' group by id")
    assert {row.id: row.n for row in accepted} == dict.fromkeys(held, 1)


def test_a_link_of_an_assignment_that_is_over_says_so_and_stays_unused(desk: Desk, door: Door) -> None:
    ticket = desk.open()
    path, code, person = link_of(desk, ticket)
    other = "wang.fang" if person != "wang.fang" else "li.na"
    desk.act(ticket, c.Transfer(agent=other), person)
    version = desk.version(ticket)
    late = door.call("POST", path, {"code": code}, accept="application/json")
    assert (late.status, late.json["title"]) == (409, "stale")
    assert other in late.json["detail"]
    assert other.encode() in door.call("GET", path).body
    assert desk.version(ticket) == version
    desk.act(ticket, c.Transfer(agent=person), other)  # the same person again, by another assignment
    assert door.call("POST", path, {"code": code}).status == 409


def test_a_link_ends_within_a_day(desk: Desk, door: Door) -> None:
    ticket = desk.open()
    path, code, _ = link_of(desk, ticket)
    desk.wait(hours=24, minutes=1)
    version = desk.version(ticket)
    assert door.call("POST", path, {"code": code}).status == 410
    assert door.call("GET", path).status == 410
    assert desk.version(ticket) == version


def test_a_guesser_has_eight_tries_and_then_not_even_the_code_helps(desk: Desk, door: Door) -> None:
    ticket = desk.open()
    path, code, _ = link_of(desk, ticket)
    wrong = [f"{number:06}" for number in range(20) if f"{number:06}" != code][:9]
    assert [door.call("POST", path, {"code": one}).status for one in wrong] == [403] * 8 + [429]
    assert door.call("POST", path, {"code": code}).status == 429


def test_the_persons_own_key_needs_no_code_and_anybody_elses_does_not_help(desk: Desk, door: Door) -> None:
    ticket = desk.open()
    path, _, person = link_of(desk, ticket)
    stranger = "wu.qian"
    assert person != stranger
    assert door.call("POST", path, {}, authorization=f"Bearer {desk.key(stranger)}").status == 403
    assert door.call("POST", path, {}, authorization=f"Bearer {desk.key(person)}").status == 200


def test_transfer_and_note_take_what_the_form_says(desk: Desk, door: Door) -> None:
    desk.publish_changed(lambda text: text.replace("{channel: sms, wait: 0s}", "{channel: mail}"))
    ticket = desk.open()
    mail = next(job for job in desk.sent if job.row.ticket_id == ticket and job.row.channel == "mail")
    _, transfer, note = LINK.findall(mail.message.content.text)
    code = CODE.search(mail.message.content.text)
    assert code is not None
    given = {"code": code.group(1)}
    assert door.call("POST", note, given | {"text": "在路上"}).status == 200
    assert door.call("POST", transfer, given | {"to": "nowhere"}).status == 422
    assert door.call("POST", transfer, given | {"to": "network", "text": "线路"}).status == 200
    story = "select type from ledger.event where kind = 'ticket' and id = %s order by version"
    types = [row.type for row in desk.rows(story, ticket)]
    assert types.count("ticket.noted") == 1
    assert types.count("ticket.transferred") == 1


def test_what_is_stored_opens_nothing(desk: Desk, door: Door) -> None:
    path, code, _ = link_of(desk, desk.open())
    token = path.rpartition("/")[2]
    stored = str(desk.rows("select * from access.action_link"))
    assert token not in stored
    assert code not in stored
    assert door.call("GET", "/a/" + "A" * 32).status == 404
    assert door.call("POST", "/a/x", {"code": code}).status == 404


def test_links_are_forgotten_a_week_after_they_ended_and_not_before(desk: Desk) -> None:
    desk.open()
    desk.wait(days=7)
    forget(desk.database)
    assert desk.rows("select count(*) as n from access.action_link where expires_at < ledger.now()")[0].n > 0
    desk.wait(days=2)
    assert forget(desk.database) > 0
    left = desk.rows("select count(*) as n from access.action_link where expires_at < ledger.now() - interval '7 days'")
    assert left[0].n == 0
