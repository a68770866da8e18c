"""What the notifier promises about time and about one person: planned at once, never more than the caps, a dead channel alone.

    python -m bench.notify_promises [--events 200]        (--events 1000 for the full size)

First the service as `run` starts it, on real time: one event with 20 recipients on two channels at a time, from its commit to that of
its last promise; then steadily, first with both channels well and then with one that hangs or refuses, from planned to accepted on
the other. Then a desk on a moved clock: 1,000 events in a minute for one person, and a channel that is dead for 30 minutes.
"""

# ruff: noqa: E501 - sentences of figures read better whole

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from bench.notify_faults import SECRET
from bench.tools.house import ROOT, House, house
from bench.tools.meter import Verdicts, load, percentile
from bench.tools.noted import note
from services.control import publish
from services.notifier.channels.base import Kind, Outcome
from shared.ledger.process import Deps
from shared.runtime.clock import monotonic, pause, utc_now
from shared.ticket import commands as c
from tests.support.desk import Desk
from tests.support.http_sink import Answer, HttpRequest, HttpSink
from tests.support.servers import servers_of_run

PEOPLE = 20
BETWEEN_SECONDS = 0.05
CAPS = (3, timedelta(minutes=1)), (10, timedelta(hours=1))
PERSON = "xu.kai"


def playbook(folder: Path, url: str) -> None:
    """A crowd that hears of every note on two channels of its own providers."""
    people = {
        f"p{n:03}": {
            "name": f"P{n}",
            "zone": "UTC",
            "locale": "en",
            "contacts": {"left": f"{url}/left?n={n}", "right": f"{url}/right?n={n}"},
        }
        for n in range(PEOPLE)
    }
    providers = [
        {
            "name": name,
            "channel": name,
            "driver": "webhook",
            "timeout": "1s",
            "allow": ["127.0.0.0/8"],
            "secrets": {"secret": {"env": "FAULTS_SECRET"}},
        }
        for name in ("left", "right")
    ]
    words = {"any": {"en": {"title": "{{ ticket.number }}", "text": "{{ ticket.number }} {{ recipient.name }}"}}}
    rule = {
        "name": "noted",
        "on": ["ticket.noted"],
        "audience": [{"to": ["group:all"]}],
        "plan": [{"channel": "left"}, {"channel": "right"}],
        "templates": words,
    }
    document = {
        "name": "promises", "taxonomy": {}, "triage": "all", "agents": people, "rules": [],
        "groups": {"all": {"title": "All", "members": list(people), "lead": "p000"}},
        "channels": providers, "messages": {"default_locale": "en", "rules": [rule]},
    }  # fmt: skip
    (folder / "promises.yaml").write_text(yaml.safe_dump(document, sort_keys=False))


