"""The intake queues: confirmed after the commit, once, whatever dies or is flushed in between."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from services.gateway.streams import GROUP, STREAM
from tests.integration.gateway.test_edge import BAD_BODIES, NAMES
from tests.support.door import Door, open_door
from tests.support.journal import Journal, judge, read, told
from tests.support.load import Plan
from tests.support.proxy import FaultProxy
from tests.support.servers import TestServers
from tests.support.stream_load import ACCEPTED, REJECTED, ConfirmingProducer
from tests.support.wait import until

README_PRODUCER = """
import json, sys
import dramatiq
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=sys.argv[1]))


@dramatiq.actor(queue_name="intake")
def submit_tickets(tickets): ...


for line in sys.stdin:
    submit_tickets.send(json.loads(line))
"""


@dataclass
class Queues:
    """A gateway that listens on its queues, and a producer's view of Redis."""

    door: Door
    redis: Any
    redis_url: str
    proxy: FaultProxy
    """Between the gateway and its database."""

    def add(self, *tickets: Any) -> list[str]:
        bodies = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in tickets]
        return [self.redis.xadd(STREAM, {"ticket": body}) for body in bodies]

    def answers(self, stream: str, count: int) -> list[dict[str, str]]:
        """The last `count` entries of an answering stream that were added since the fixture was made."""
        until(lambda: self.redis.xlen(stream) >= count, what=f"{count} entries on {stream}", seconds=30)
        return [members for _, members in reversed(self.redis.xrevrange(stream, count=count))]

    def count(self, source: str) -> int:
        return int(self.door.scalar("select count(*) from ledger.ticket where source = %s", source))

    def left(self) -> tuple[int, int]:
        """Entries in the stream, and those that a consumer has in hand."""
        return self.redis.xlen(STREAM), self.redis.xpending(STREAM, GROUP)["pending"]

    def send(self, *messages: Any) -> None:
        """Messages of a stock Dramatiq producer in a process of its own."""
        lines = "\n".join(json.dumps(one) for one in messages)
        command = [sys.executable, "-c", README_PRODUCER, self.redis_url]
        subprocess.run(command, input=lines, text=True, check=True, timeout=60)


@pytest.fixture(scope="module")
def shared(servers: TestServers) -> Iterator[Queues]:
    with (
        servers.fresh_database() as url,
        servers.fresh_redis() as redis_url,
        FaultProxy(url) as proxy,
        open_door(url, redis_url=redis_url, gateway_database_url=proxy.url(url)) as door,
        redis.Redis.from_url(redis_url, decode_responses=True) as client,
    ):
        yield Queues(door, client, redis_url, proxy)


@pytest.fixture
def queues(shared: Queues) -> Iterator[Queues]:
    shared.proxy.heal()
    until(lambda: shared.redis.exists(STREAM), what="the gateway listens")
    shared.redis.delete(ACCEPTED, REJECTED)
    yield shared
    shared.proxy.heal()
    until(lambda: shared.left() == (0, 0), what="everything is acknowledged", seconds=30)


def ticket(source: str, number: int, **members: Any) -> dict[str, Any]:
    return {"subject": "wifi down", "source": source, "external_id": str(number)} | members


def test_entries_are_confirmed_once_they_are_committed_and_then_leave_the_stream(queues: Queues) -> None:
    source = queues.door.name("stream")
    queues.add(*(ticket(source, number) for number in range(1_200)))
    accepted = queues.answers(ACCEPTED, 1_200)
    assert {one["external_id"] for one in accepted} == {str(number) for number in range(1_200)}
    assert {one["source"] for one in accepted} == {source}
    for one in accepted[:5]:
        assert queues.door.get(f"/v1/tickets/{one['id']}").json["external_id"] == one["external_id"]
    assert queues.count(source) == 1_200
    until(lambda: queues.left() == (0, 0))


def test_an_entry_sent_again_is_confirmed_again_with_the_same_id_and_another_body_rejected(queues: Queues) -> None:
    source = queues.door.name("stream")
    queues.add(ticket(source, 1), ticket(source, 1))
    one, two = queues.answers(ACCEPTED, 2)
    assert one == two
    queues.add(ticket(source, 1, body="more"))
    [refused] = queues.answers(REJECTED, 1)
    assert refused["reason"] == "/external_id: came with another body before"
    assert json.loads(refused["original"])["body"] == "more"
    assert queues.count(source) == 1


@pytest.mark.parametrize(("body", "pointer", "reason"), BAD_BODIES, ids=NAMES)
def test_what_is_no_ticket_is_rejected_with_reason_and_original(
    queues: Queues, body: bytes, pointer: str, reason: str
) -> None:
    source = queues.door.name("stream")
    queues.add(ticket(source, 1), body, ticket(source, 2))
    queues.answers(ACCEPTED, 2)
    until(lambda: queues.redis.xlen(REJECTED), what="a reject")
    with redis.Redis.from_url(queues.redis_url) as plain:
        [(_, refused)] = plain.xrange(REJECTED)
    assert refused[b"reason"].decode().startswith(f"{pointer or '/'}: ")
    assert reason in refused[b"reason"].decode()
    assert refused[b"original"] == body[:65_536]
    assert queues.count(source) == 2


