"""Fan-out while workers are killed, Redis is flushed and sinks misbehave: nothing is lost, and a second copy has a reason.

    python -m bench.notify_faults [--tickets 40] [--seconds 40]         (--tickets 500 --seconds 240 for the full size)

Each note on a ticket is for 100 people, on three channels: SMS through an interface that folds repeated ids and can be asked,
a webhook that folds them, and mail, which does neither. Half of the mails belong to a class that wants a second copy rather than
none, half to one that does not. Two processes of the notifier are killed at crash points and at random; sinks cut the connection
after they have taken a message, answer 429 and 503, and hang. Judged by what the sinks recorded and by read-only SQL.
"""

# ruff: noqa: E501 - sentences of figures read better whole

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import psycopg
import redis
import yaml

from bench.tools.meter import Verdicts, load
from bench.tools.noted import note
from services.control import platform
from services.control.commands.up import prepare
from shared.runtime.embedded.postgres import PostgresServer, start_postgres
from shared.runtime.embedded.valkey import ValkeyServer, start_valkey
from shared.runtime.settings import Settings
from tests.faults.keeper import Keeper
from tests.support.http_sink import Answer, HttpRequest, HttpSink
from tests.support.servers import claimed_home
from tests.support.smtp_sink import SmtpSink
from tests.support.wait import until

SECRET = "whsec_bm90aWZ5IGZhdWx0cyBhcmUgd2hhdCB3ZSBsaXZlIHdpdGg="
PEOPLE = 100
POINTS = ("lane.claimed", "lane.saved", "lane.committed", "delivery.claimed", "delivery.called", "delivery.recorded")
KILL_SECONDS, FLUSH_SECONDS, CUT_MAIL_SECONDS = 2.0, 7.0, 1.5


@dataclass
class World:
    """Servers, sinks, and what the notifier's processes are given."""

    home: Path
    postgres: PostgresServer
    valkey: ValkeyServer
    settings: Settings

    @property
    def environment(self) -> dict[str, str]:
        return {
            "SIGNALBOX_DATABASE_URL": self.postgres.url, "SIGNALBOX_REDIS_URL": self.valkey.url,
            "SIGNALBOX_HOME": str(self.home), "SIGNALBOX_TEST_MODE": "1", "FAULTS_SECRET": SECRET,
        }  # fmt: skip

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The judge's own look at the database."""
        with psycopg.connect(self.postgres.url, connect_timeout=5) as connection:
            connection.read_only = True
            return connection.execute(statement, values or None).fetchall()


@dataclass
class Moody:
    """What stands behind an HTTP sink: takes messages, and often does not say so. Never folds a repeated id: it counts them."""

    seed: int
    calm: bool = False
    came: Counter[str] = field(default_factory=Counter)
    moods: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    def sms(self, request: HttpRequest) -> Answer:
        """The generic SMS interface."""
        if request.method == "GET":
            number = request.path.rpartition("/")[2]
            found = {"id": number, "status": "accepted", "provider_id": number}
            return Answer(200, orjson.dumps(found)) if self.came[number] else Answer(404)
        ids = [one["id"] for one in orjson.loads(request.body)["messages"]]
        results = [{"id": one, "status": "accepted", "provider_id": one} for one in ids]
        return self._take(ids, Answer(200, orjson.dumps({"results": results})))

    def hook(self, request: HttpRequest) -> Answer:
        """A webhook's endpoint."""
        return self._take([request.headers["webhook-id"]], Answer(200))

    def _take(self, ids: list[str], answer: Answer) -> Answer:
        mood = "calm" if self.calm else self._mood()
        self.moods[mood] += 1
        if mood in ("503", "429"):
            return Answer(int(mood), headers={"retry-after": "1"})
        self.came.update(ids)
        if mood == "cut":
            return replace(answer, cut=True)
        return replace(answer, delay_seconds=5.0) if mood == "hang" else answer

    def _mood(self) -> str:
        place = self._chance.random()
        return (
            "cut"
            if place < 0.03
            else "503"
            if place < 0.06
            else "429"
            if place < 0.08
            else "hang"
            if place < 0.085
            else "calm"
        )