@contextmanager
def notifier(made: House, sink: HttpSink) -> Iterator[Deps]:
    """A fresh database with the playbook, and the service at work on it."""
    settings = made.fresh("promises")
    folder = Path(made.servers.home) / "playbook"
    folder.mkdir(exist_ok=True)
    playbook(folder, sink.url)
    deps = made.deps()
    with deps.engine.connect() as connection:
        checked = publish.load(str(folder), publish.years_around(utc_now()))
        publish.publish(deps, connection, checked.playbook, by="bench")
    environment = dict(
        os.environ, SIGNALBOX_DATABASE_URL=str(settings.database_url), SIGNALBOX_REDIS_URL=str(settings.redis_url),
        SIGNALBOX_TEST_MODE="1", SIGNALBOX_METRICS="127.0.0.1:0", FAULTS_SECRET=SECRET, SIGNALBOX_HOME=str(folder.parent), SIGNALBOX_LOG="error",
    )  # fmt: skip
    command = [sys.executable, "-m", "services.control.cli", "run", "notifier"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield deps
    finally:
        process.terminate()
        process.wait(30)
        deps.engine.dispose()


PLANNED = """
select e.id, max(extract(epoch from pg_xact_commit_timestamp(n.xmin)) - extract(epoch from pg_xact_commit_timestamp(e.txid::xid)))::double precision,
    count(*)
from ledger.event e join notifier.notification n on n.event_kind = 'ticket' and n.event_item = e.id and n.event_version = e.version
where e.kind = 'ticket' and e.type = 'ticket.noted' and e.id = any(%s) group by 1
"""
TOOK = """
select extract(epoch from (attempts -> 0 ->> 'at')::timestamptz - created_at)::double precision as seconds from notifier.message
where channel = 'left' and ticket_id = any(%s) and state = 'sent'
"""


def rows(deps: Deps, statement: str, *values: Any) -> list[Any]:
    with deps.engine.connect() as connection:
        return list(connection.exec_driver_sql(statement, values))


def feed(deps: Deps, first: int, count: int) -> list[int]:
    """Events at a steady pace."""
    made = []
    for number in range(first, first + count):
        made.append(note(deps, number))
        pause(BETWEEN_SECONDS)
    return made


def settled(deps: Deps, tickets: list[int], channel: str) -> None:
    """Wait until every promise of these tickets on a channel is made and kept."""
    deadline = monotonic() + 60
    while (
        rows(
            deps,
            "select count(*) from notifier.message where ticket_id = any(%s) and channel = %s and state = 'sent'",
            tickets,
            channel,
        )[0][0]
        < len(tickets) * PEOPLE
    ):
        if monotonic() > deadline:
            raise RuntimeError(f"not everything was sent on {channel} within a minute")
        pause(0.1)


def on_real_time(events: int, verdicts: Verdicts) -> None:
    sick = threading.Event()
    turn = Counter[str]()

    def right(_: HttpRequest) -> Answer:
        turn["calls"] += 1
        return (
            Answer(503)
            if sick.is_set() and turn["calls"] % 2
            else Answer(200, delay_seconds=5.0 if sick.is_set() else 0.0)
        )

    with house(track_commit_timestamp="on") as made, HttpSink() as sink:
        sink.script("/right", then=right)
        with notifier(made, sink) as deps:
            settled(deps, feed(deps, 0, 20), "right")  # warm
            well = feed(deps, 1_000, events)
            settled(deps, well, "left")
            planned = [row[1] * 1000 for row in rows(deps, PLANNED, well)]
            print(
                f"     quiet: {len(planned)} events with {PEOPLE * 2} promises each: planned p50 {percentile(planned, 0.5):.1f} ms  [{load()}]"
            )
            verdicts.most("one event, all its deliveries planned, p99", percentile(planned, 0.99), 150, "ms")
            sick.set()
            ill = feed(deps, 100_000, events)
            settled(deps, ill, "left")
            before, after = ([row[0] * 1000 for row in rows(deps, TOOK, ids)] for ids in (well, ill))
            print(
                f"     planned to accepted, the other channel well: p50 {percentile(before, 0.5):.1f}, p99 {percentile(before, 0.99):.1f} ms;"
                f" dead: p50 {percentile(after, 0.5):.1f}, p99 {percentile(after, 0.99):.1f} ms  [{load()}]"
            )
            verdicts.most(
                "others' p99 beside a dead channel, to that beside a well one",
                percentile(after, 0.99) / percentile(before, 0.99),
                1.2,
                "x",
            )


def for_one_person(desk: Desk, verdicts: Verdicts) -> None:
    """A thousand events within a minute, all for one person, under the playbook's caps."""
    caps = ", ".join(f"{{limit: {limit}, per: {per.total_seconds():.0f}s}}" for limit, per in CAPS)
    changes = {
        "messages:\n": f"messages:\n  caps: [{caps}]\n", "capacity: 8,": "capacity: 5000,",
        "audience: [{to: [assignee]}]": f'audience: [{{to: ["person:{PERSON}"]}}]',
    }  # fmt: skip

    def changed(text: str) -> str:
        for old, new in changes.items():
            text = text.replace(old, new)
        return text

    desk.publish_changed(changed)
    for _ in range(20):
        desk.open_many([{"subject": "wifi down"} for _ in range(50)])
        desk.wait(seconds=3)
    desk.wait(hours=6)
    mine = desk.rows("select * from notifier.message where channel = 'sms' and recipient = %s order by id", PERSON)
    events = desk.rows(
        "select count(distinct (event_item, event_version)) from notifier.notification where channel = 'sms' and recipient = %s",
        PERSON,
    )[0][0]
    verdicts.least("events for one person, a thousand of them within a minute", events, 1_000)
    verdicts.most(
        "messages not sent or carried in the end", sum(row.state != "sent" for row in mine) + events - len(mine), 0
    )
    went = sorted(row.sent_at for row in mine if row.bundle is None)
    for limit, per in CAPS:
        over = sum(b - a < per for a, b in zip(went, went[limit:], strict=False))
        verdicts.most(f"times that more than {limit} went within {per}", over, 0)
    carriers = [job for job in desk.sent if job.carries and job.row.channel == "sms" and job.row.recipient == PERSON]
    inside = Counter(row.bundle for row in mine if row.bundle is not None)
    wrong = sum(
        inside[job.row.id] != job.carries or f"{job.carries + 1} 条消息" not in job.message.content.text
        for job in carriers
    )
    verdicts.most("digests that do not say all they carry", wrong, 0)
    print(
        f"     {events:,} events became {len(went)} messages, {len(carriers)} of them digests of {sum(inside.values()):,} others"
    )


def dead_for_half_an_hour(desk: Desk, verdicts: Verdicts) -> None:
    """SMS fails for 30 minutes of business time while tickets go on."""
    dead = True
    desk.answer = lambda job: (
        Outcome(Kind.TRANSIENT, code="503")
        if dead and job.row.channel == "sms"
        else Outcome(Kind.ACCEPTED, provider_id=f"p-{job.row.id}")
    )
    opened_at: Any = None
    before = 0
    for _ in range(30):
        for number in desk.open_many([{"subject": "wifi down"} for _ in range(5)]):
            desk.act(number, c.Note(text="again"), "sun.li") if number % 7 == 0 else None
        desk.wait(minutes=1)
        if opened_at is None:
            opened_at = desk.rows("select open_since from notifier.provider_state where provider = 'sms'")[0][0]
            before = sum(job.row.channel == "sms" for job in desk.sent)
    probes = sum(job.row.channel == "sms" for job in desk.sent) - before
    seconds = (desk.now - opened_at).total_seconds()
    verdicts.most(f"probes in {seconds:.0f} s of a dead channel", probes, seconds / 5)
    dead = False
    desk.wait(hours=2)
    states = Counter(
        (row.state, bool(row.reason))
        for row in desk.rows("select state, reason from notifier.message where channel = 'sms'")
    )
    print(f"     {probes} probes; afterwards (state, has a reason): {dict(states)}")
    bad = sum(count for (state, told), count in states.items() if not (state == "sent" or (state == "failed" and told)))
    verdicts.most("neither delivered nor failed with a reason afterwards", bad, 0)


def main() -> int:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200)
    verdicts, events = Verdicts(), parser.parse_args().events
    on_real_time(events, verdicts)
    os.environ["SIGNALBOX_SMS_KEY"] = SECRET
    with servers_of_run(f"promises{os.getpid()}", 0) as servers:
        for part in (for_one_person, dead_for_half_an_hour):
            with servers.fresh_database() as url:
                desk = Desk(url)
                part(desk, verdicts)
                desk.close()
    return 1 if verdicts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