def test_an_entry_without_the_field_ticket_is_rejected(queues: Queues) -> None:
    queues.redis.xadd(STREAM, {"Ticket": "{}"})
    assert "no field `ticket`" in queues.answers(REJECTED, 1)[0]["reason"]


def test_what_a_dead_consumer_has_in_hand_is_taken_over_and_opened_once(queues: Queues) -> None:
    source = queues.door.name("stream")
    queues.proxy.refuse()  # so that the gateway does not get at them first: it reads, and then waits for its database
    queues.add(ticket(source, 0))
    until(lambda: queues.left() == (1, 1), what="the gateway holds an entry")
    queues.add(*({"subject": "nameless", "source": source} for _ in range(3)))
    dead = queues.redis.xreadgroup(GROUP, "dead", {STREAM: ">"}, count=10)
    assert len(next(iter(dead.values()))[0] if isinstance(dead, dict) else dead[0][1]) == 3
    queues.proxy.heal()
    accepted = queues.answers(ACCEPTED, 4)
    assert len({one["id"] for one in accepted}) == queues.count(source) == 4


def test_an_entry_taken_twice_opens_one_ticket_even_without_an_external_id(queues: Queues) -> None:
    source = queues.door.name("stream")
    [entry] = queues.add({"subject": "nameless", "source": source})
    [one] = queues.answers(ACCEPTED, 1)
    until(lambda: queues.left() == (0, 0))
    # as after a death between commit and acknowledgement: the same entry is there again
    queues.redis.delete(STREAM)
    queues.redis.xadd(STREAM, {"ticket": json.dumps({"subject": "nameless", "source": source})}, id=entry)
    assert queues.answers(ACCEPTED, 2)[1] == one
    assert queues.count(source) == 1


class FlushingJournal(Journal):
    """Flushes Redis three times, in the middle of what is under way: the journal's own lines are its clock."""

    def __init__(self, path: Path, redis_url: str) -> None:
        super().__init__(path)
        self._client = redis.Redis.from_url(redis_url)
        self._lines = 0
        self.flushes = 0

    def write(self, *args: Any, **members: Any) -> None:
        super().write(*args, **members)
        self._lines += 1
        if self._lines % 300 == 150 and self.flushes < 3:
            self.flushes += 1
            self._client.flushdb()


def test_a_flushed_redis_is_set_up_again_and_what_was_not_confirmed_is_sent_again(
    queues: Queues, tmp_path: Path
) -> None:
    source = queues.door.name("flush")
    queues.proxy.latency_seconds = 0.05
    plan = Plan(tickets=600, source=source, rate_per_second=200, give_up_seconds=60)
    with FlushingJournal(tmp_path / "journal", queues.redis_url) as journal:
        result = ConfirmingProducer(queues.redis_url, plan, journal, resend_after_seconds=1).run()
    queues.proxy.latency_seconds = 0.0
    assert (result.accepted, result.open) == (600, 0)
    with queues.door.database.connect() as connection:
        rows = connection.exec_driver_sql(
            "select source, external_id, id::text from ledger.ticket where source = %s", (source,)
        )
        judged = judge(told(read(tmp_path / "journal")), [tuple(row) for row in rows])
    assert judged.holds, judged
    assert journal.flushes == 3


def test_entries_wait_for_a_database_that_is_away(queues: Queues) -> None:
    source = queues.door.name("stream")
    queues.proxy.refuse()
    queues.add(*(ticket(source, number) for number in range(5)))
    until(lambda: queues.left()[1], what="the gateway holds some of them")
    assert queues.redis.xlen(ACCEPTED) == 0
    queues.proxy.heal()
    assert len(queues.answers(ACCEPTED, 5)) == 5
    assert queues.count(source) == 5


# ---- Dramatiq -------------------------------------------------------------------------------------------------------------


def test_tickets_of_a_stock_dramatiq_producer_are_taken_confirmed_and_rejected(queues: Queues) -> None:
    source = queues.door.name("dramatiq")
    strange = [{"subject": ""}, {"subject": "a\0b"}, {"subject": "a", "fields": {"x": float("nan")}}, "no ticket", None]
    many = [ticket(source, number) for number in range(1_100)]
    queues.send([ticket(source, 1), ticket(source, 2), *strange], many, {"subject": "no list"})
    accepted = queues.answers(ACCEPTED, 1_102)
    assert {one["external_id"] for one in accepted} == {str(number) for number in range(1_100)}
    refused = queues.answers(REJECTED, len(strange) + 1)
    assert [one["reason"].partition(": ")[0] for one in refused] == ["/subject", "/subject", "/fields/x", "/", "/", "/"]
    assert json.loads(refused[0]["original"]) == {"subject": ""}
    assert queues.count(source) == 1_100


def test_a_dramatiq_message_waits_for_a_database_that_is_away(queues: Queues) -> None:
    source = queues.door.name("dramatiq")
    queues.proxy.refuse()
    queues.send([{"subject": "nameless", "source": source}])
    until(lambda: queues.redis.keys("dramatiq:__acks__*"), what="the gateway holds the message")
    queues.proxy.heal()
    queues.answers(ACCEPTED, 1)
    assert queues.count(source) == 1