def playbook(folder: Path, http: str, smtp: str) -> None:
    """Two crowds: the first hears on every channel, and both get a mail, in two classes."""
    people = {
        f"p{n:03}": {"name": f"P{n}", "zone": "UTC", "locale": "en", "contacts": {
            "email": f"p{n:03}@faults.example", "phone": f"+1500{n:07}", "push": f"{http}/hook?n={n}"}}
        for n in range(PEOPLE)
    }  # fmt: skip
    names = list(people)

    def provider(name: str, channel: str, driver: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "channel": channel, "driver": driver, "timeout": "2s", "allow": ["127.0.0.0/8"]} | more

    def rule(name: str, group: str, plan: list[str], on_unknown: str) -> dict[str, Any]:
        words = {"title": "{{ ticket.number }}", "text": "{{ ticket.number }}: somebody has written a note."}
        return {
            "name": name, "on": ["ticket.noted"], "on_unknown": on_unknown, "audience": [{"to": [f"group:{group}"]}],
            "plan": [{"channel": channel} for channel in plan], "templates": {"any": {"en": words}},
        }  # fmt: skip

    key = {"secret": {"env": "FAULTS_SECRET"}}
    document = {
        "name": "notify-faults", "taxonomy": {}, "triage": "all", "agents": people, "rules": [],
        "groups": {
            "all": {"title": "All", "members": names, "lead": "p000"},
            "wants": {"title": "Wants", "members": names[: PEOPLE // 2], "lead": "p000"},
            "careful": {"title": "Careful", "members": names[PEOPLE // 2 :], "lead": "p000"},
        },
        "channels": [
            provider("sms", "sms", "signed_http_sms", base_url=f"{http}/sms", secrets=key),
            provider("push", "push", "webhook", secrets=key),
            provider("mail", "mail", "smtp", base_url=smtp, settings={"from_address": "desk@faults.example"}),
        ],
        "messages": {"default_locale": "en", "rules": [
            rule("told", "all", ["sms", "push"], "keep"),
            rule("urgent-mail", "wants", ["mail"], "resend"),
            rule("careful-mail", "careful", ["mail"], "keep"),
        ]},
    }  # fmt: skip
    folder.mkdir()
    (folder / "faults.yaml").write_text(yaml.safe_dump(document, sort_keys=False))


@contextmanager
def world(moody: Moody, smtp: SmtpSink, http: HttpSink) -> Iterator[World]:
    """Servers of the run's own, migrated, its playbook published."""
    with claimed_home(f"notify-faults-{uuid.uuid4().hex[:8]}") as home:
        postgres, valkey = start_postgres(home, fsync=False), start_valkey(home)
        http.script("/sms", then=moody.sms)
        http.script("/hook", then=moody.hook)
        playbook(home / "playbook", http.url, smtp.url)
        settings = replace(
            Settings.from_environment({}), database_url=postgres.url, redis_url=valkey.url, home=home,
            playbook=str(home / "playbook"), admin_key="notify-faults",
        )  # fmt: skip
        prepare(settings)
        yield World(home, postgres, valkey, settings)


def note_tickets(deps: Any, count: int, seconds: float, stop: threading.Event) -> None:
    """Open tickets evenly over the time, with a note each."""
    for number in range(count):
        note(deps, number)
        stop.wait(seconds / count)


def torment(here: World, keeper: Keeper, smtp: SmtpSink, busy: threading.Thread) -> Counter[str]:
    """Kill, flush and cut until all has been asked for and every crash point has been died at."""
    done: Counter[str] = Counter()
    turns = {"kill": KILL_SECONDS, "flush": FLUSH_SECONDS, "cut mail": CUT_MAIL_SECONDS}
    due = {name: time.monotonic() + every for name, every in turns.items()}
    client = redis.Redis.from_url(here.valkey.url, socket_timeout=5)
    deadline = time.monotonic() + 600
    while busy.is_alive() and time.monotonic() < deadline:
        time.sleep(0.05)
        for name, at in due.items():
            if time.monotonic() < at:
                continue
            due[name] = time.monotonic() + turns[name]
            done[name] += 1
            if name == "kill":
                keeper.kill_one("notifier")
            elif name == "flush":
                client.flushall()
            else:
                smtp.cut_after_dot += 2
    keeper.disarm()
    return done


UNDER_WAY = """
select (select count(*) from ledger.agenda where service = 'notifier' and due_at is not null and quarantined_at is null)
"""
MESSAGES = """
select id, rule, channel, state, reason, (select count(*) from jsonb_array_elements(attempts) a where a ->> 'outcome' = 'unknown')
from notifier.message
"""


def judge(here: World, came: Counter[str], tickets: int, verdicts: Verdicts) -> None:
    """Every promise once and kept; copies only with a reason."""
    promised = here.rows(
        "select count(*), count(distinct (event_item, event_version, recipient, channel)) from notifier.notification"
    )
    verdicts.most("promises that were not made", tickets * PEOPLE * 3 - promised[0][1], 0)
    verdicts.most("promises made twice", promised[0][0] - promised[0][1], 0)
    messages = {f"sb-{row[0]}": row for row in here.rows(MESSAGES)}
    states = Counter(f"{row[2]} {row[3]}" for row in messages.values())
    print(f"     messages by channel and state: {dict(sorted(states.items()))}")
    verdicts.most("messages that nobody planned", len(came.keys() - messages.keys()), 0)
    ended = ("sent", "unknown", "failed")
    verdicts.most("messages without an end", sum(row[3] not in ended for row in messages.values()), 0)
    missing = [row for name, row in messages.items() if not came[name]]
    told = [row for row in missing if row[3] == "failed" and row[4]]
    kept = [row for row in missing if row[3] == "unknown" and row[1] == "careful-mail"]
    verdicts.most(
        "lost: neither arrived nor recorded as failed, or as unknown by a class that prefers none",
        len(missing) - len(told) - len(kept),
        0,
    )
    print(
        f"     not arrived and recorded as such: {len(told)} failed with a reason, {len(kept)} unknown of the careful class"
    )
    copies = {name: count - 1 for name, count in came.items() if count > 1}
    verdicts.most(
        "copies beyond the unknowns recorded before them",
        sum(max(0, extra - messages[name][5]) for name, extra in copies.items() if name in messages),
        0,
    )
    careful = sum(extra for name, extra in copies.items() if name in messages and messages[name][1] == "careful-mail")
    verdicts.most("copies of a class that does not want any", careful, 0)
    kinds = Counter(messages[name][2] for name in copies if name in messages)
    print(f"     second copies, each with its first one's id: {sum(copies.values())} {dict(kinds)}")
    quarantined = here.rows("select service, kind, id, error from ledger.agenda where quarantined_at is not null")
    verdicts.most("items in quarantine", len(quarantined), 0)


def mails(smtp: SmtpSink) -> Counter[str]:
    """What came to the mail server, whether or not it could say so."""
    return Counter(str(one.parsed["Message-ID"]).strip("<>").partition("@")[0] for one in smtp.messages)


def main() -> int:
    """Run, wait for the end, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickets", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    verdicts, moody, stop = Verdicts(), Moody(options.seed), threading.Event()
    with ExitStack() as stack:
        http, smtp = stack.enter_context(HttpSink()), stack.enter_context(SmtpSink())
        here = stack.enter_context(world(moody, smtp, http))
        engine = platform.engine(here.settings, "bench", pool_size=2)
        deps = platform.deps(here.settings, engine)
        points = [("notifier", name, (2, 6)) for name in POINTS]
        keeper = stack.enter_context(Keeper(here, count=2, points=points, seed=options.seed, services=("notifier",)))  # type: ignore[arg-type]
        busy = threading.Thread(target=note_tickets, args=(deps, options.tickets, options.seconds, stop))
        started = time.monotonic()
        busy.start()
        done = torment(here, keeper, smtp, busy)
        moody.calm, smtp.cut_after_dot, last = True, 0, time.monotonic()
        until(lambda: here.rows(UNDER_WAY)[0][0] == 0, seconds=300, what="nothing is under way", every_seconds=0.3)
        seconds = time.monotonic() - last
        missed = [name for name in POINTS if not keeper.hits[f"notifier {name}"]]
        print(
            f"     {options.tickets * PEOPLE * 3:,} deliveries asked for in {last - started:.0f} s, settled {seconds:.0f} s after the last fault;"
            f" {sum(keeper.killed.values())} killed, {sum(keeper.hits.values())} died at crash points (not at {missed}),"
            f" {done['flush']} flushes; HTTP answers {dict(moody.moods)}, {2 * done['cut mail']} mails cut  [{load()}]"
        )
        judge(here, moody.came + mails(smtp), options.tickets, verdicts)
        verdicts.most("deaths that nobody ordered", len(keeper.strange), 0)
        engine.dispose()
    return 1 if verdicts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
