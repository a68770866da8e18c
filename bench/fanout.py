"""Fan-out with every state and attempt written, against local sinks; the same client without Signalbox in the same run.

    python -m bench.fanout [--deliveries 6000] [--only http,smtp,sms] [--processes 2]      (--deliveries 100000 for the full size)

Each note on a ticket is for a group of people. Planning runs in this process; claiming, sending and recording as in production (lane,
sender, recorder) in as many processes as the machine has cores, as a notifier of that size would. PostgreSQL is an embedded server
of its own, sinks are processes of their own. CPU is user and system time, of ours and of PostgreSQL, divided by deliveries. The
ratio compares sending (claimed, sent, recorded) with the same driver alone in one process. Prints a verdict for each figure, and
for one that does not hold what bounds it here; a busy machine changes rates and CPU much, and what it leaves to each side.
"""

# ruff: noqa: E501 - the playbook's text and the tables of cases read better whole

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from bench.fanout_drivers import HTTP_PORT, OK, SECRET, SMTP_PORT, driven, measure, sink
from services.control import platform, publish
from services.notifier.handlers import PlanMessages
from services.notifier.sender import ChannelSender
from services.notifier.sending import SendMessages
from shared.contracts.envelope import Actor, New
from shared.contracts.events import TicketNoted, TicketOpened
from shared.ledger import business
from shared.ledger.lane import Lane
from shared.ledger.tickets import Opening, lock, open_tickets
from shared.ledger.unit import Unit
from shared.runtime.clock import utc_now
from shared.runtime.settings import Settings
from tests.support.servers import TestServers, servers_of_run

PEOPLE = 100
ANNA = Actor(kind="person", id="p000")

