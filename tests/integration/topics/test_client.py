"""The Python client against the real gateway: pushes, acts, follows, verifies, and carries on through trouble."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests.support.http_sink import Answer, HttpSink
from tests.support.topics_world import KEYS, World, until

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "clients" / "python"))
from signalbox_client import Client, Conflict, FileCursor, Forged, Refused, Unavailable, verify


@pytest.fixture
def client(world: World) -> Client:
    return Client(world.base, KEYS["integrator"])


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with HttpSink() as listening:
        yield listening


def test_pushing_twice_opens_one_ticket_and_another_body_is_a_conflict(client: Client) -> None:
    ticket = {"subject": "VPN 断线", "source": "monitor", "external_id": "4711"}
    first = client.push(ticket)
    assert client.push(ticket)["id"] == first["id"]
    with pytest.raises(Conflict):
        client.push(ticket | {"subject": "something else"})
    assert client.ticket(first["id"])["subject"] == "VPN 断线"
    with pytest.raises(Refused) as refused:
        client.push({"subject": "x", "colour": "red"})
    assert refused.value.errors[0]["pointer"] == "/colour"


def test_many_are_pushed_in_batches_with_an_outcome_each(client: Client) -> None:
    tickets = [{"subject": f"t{n}", "source": "monitor", "external_id": str(n)} for n in range(25)]
    outcomes = list(client.push_many([*tickets, {"nonsense": True}], batch=10))
    assert len(outcomes) == 26
    assert len({one["id"] for one in outcomes[:25]}) == 25
    assert outcomes[25]["status"] >= 400


def test_acting_returns_the_ticket(client: Client, world: World) -> None:
    ticket = client.push({"subject": "printer"})
    noted = client.act(ticket["id"], "note", text="seen")
    assert noted["version"] == ticket["version"] + 1
    with pytest.raises(Conflict):
        client.act(ticket["id"], "note", text="late", expected_version=1)


def test_a_reader_goes_on_after_a_crash_with_the_event_it_had_not_finished(
    client: Client, world: World, tmp_path: Path
) -> None:
    ticket = world.open(1)[0]
    for text in ("one", "two", "three"):
        world.reply(ticket, text)
    path = tmp_path / "cursor"
    reading = client.events(types=["ticket.replied"], cursor=FileCursor(path), wait=1)
    first = [event["data"]["text"] for event in islice(reading, 2)]  # dies while it has the second in hand
    reading.close()
    again = client.events(types=["ticket.replied"], cursor=FileCursor(path), wait=1)
    rest = [event["data"]["text"] for event in islice(again, 2)]
    assert (first, rest) == (["one", "two"], ["two", "three"])


def test_webhooks_are_verified(client: Client, world: World, sink: HttpSink) -> None:
    ticket = world.open(1)[0]
    with world.notifier():
        made = client.subscribe(sink.url + "/hook", types=["ticket.replied"], order="ticket")
        world.reply(ticket)
        request = until(lambda: sink.to("/hook"))[0]
    assert verify(["whsec_b3RoZXI=", made["secret"]], request.headers, request.body)["subject"] == str(ticket)
    with pytest.raises(Forged):
        verify(made["secret"], request.headers, request.body + b" ")
    with pytest.raises(Forged):
        verify(made["secret"], request.headers, request.body, now=0)
    client.unsubscribe(made["id"])


def test_what_is_away_is_asked_again_and_then_said(sink: HttpSink) -> None:
    sink.script("/v1/tickets", Answer(status=503), Answer(cut=True), then=Answer(body=b'{"id": "1"}'))
    assert Client(sink.url, "k").push({"subject": "x"}) == {"id": "1"}
    keys = {request.headers["idempotency-key"] for request in sink.requests}
    assert (len(sink.requests), len(keys)) == (3, 1)
    sink.script("/v1/tickets", then=Answer(status=503))
    with pytest.raises(Unavailable) as failure:
        Client(sink.url, "k", patience=0.2).push({"subject": "x"})
    assert failure.value.status == 503
