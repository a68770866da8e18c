"""Topics: many events, three consumers, kills and flushes in between. Each must see every event, in order within a ticket, gapless.

    python -m bench.topics [--events 50000]

The consumers: a Redis consumer group on `signalbox:topic:all`, a reader by cursor over HTTP, and a webhook subscription in order of
tickets. Meanwhile the notifier (which publishes and delivers) is killed every few seconds and Redis is flushed twice.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis

from bench.tools.house import House, house
from bench.tools.meter import Verdicts, load
from services.control import publish
from shared.contracts.events import TicketReplied
from shared.runtime.clock import monotonic, utc_now
from shared.runtime.settings import Settings
from tests.support.http_sink import Answer, HttpRequest, HttpSink
from tests.support.ledger import act_on, open_some
from tests.support.topics_world import gateway

KILL_SECONDS = 4.0


@dataclass(slots=True)
class Seen:
    """What one consumer saw: positions by subject, in order of first arrival."""

    name: str
    by_subject: dict[str, list[int]] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    repeats: int = 0
    disorder: int = 0

    def note(self, event: dict[str, Any]) -> None:
        """Take an event; one that is known is a repetition, one before its predecessor is disorder."""
        if event["id"] in self.ids:
            self.repeats += 1
            return
        self.ids.add(event["id"])
        line = self.by_subject.setdefault(event["subject"], [])
        self.disorder += event["subjectseq"] != (line[-1] + 1 if line else 1)
        line.append(event["subjectseq"])


def from_streams(url: str, seen: Seen, stop: threading.Event) -> None:
    """A consumer group, made again after a flush from the last entry it knows; what comes again is known by its id."""
    client = redis.Redis.from_url(url, socket_timeout=5)
    last = "0"
    while not stop.is_set():
        try:
            answer: Any = client.xreadgroup("bench", "one", {"signalbox:topic:all": ">"}, count=500, block=500)
            streams = answer.items() if isinstance(answer, dict) else answer or []
            for _, entries in streams:
                flat = entries[0] if entries and isinstance(entries[0], list) else entries
                for entry, members in flat:
                    seen.note(json.loads(members[b"event"]))
                    last = entry.decode()
                if flat:
                    client.xack("signalbox:topic:all", "bench", *[entry for entry, _ in flat])
        except redis.ResponseError:  # NOGROUP: the first time, and after a flush
            try:
                client.xgroup_create("signalbox:topic:all", "bench", id=last, mkstream=True)
            except redis.ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
        except redis.RedisError:
            stop.wait(0.2)


def from_cursor(call: Callable[..., Any], seen: Seen, stop: threading.Event) -> None:
    """Pages by cursor, waiting at the end."""
    after = ""
    while not stop.is_set():
        status, page = call("GET", f"/v1/events?after={after}&limit=1000&wait=1")
        if status == 200:
            for event in page["items"]:
                seen.note(event)
            after = page["next"]


def produce(here: House, count: int) -> int:
    """So many events: tickets opened in batches, then several acts on each, out of step; returns how many there are."""
    deps, made = here.deps("producer"), 0
    tickets: list[int] = []
    while made < count // 5:
        tickets += open_some(deps.engine, 500)
        made += 500
    while made < count:
        for start in range(0, len(tickets), 100):
            with deps.engine.begin() as connection:
                for ticket in tickets[start : start + 100]:
                    act_on(connection, ticket, TicketReplied(author="agent", text="on it"))
            made += len(tickets[start : start + 100])
    deps.engine.dispose()
    return made


def main() -> int:
    """Run, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    wanted, verdicts = parser.parse_args().events, Verdicts()
    with house() as here, HttpSink() as sink:
        settings = here.fresh("topics")
        deps = here.deps()
        with deps.engine.connect() as connection:
            checked = publish.load("selected", publish.years_around(utc_now()))
            publish.publish(deps, connection, checked.playbook, by="bench")
        run(here, settings, sink, wanted, verdicts)
        deps.engine.dispose()
    return 1 if verdicts.failed else 0


def notifier(settings: Settings) -> subprocess.Popen[bytes]:
    """The service as `run` starts it; test mode lets webhooks reach the loopback address."""
    environment = dict(
        os.environ, SIGNALBOX_DATABASE_URL=str(settings.database_url), SIGNALBOX_REDIS_URL=str(settings.redis_url),
        SIGNALBOX_TEST_MODE="1", SIGNALBOX_METRICS="127.0.0.1:0",
    )  # fmt: skip
    command = [sys.executable, "-m", "services.control.cli", "run", "notifier"]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=sys.stderr
    )


def run(here: House, settings: Settings, sink: HttpSink, wanted: int, verdicts: Verdicts) -> None:
    streams, cursor, webhook = Seen("streams"), Seen("cursor"), Seen("webhook")
    lock, stop = threading.Lock(), threading.Event()

    def take(request: HttpRequest) -> Answer:
        with lock:
            webhook.note(json.loads(request.body))
        return Answer()

    sink.script("/hook", then=take)
    with gateway(settings) as call:
        made = call("POST", "/v1/subscriptions", {"url": sink.url + "/hook", "order": "ticket", "after": "0"})
        assert made[0] == 201, made
        consumers = [
            threading.Thread(target=from_streams, args=(str(settings.redis_url), streams, stop)),
            threading.Thread(target=from_cursor, args=(call, cursor, stop)),
        ]
        for consumer in consumers:
            consumer.start()
        started = monotonic()
        worker = notifier(settings)
        counted: list[int] = []
        producer = threading.Thread(target=lambda: counted.append(produce(here, wanted)))
        producer.start()
        kills = flushes = 0
        while producer.is_alive() or kills < 4:
            stop.wait(KILL_SECONDS)
            worker.kill()
            worker.wait()
            kills += 1
            if kills in (2, 3):
                here.redis.flushall()
                flushes += 1
            worker = notifier(settings)
        producer.join()
        total = call("GET", "/v1/events?after=latest")[1]["next"]
        everything = _all_ids(call)
        deadline = monotonic() + 180
        while monotonic() < deadline and not all(everything <= seen.ids for seen in (streams, cursor, webhook)):
            stop.wait(0.2)
        seconds = monotonic() - started
        stop.set()
        worker.terminate()
        worker.wait()
        for consumer in consumers:
            consumer.join()
    print(
        f"{len(everything):,} events (position {int(total):,}), {kills} kills, {flushes} flushes, {seconds:.0f} s, {load()}"
    )
    for seen in (streams, cursor, webhook):
        verdicts.most(f"{seen.name}: events not seen", len(everything - seen.ids), 0)
        verdicts.most(f"{seen.name}: gaps or disorder within a ticket", seen.disorder, 0)
        print(f"     {seen.name}: {seen.repeats:,} repetitions, known by their id")


def _all_ids(call: Callable[..., Any]) -> set[str]:
    found: set[str] = set()
    after = ""
    while True:
        page = call("GET", f"/v1/events?after={after}&limit=1000")[1]
        if not page["items"]:
            return found
        found |= {event["id"] for event in page["items"]}
        after = page["next"]


if __name__ == "__main__":
    sys.exit(main())
