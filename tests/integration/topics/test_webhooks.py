"""Webhook subscriptions: signed, repeated with the same id, in order where asked for, parked, redriven, replayed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from standardwebhooks import Webhook

from services.notifier.topics.webhook import SCHEDULE, SICK_AFTER
from tests.support.http_sink import Answer, HttpRequest, HttpSink
from tests.support.topics_world import World, until


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with HttpSink() as listening:
        yield listening


@pytest.fixture
def running(world: World) -> Iterator[World]:
    with world.notifier():
        yield world


def subscribe(world: World, sink: HttpSink, **members: Any) -> dict[str, Any]:
    status, made = world.call("POST", "/v1/subscriptions", {"url": sink.url + "/hook", **members})
    assert status == 201, made
    found: dict[str, Any] = made
    return found


def state(world: World, made: dict[str, Any]) -> dict[str, Any]:
    status, found = world.call("GET", f"/v1/subscriptions/{made['id']}")
    assert status == 200
    shown: dict[str, Any] = found
    return shown


def texts(requests: list[HttpRequest]) -> list[str]:
    return [json.loads(one.body)["data"]["text"] for one in requests]


def test_every_event_arrives_as_the_reference_verifier_wants_it(running: World, sink: HttpSink) -> None:
    made = subscribe(running, sink)
    tickets = running.open(60)
    running.reply(tickets[0])
    wanted = [one for one in running.events(made["cursor"]) if one["type"] != "io.signalbox.subscription.changed.v1"]
    until(lambda: len({one.headers["webhook-id"] for one in sink.to("/hook")}) >= len(wanted) + 1)
    verifier = Webhook(made["secret"])
    got = {}
    for request in sink.to("/hook"):
        event = verifier.verify(request.body, dict(request.headers))
        assert request.headers["content-type"].startswith("application/cloudevents+json")
        assert event["id"] == request.headers["webhook-id"]
        got[event["id"]] = event
    assert [got[one["id"]] for one in wanted] == wanted
    assert len(sink.to("/hook")) == len(got)  # none came twice
    until(lambda: state(running, made)["cursor"] == running.events()[-1]["sequence"])


def test_only_what_is_wanted_comes(running: World, sink: HttpSink) -> None:
    first, second = running.open(2)
    subscribe(running, sink, types=["ticket.replied"], filter={"subject": str(second), "data.text": ["yes", "also"]})
    running.reply(first, "yes")
    for text in ("no", "yes", "also"):
        running.reply(second, text)
    until(lambda: len(sink.to("/hook")) == 2)
    assert sorted(texts(sink.to("/hook"))) == ["also", "yes"]


def test_a_failure_is_repeated_on_schedule_with_the_same_id(running: World, sink: HttpSink) -> None:
    ticket = running.open(1)[0]
    sink.script("/hook", Answer(status=500), Answer(cut=True))
    made = subscribe(running, sink, types=["ticket.replied"])
    running.reply(ticket)
    until(lambda: state(running, made)["waiting"] == 1)
    assert len(sink.to("/hook")) == 1
    running.move(seconds=5)
    until(lambda: len(sink.to("/hook")) == 2)
    until(lambda: deliveries(running, made)[0]["attempts"] == 2)
    running.move(seconds=301)
    until(lambda: state(running, made)["waiting"] == 0)
    assert len({one.headers["webhook-id"] for one in sink.to("/hook")}) == 1
    assert [one.status for one in sink.to("/hook")] == [500, 0, 200]


def deliveries(world: World, made: dict[str, Any], **query: str) -> list[dict[str, Any]]:
    extra = "&".join(f"{name}={value}" for name, value in query.items())
    status, page = world.call("GET", f"/v1/subscriptions/{made['id']}/deliveries?{extra}")
    assert status == 200
    found: list[dict[str, Any]] = page["items"]
    return found


def test_after_three_days_an_event_is_parked_and_redriven_by_hand(running: World, sink: HttpSink) -> None:
    ticket = running.open(1)[0]
    sink.script("/hook", *[Answer(status=500)] * (len(SCHEDULE) + 1))
    made = subscribe(running, sink, types=["ticket.replied"])
    running.reply(ticket)
    for attempt, wait in enumerate(SCHEDULE, start=1):
        until(lambda attempt=attempt: [one["attempts"] for one in deliveries(running, made)] == [attempt])
        running.move(seconds=wait.total_seconds())
    until(lambda: state(running, made)["parked"] == 1)
    assert sum((wait.total_seconds() for wait in SCHEDULE), 0.0) == pytest.approx(3 * 86_400, rel=0.02)
    found = deliveries(running, made, state="parked")[0]
    assert (found["subject"], found["attempts"]) == (str(ticket), len(SCHEDULE) + 1)
    assert "500" in found["error"]
    status, _ = running.call("POST", f"/v1/subscriptions/{made['id']}/redrive", {"sequences": [found["sequence"]]})
    assert status == 202
    until(lambda: sink.to("/hook")[-1].status == 200)
    until(lambda: state(running, made)["parked"] == 0)
    assert len({one.headers["webhook-id"] for one in sink.to("/hook")}) == 1


def test_410_disables_at_once_and_a_person_sets_it_going_again(running: World, sink: HttpSink) -> None:
    ticket = running.open(1)[0]
    sink.script("/hook", Answer(status=410))
    made = subscribe(running, sink, types=["ticket.replied"])
    running.reply(ticket, "one")
    until(lambda: state(running, made)["status"] == "disabled")
    assert "410" in state(running, made)["why"]
    running.reply(ticket, "two")
    running.move(days=2)
    assert len(sink.to("/hook")) == 1
    assert running.call("PATCH", f"/v1/subscriptions/{made['id']}", {"status": "active"})[0] == 200
    until(lambda: texts(sink.to("/hook")[1:]) == ["one", "two"])
    assert any(one["type"].endswith("subscription.changed.v1") and one["data"].get("status") == "disabled"
               for one in running.events())  # fmt: skip


def test_in_order_one_failing_event_blocks_its_ticket_only(running: World, sink: HttpSink) -> None:
    first, second = running.open(2)
    seen: list[str] = []

    def fail_first(request: HttpRequest) -> Answer:
        text = json.loads(request.body)["data"]["text"]
        seen.append(text)
        return Answer(status=500) if text == "a1" and seen.count("a1") == 1 else Answer()

    sink.script("/hook", then=fail_first)
    made = subscribe(running, sink, types=["ticket.replied"], order="ticket")
    for ticket, text in ((first, "a1"), (first, "a2"), (second, "b1"), (first, "a3"), (second, "b2")):
        running.reply(ticket, text)
    until(lambda: {"b1", "b2"} <= set(seen) and state(running, made)["blocked"] == 2)
    assert [text for text in seen if text.startswith("a")] == ["a1"]
    running.move(seconds=6)
    until(lambda: len(seen) == 6)
    assert [text for text in seen if text.startswith("a")] == ["a1", "a1", "a2", "a3"]
    until(lambda: state(running, made)["blocked"] == state(running, made)["waiting"] == 0)


def test_an_endpoint_that_fails_altogether_is_probed_and_catches_up(running: World, sink: HttpSink) -> None:
    tickets = running.open(1)
    made = subscribe(running, sink, types=["ticket.replied"])
    broken: list[Callable[[], bool]] = [lambda: True]
    sink.script("/hook", then=lambda _: Answer(status=500) if broken[0]() else Answer())
    for number in range(3 * SICK_AFTER):
        running.reply(tickets[0], str(number))
    until(lambda: state(running, made)["failing"] >= SICK_AFTER)
    until(lambda: state(running, made)["waiting"] + 1 >= SICK_AFTER)
    flooded, failing = len(sink.to("/hook")), state(running, made)["failing"]
    assert flooded < 3 * SICK_AFTER  # the rest is left alone
    running.move(seconds=31)
    until(lambda: len(sink.to("/hook")) > flooded)
    assert len(sink.to("/hook")) == flooded + 1
    broken[0] = lambda: False
    until(lambda: state(running, made)["failing"] == failing + 1)
    running.move(seconds=31)
    until(lambda: {json.loads(one.body)["data"]["text"] for one in sink.to("/hook") if one.status == 200}
          == {str(number) for number in range(3 * SICK_AFTER)})  # fmt: skip


def test_while_a_secret_is_rotated_both_sign(running: World, sink: HttpSink) -> None:
    ticket = running.open(1)[0]
    made = subscribe(running, sink, types=["ticket.replied"])
    status, rotated = running.call("POST", f"/v1/subscriptions/{made['id']}/rotate", {})
    assert (status, rotated["secrets"]) == (200, 2)
    running.reply(ticket)
    request = until(lambda: sink.to("/hook"))[0]
    for secret in (made["secret"], rotated["secret"]):
        Webhook(secret).verify(request.body, dict(request.headers))
    assert running.call("POST", f"/v1/subscriptions/{made['id']}/rotate", {"finish": True})[1]["secrets"] == 1
    running.reply(ticket)
    request = until(lambda: sink.to("/hook")[1:])[0]
    Webhook(rotated["secret"]).verify(request.body, dict(request.headers))
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(made["secret"]).verify(request.body, dict(request.headers))


def test_replay_sends_everything_after_a_cursor_again_with_the_same_ids(running: World, sink: HttpSink) -> None:
    ticket = running.open(1)[0]
    start = running.events()[-1]["sequence"]
    made = subscribe(running, sink, types=["ticket.replied"])
    for text in ("one", "two"):
        running.reply(ticket, text)
    until(lambda: len(sink.to("/hook")) == 2)
    assert running.call("POST", f"/v1/subscriptions/{made['id']}/replay", {"after": start})[0] == 202
    until(lambda: len(sink.to("/hook")) == 4)
    ids = [one.headers["webhook-id"] for one in sink.to("/hook")]
    assert sorted(ids[:2]) == sorted(ids[2:])


def test_deleting_ends_it(running: World, sink: HttpSink) -> None:
    ticket = running.open(1)[0]
    made = subscribe(running, sink)
    assert running.raw("DELETE", f"/v1/subscriptions/{made['id']}")[0] == 204
    assert running.call("GET", f"/v1/subscriptions/{made['id']}")[0] == 404
    assert running.call("GET", "/v1/subscriptions")[1]["items"] == []
    other = subscribe(running, sink, types=["ticket.replied"])
    running.reply(ticket)
    until(lambda: len(sink.to("/hook")) >= 1)
    assert {json.loads(one.body)["type"] for one in sink.to("/hook")} <= {
        "io.signalbox.ticket.replied.v1",
        "io.signalbox.subscription.changed.v1",
    }
    assert [one["id"] for one in running.call("GET", "/v1/subscriptions")[1]["items"]] == [other["id"]]
    assert "secret" not in json.dumps(running.call("GET", "/v1/subscriptions")[1]["items"][0]["why"])
    assert other["secret"] not in json.dumps(running.call("GET", "/v1/subscriptions")[1])


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/", "http://169.254.169.254/latest/meta-data", "http://[::ffff:10.0.0.1]/", "http://167772161/",
        "http://0x0a.1/", "ftp://example.com/", "http://user:pass@example.com/", "http://[fd00::1]/", "nonsense",
    ],
)  # fmt: skip
def test_a_target_inside_is_refused_in_every_notation(world: World, url: str) -> None:
    status, problem = world.call("POST", "/v1/subscriptions", {"url": url})
    assert (status, problem["errors"][0]["pointer"]) == (422, "/url")


def test_what_one_may_not_do_or_cannot_mean_is_refused(world: World) -> None:
    assert world.call("POST", "/v1/subscriptions", {"url": "http://127.0.0.1/"}, key="agent")[0] == 403
    for body, pointer in (
        ({"url": "http://127.0.0.1/", "types": ["ticket.eaten"]}, "/types"),
        ({"url": "http://127.0.0.1/", "filter": {"weather": "rain"}}, "/filter"),
        ({"url": "http://127.0.0.1/", "secret": "short"}, "/secret"),
        ({"url": "http://127.0.0.1/", "after": "x"}, "/after"),
    ):
        status, problem = world.call("POST", "/v1/subscriptions", body)
        assert (status, problem["errors"][0]["pointer"]) == (422, pointer), problem
