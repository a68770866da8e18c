"""Topic events on Redis Streams, by cursor and as server-sent events: complete, in order, and through every loss of Redis."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any

from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from cloudevents.core.formats.json import JSONFormat

from shared.contracts.events import TicketReplied
from tests.support.ledger import act_on
from tests.support.topics_world import World, until


def complete(events: list[dict[str, Any]]) -> None:
    """In order of the log, and without a gap within each subject."""
    assert [one["sequence"] for one in events] == sorted({one["sequence"] for one in events})
    seen: dict[str, int] = {}
    for one in events:
        assert one["subjectseq"] == seen.get(one["subject"], 0) + 1, one
        seen[one["subject"]] = one["subjectseq"]


def test_streams_hold_every_event_once_in_order_under_its_position(world: World) -> None:
    tickets = world.open(30)
    with world.notifier():
        for ticket in tickets[:10]:
            world.reply(ticket)
        until(lambda: len(world.stream()) == len(world.events()))
    entries, events = world.stream(), world.events()
    complete([event for _, event in entries])
    assert [event for _, event in entries] == events
    assert [entry for entry, _ in entries] == [f"{int(event['sequence'])}-0" for event in events]
    replies = [event for event in events if event["type"] == "io.signalbox.ticket.replied.v1"]
    assert [event for _, event in world.stream("io.signalbox.ticket.replied.v1")] == replies
    assert len(replies) == 10


def test_a_flush_and_a_second_publisher_change_nothing_but_the_time(world: World) -> None:
    world.open(20)
    with world.notifier(), world.notifier():
        until(lambda: len(world.stream()) == len(world.events()))
        before = world.stream()
        world.redis.flushdb()
        world.reply(world.open(1)[0])
        until(lambda: len(world.stream()) == len(world.events()) > len(before))
        assert world.stream()[: len(before)] == before
    with world.notifier():  # begun anew over what is there
        kept = len(world.events())
        world.open(1)
        until(lambda: len(world.stream()) == len(world.events()) > kept)
    complete([event for _, event in world.stream()])


def test_an_older_copy_of_redis_is_brought_up_to_date_from_where_it_stands(world: World) -> None:
    world.open(10)
    with world.notifier():
        until(lambda: len(world.stream()) == len(world.events()))
        whole = world.stream()
        keep = int(whole[4][0].split("-")[0])
        with world.redis.pipeline(transaction=True) as pipe:  # as if a replica that lagged had taken over
            for name in world.redis.scan_iter("signalbox:topic:*"):
                if not name.endswith(b":position"):
                    pipe.xtrim(name, maxlen=0, approximate=False)
                    pipe.delete(name)
            for entry, event in whole[:5]:
                for stream in ("all", event["type"]):
                    pipe.xadd(f"signalbox:topic:{stream}", {"event": json.dumps(event)}, id=entry)
            pipe.set("signalbox:topic:position", keep)
            pipe.execute()
        world.open(1)
        until(lambda: len(world.stream()) == len(world.events()) > len(whole))
        assert world.stream()[: len(whole)] == whole


def test_an_open_transaction_holds_back_what_comes_after_it(world: World) -> None:
    first, second = world.open(2)
    before = world.events()
    with world.database.connect() as slow:
        act_on(slow, first, TicketReplied(author="agent", text="slow"))  # has its position, is not committed
        world.reply(second, "fast")
        assert world.events(before[-1]["sequence"], settled=False) == []
        slow.commit()
    events = until(lambda: world.events(before[-1]["sequence"]))
    assert [one["data"]["text"] for one in events] == ["slow", "fast"]
    complete(before + events)


def test_the_youngest_open_transaction_is_not_skipped_either(world: World) -> None:
    ticket = world.open(1)[0]
    cursor = world.events()[-1]["sequence"]
    with world.database.connect() as slow:
        act_on(
            slow, ticket, TicketReplied(author="agent", text="slow")
        )  # nothing else has a position or an id after it
        page = world.call("GET", f"/v1/events?after={cursor}&wait=1")[1]
        assert page["items"] == []
        slow.commit()
    assert [one["data"]["text"] for one in until(lambda: world.events(page["next"]))] == ["slow"]


def test_a_reader_that_waits_is_answered_as_soon_as_something_comes(world: World) -> None:
    ticket = world.open(1)[0]
    cursor = world.events()[-1]["sequence"]
    answered: list[Any] = []
    reader = threading.Thread(
        target=lambda: answered.append(world.call("GET", f"/v1/events?after={cursor}&wait=20&types=ticket.replied"))
    )
    reader.start()
    world.open(3)  # of another type: the reader goes on waiting behind them
    world.reply(ticket)
    reader.join(10)
    status, page = answered[0]
    assert status == 200
    assert [one["type"] for one in page["items"]] == ["io.signalbox.ticket.replied.v1"]
    assert page["next"] == page["items"][-1]["sequence"]


def test_a_filtered_reader_moves_on_behind_what_it_does_not_want(world: World) -> None:
    world.open(3)
    last = world.events()[-1]["sequence"]
    status, page = world.call("GET", "/v1/events?types=ticket.closed")
    assert (status, page["items"]) == (200, [])
    assert page["next"] >= last


def test_a_batch_is_what_the_cloudevents_sdk_reads(world: World) -> None:
    world.open(2)
    assert world.events()
    status, raw, headers = world.raw("GET", "/v1/events", accept="application/cloudevents-batch+json")
    assert status == 200
    assert headers["content-type"] == "application/cloudevents-batch+json"
    batch = json.loads(raw)
    assert headers["signalbox-next"] == batch[-1]["sequence"]
    for one in batch:
        message = HTTPMessage({"content-type": "application/cloudevents+json"}, json.dumps(one).encode())
        event = from_structured_event(message, JSONFormat())
        assert event.get_id() == one["id"]
        assert event.get_data() == one["data"]
        assert event.get_extension("subjectseq") == one["subjectseq"]
        status, schema = world.call("GET", one["dataschema"])
        assert (status, schema["title"]) == (200, one["type"])


def read_frames(response: http.client.HTTPResponse, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    frame: dict[str, str] = {}
    while len(found) < count:
        line = response.readline().decode().rstrip("\n")
        if line:
            name, _, value = line.partition(": ")
            frame[name] = value
        else:
            if "data" in frame:
                event = json.loads(frame["data"])
                assert frame["id"] == event["sequence"]
                assert frame["event"] == event["type"]
                found.append(event)
            frame = {}
    return found


def test_server_sent_events_resume_behind_the_last_one_seen(world: World) -> None:
    ticket = world.open(1)[0]
    cursor = world.events()[-1]["sequence"]
    for text in ("one", "two", "three"):
        world.reply(ticket, text)

    def follow(last: str, count: int) -> list[dict[str, Any]]:
        line = http.client.HTTPConnection(world.base.removeprefix("http://"), timeout=15)
        headers = {"authorization": "Bearer sb_integrator", "last-event-id": last}
        line.request("GET", "/v1/events/stream", headers=headers)
        response = line.getresponse()
        assert response.headers["content-type"].startswith("text/event-stream")
        found = read_frames(response, count)
        line.close()
        return found

    first = follow(cursor, 2)
    rest = follow(first[-1]["sequence"], 1)
    assert [one["data"]["text"] for one in first + rest] == ["one", "two", "three"]


def test_what_cannot_be_asked_is_refused_by_name(world: World) -> None:
    for query, pointer in (
        ("after=x", "after"),
        ("types=ticket.eaten", "types"),
        ("wait=99", "wait"),
        ("page=1", "page"),
    ):
        status, body = world.call("GET", f"/v1/events?{query}")
        assert (status, body["errors"][0]["pointer"]) == (400, pointer)
    assert world.call("GET", "/v1/events", key="agent")[0] == 403