CASES: dict[str, dict[str, Any]] = {
    "http": {
        "provider": '{name: out, channel: push, driver: webhook, concurrency: 64, secrets: {secret: {env: BENCH_SECRET}}, allow: ["127.0.0.0/8"]}',
        "channel": "push", "contact": f"push: 'http://127.0.0.1:{HTTP_PORT}/hook'", "driver": ("webhook", f"http://127.0.0.1:{HTTP_PORT}", f"http://127.0.0.1:{HTTP_PORT}/hook?n=%d", 1, 64),
        "extra": {"secrets": {"secret": SECRET}}, "ratio": 0.5, "cpu": 400.0, "urgency": "normal",
    },
    "smtp": {
        "provider": f'{{name: out, channel: mail, driver: smtp, concurrency: 16, base_url: "smtp://127.0.0.1:{SMTP_PORT}", settings: {{from_address: desk@example.com}}, allow: ["127.0.0.0/8"]}}',
        "channel": "mail", "contact": "email: 'user@example.com'", "driver": ("smtp", f"smtp://127.0.0.1:{SMTP_PORT}", "user%d@example.com", 100, 16),
        "extra": {"settings": {"from_address": "desk@example.com"}}, "ratio": 0.2, "cpu": 400.0, "urgency": "normal",
    },
    "sms": {
        "provider": f'{{name: out, channel: sms, driver: aliyun_sms, concurrency: 8, base_url: "http://127.0.0.1:{HTTP_PORT}", secrets: {{key_id: {{env: BENCH_SECRET}}, key_secret: {{env: BENCH_SECRET}}}}, settings: {{sign_name: 演示, template: SMS_1}}, allow: ["127.0.0.0/8"]}}',
        "channel": "sms", "contact": "phone: '+86185%08d'", "driver": ("aliyun_sms", f"http://127.0.0.1:{HTTP_PORT}", "185%08d", 100, 8),
        "extra": {"secrets": {"key_id": "k", "key_secret": "s"}, "settings": {"sign_name": "演示", "template": "SMS_1"}}, "ratio": 0.0, "cpu": 200.0, "urgency": "bulk",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Phase:
    """Seconds on the wall, and CPU microseconds of this process and of PostgreSQL, for one delivery each."""

    seconds: float
    own: float
    postgres: float

    @property
    def cpu(self) -> float:
        return self.own + self.postgres


def playbook(folder: Path, case: dict[str, Any]) -> None:
    """A playbook with one crowd that hears of every note on one channel."""
    people = "\n".join(
        f"  p{number:03}: {{name: P{number}, contacts: {{{case['contact'] % number if '%0' in case['contact'] else case['contact']}}}, locale: en, zone: UTC}}"
        for number in range(PEOPLE)
    )
    text = f"""name: bench
taxonomy: {{}}
groups:
  triage: {{title: All, members: [{", ".join(f"p{n:03}" for n in range(PEOPLE))}], lead: p000}}
agents:
{people}
channels:
  - {case["provider"]}
rules: []
messages:
  rules:
    - name: noted
      on: [ticket.noted]
      urgency: {case["urgency"]}
      audience: [{{to: ["group:triage"]}}]
      plan: [{{channel: {case["channel"]}}}]
      templates:
        any:
          en: {{title: "{{{{ ticket.number }}}}", text: "{{{{ ticket.number }}}} {{{{ ticket.subject }}}}: somebody has written a note.", variables: {{ticket: "{{{{ ticket.number }}}}"}}}}
"""
    (folder / "bench.yaml").write_text(text, encoding="utf-8")


def postgres_cpu(pids: Sequence[int]) -> float:
    """CPU seconds of the server's processes, ended ones included."""
    total = 0.0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
            for child in process.children(recursive=True):
                own = child.cpu_times()
                total += own.user + own.system
        except psutil.NoSuchProcess:
            continue
    return total


@contextmanager
def phase(count: int, pids: Sequence[int], into: list[Phase]) -> Iterator[None]:
    wall, own, server = time.perf_counter(), time.process_time(), postgres_cpu(pids)
    yield
    seconds = time.perf_counter() - wall
    into.append(Phase(seconds, (time.process_time() - own) / count * 1e6, (postgres_cpu(pids) - server) / count * 1e6))


def prepare(deps: Any, engine: Any, count: int) -> None:
    """Tickets with a note each; the notifier is due for every one."""
    with engine.begin() as connection:
        unit = Unit(connection, business.now(connection), ANNA, 1, given=True)
        openings = [
            Opening((New(TicketOpened(subject=f"no paper in room {n}", source="bench", external_id=str(n))),), ANNA, n)
            for n in range(count)
        ]
        ids = [one.ticket.id for one in open_tickets(unit, openings, deps.ids)]
    with engine.begin() as connection:
        unit = Unit(connection, business.now(connection), ANNA, 1, given=True)
        for ticket in lock(connection, ids).values():
            unit.append_to_ticket(ticket, (New(TicketNoted(text="look at this")),))
        unit.flush()


def sent_by(processes: int, name: str, settings: Settings, pids: Sequence[int], total: int) -> Phase:
    """Everything that is planned, sent and recorded by so many processes together."""
    command = [
        sys.executable,
        "-m",
        "bench.fanout",
        "--sender",
        name,
        str(settings.database_url),
        str(settings.redis_url),
        str(settings.home),
    ]
    senders = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    for one in senders:
        assert one.stdout is not None
        if one.stdout.readline().strip() != "ready":
            raise RuntimeError(f"a sender ended: {one.wait()}")
    wall, server = time.perf_counter(), postgres_cpu(pids)
    for one in senders:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    own = sum(float(one.stdout.readline()) for one in senders if one.stdout is not None)
    seconds, server = time.perf_counter() - wall, postgres_cpu(pids) - server
    for one in senders:  # they stay until the server's CPU is read: that of a session that has ended is easily missed
        one.communicate(timeout=30)
    return Phase(seconds, own / total * 1e6, server / total * 1e6)


def sender(name: str, database: str, redis_url: str, home: str) -> int:
    """One sending process: claims, sends and records until nothing is left, and says what CPU that took."""
    settings = replace(Settings.from_environment({}), database_url=database, redis_url=redis_url, home=Path(home))
    engine = platform.engine(settings, "bench", pool_size=12)
    deps = platform.deps(settings, engine)
    channels, pause = ChannelSender(deps, engine), threading.Event()
    handler = SendMessages(deps, channels, notes=channels.notes)
    lane = Lane(engine, handler, CASES[name]["urgency"], None, lambda _: None, deps.playbook_number, cap=300)
    with engine.connect() as connection:
        deps.playbooks.current(connection)
        deps.directory.get(connection)
    channels.start()
    print("ready", flush=True)
    sys.stdin.readline()
    began, left = time.process_time(), 1
    while left:
        if not lane.run_once():
            pause.wait(0.05)
            with engine.connect() as connection:
                left = connection.exec_driver_sql(
                    "select count(*) from ledger.agenda where kind = 'delivery' and due_at is not null"
                ).scalar_one()
    print(time.process_time() - began, flush=True)
    sys.stdin.read()
    channels.stop()
    engine.dispose()
    return 0


def run_case(
    name: str, servers: TestServers, pids: Sequence[int], deliveries: int, seconds: float, processes: int
) -> bool:
    case = CASES[name]
    os.environ["BENCH_SECRET"] = SECRET
    driver, url, address, batch, flight = case["driver"]
    with servers.fresh_database() as database, tempfile.TemporaryDirectory() as home:
        alone = measure(driven(driver, url, address, batch, flight, seconds, **case["extra"]))
        settings = replace(
            Settings.from_environment({}), database_url=database, redis_url=servers.redis_url, home=Path(home)
        )
        engine = platform.engine(settings, "bench", pool_size=12)
        deps = platform.deps(settings, engine)
        playbook(Path(home), case)
        with engine.connect() as connection:
            checked = publish.load(home, publish.years_around(utc_now()))
            publish.publish(deps, connection, checked.playbook, by="bench")
        count = deliveries // PEOPLE
        prepare(deps, engine, count)
        total, phases = count * PEOPLE, list[Phase]()
        plan = Lane(engine, PlanMessages(deps), "normal", None, lambda _: None, deps.playbook_number, cap=300)
        with phase(total, pids, phases):
            while plan.run_once():
                pass
        phases.append(sent_by(processes, name, settings, pids, total))
        with engine.connect() as connection:
            rows = connection.exec_driver_sql("select state, count(*) as n, sum(jsonb_array_length(attempts)) as a from notifier.message group by 1").all()  # fmt: skip
        engine.dispose()
    return report(name, case, total, phases, alone, {row.state: (row.n, int(row.a)) for row in rows})


def report(
    name: str, case: dict[str, Any], total: int, phases: Sequence[Phase], alone: Any, states: dict[str, tuple[int, int]]
) -> bool:
    planned, sent = phases
    raw_rate, rate = alone[0] / alone[1], total / sent.seconds
    raw_cpu = alone[2] / alone[0] * 1e6
    print(f"-- {name}: {total} deliveries; (messages, attempts) by state {states}")
    print(f"   driver alone      {raw_rate:9.0f}/s  {raw_cpu:6.0f} us CPU each")
    print(
        f"   planned           {total / planned.seconds:9.0f}/s  {planned.own:6.0f} us here + {planned.postgres:6.0f} us PostgreSQL"
    )
    print(f"   sent and recorded {rate:9.0f}/s  {sent.own:6.0f} us here + {sent.postgres:6.0f} us PostgreSQL")
    whole = planned.cpu + sent.cpu
    holds = [
        (
            f"every delivery sent with its attempt: {states.get('sent', (0, 0))[0]} of {total}",
            states == {"sent": (total, total)},
        ),
        (f"plan + send + record {whole:.0f} us CPU a delivery (<= {case['cpu']:.0f})", whole <= case["cpu"]),
    ]
    if case["ratio"]:
        holds.append(
            (
                f"sending is {rate / raw_rate:.2f} of the driver alone (>= {case['ratio']})",
                rate / raw_rate >= case["ratio"],
            )
        )
        holds.append((f"send and record {sent.cpu:.0f} us CPU (<= 250)", sent.cpu <= 250))
    else:
        holds.append((f"batched SMS {rate:.0f}/s (>= 8000 on a quiet machine)", rate >= 8_000))
        holds.append((f"of which the driver {raw_cpu:.1f} us (<= 15)", raw_cpu <= 15))
    for text, ok in holds:
        print(f"   {'OK  ' if ok else 'FAIL'} {text}", flush=True)
    if not all(ok for _, ok in holds):
        cores = os.cpu_count() or 1
        most = cores / sent.cpu * 1e6
        print(
            f"        what bounds it: {sent.cpu:.0f} us on {cores} cores are at most {most:.0f}/s, {most / raw_rate:.2f} of the driver alone,"
            f" less what the sink and others take (load {os.getloadavg()[0]:.1f})",
            flush=True,
        )
    return all(ok for _, ok in holds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deliveries", type=int, default=6000)
    parser.add_argument("--only", default="http,smtp,sms")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many send and record")
    parser.add_argument("--sender", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long the driver alone is measured")
    options = parser.parse_args()
    if options.sender:
        return sender(*options.sender)
    print(f"load {os.getloadavg()[0]:.1f}")
    ok = True
    with servers_of_run(uuid.uuid4().hex[:12], 0) as servers:
        port = servers.database_url.rpartition(":")[2].partition("/")[0]
        pids = [one.pid for one in psutil.process_iter(["name", "cmdline"]) if one.info["name"] == "postgres" and f"port={port}" in " ".join(one.info["cmdline"] or ())]  # fmt: skip
        with sink("http", HTTP_PORT, "--body", OK), sink("smtp", SMTP_PORT):
            for name in options.only.split(","):
                ok &= run_case(name, servers, pids, options.deliveries, options.seconds, options.processes)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
