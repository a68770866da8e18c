"""Fan-out with every state and attempt written, against local sinks; the same client without Signalbox in the same run.

    python -m bench.fanout [--deliveries 6000] [--only http,smtp,sms] [--processes 2]      (--deliveries 100000 for the full size)

Each note on a ticket is for a group of people. Twice the number is sent, in two ways: a backlog that was planned before (claimed
from the agenda, sent, recorded), and as they come, where a worker plans what it then sends without claiming it. Planning, sending
and recording are those of production, in as many processes as the machine has cores; planning of the backlog is done here.
PostgreSQL is an embedded server of its own, sinks are processes of their own. CPU is user and system time, of ours and of
PostgreSQL, divided by deliveries. Ratios compare the rates with two clients without Signalbox in one process in the same run: our
own driver, and for HTTP the usual client as bench/reference/notify_limits has it. Prints a verdict for each figure, and for one that
does not hold what bounds it here; a busy machine changes rates and CPU much, and what it leaves to each side.
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

from bench.fanout_drivers import HTTP_PORT, OK, SECRET, SINKS, SMTP_PORT, driven, measure, sink
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
from shared.runtime import memory
from shared.runtime.clock import utc_now
from shared.runtime.settings import Settings
from tests.support.servers import TestServers, servers_of_run

PEOPLE = 100
ANNA = Actor(kind="person", id="p000")
AHEAD = 2_000
"""Messages in a worker's hands from which on it plans no more for the moment."""
LEFT = "select count(*) from ledger.agenda where kind in ('ticket', 'delivery') and service = 'notifier' and due_at is not null"

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


def prepare(deps: Any, engine: Any, count: int, first: int = 0) -> None:
    """Tickets with a note each; the notifier is due for every one."""
    with engine.begin() as connection:
        unit = Unit(connection, business.now(connection), ANNA, 1, given=True)
        openings = [
            Opening((New(TicketOpened(subject=f"no paper in room {n}", source="bench", external_id=str(n))),), ANNA, n)
            for n in range(first, first + count)
        ]
        ids = [one.ticket.id for one in open_tickets(unit, openings, deps.ids)]
    with engine.begin() as connection:
        unit = Unit(connection, business.now(connection), ANNA, 1, given=True)
        for ticket in lock(connection, ids).values():
            unit.append_to_ticket(ticket, (New(TicketNoted(text="look at this")),))
        unit.flush()


def sent_by(processes: int, name: str, way: str, settings: Settings, pids: Sequence[int], total: int) -> Phase:
    """Everything that is due, sent and recorded by so many processes together; `way` as `worker` has it."""
    command = [
        sys.executable, "-m", "bench.fanout", "--worker", name, way,
        str(settings.database_url), str(settings.redis_url), str(settings.home),
    ]  # fmt: skip
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    for one in workers:
        assert one.stdout is not None
        if one.stdout.readline().strip() != "ready":
            raise RuntimeError(f"a worker ended: {one.wait()}")
    wall, server = time.perf_counter(), postgres_cpu(pids)
    for one in workers:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    own = sum(float(one.stdout.readline()) for one in workers if one.stdout is not None)
    seconds, server = time.perf_counter() - wall, postgres_cpu(pids) - server
    for one in workers:  # they stay until the server's CPU is read: that of a session that has ended is easily missed
        one.communicate(timeout=30)
    return Phase(seconds, own / total * 1e6, server / total * 1e6)


def worker(name: str, way: str, database: str, redis_url: str, home: str) -> int:
    """One process until nothing is left, and what CPU that took. `claimed`: it sends what was planned before. `flow`: it plans
    too, ten tickets at a time, as they would come while it keeps up; what it plans it marks and sends without claiming it.
    """
    settings = replace(Settings.from_environment({}), database_url=database, redis_url=redis_url, home=Path(home))
    engine = platform.engine(settings, "bench", pool_size=12)
    deps = platform.deps(settings, engine)
    channels, pause = ChannelSender(deps, engine), threading.Event()
    sending = SendMessages(deps, channels, notes=channels.notes)
    lane = Lane(engine, sending, CASES[name]["urgency"], None, lambda _: None, deps.playbook_number, cap=300)
    plan = Lane(
        engine, PlanMessages(deps, sending), "normal", None, lambda _: None, deps.playbook_number, cap=10, _size=10
    )
    with engine.connect() as connection:
        deps.playbooks.current(connection)
        deps.directory.get(connection)
    channels.start()
    memory.settle()
    print("ready", flush=True)
    sys.stdin.readline()
    began, left = time.process_time(), 1
    while left:
        if way == "flow" and channels.in_hand < AHEAD and plan.run_once():
            continue
        if not lane.run_once():
            if channels.in_hand:
                pause.wait(0.005)
                continue
            with engine.connect() as connection:
                left = connection.exec_driver_sql(LEFT).scalar_one()
    print(time.process_time() - began, flush=True)
    sys.stdin.read()
    channels.stop()
    engine.dispose()
    return 0


def bare_http(seconds: float) -> tuple[float, float]:
    """Calls a second and CPU microseconds each of the usual client, as bench/reference/notify_limits has it: no ledger, no
    signature, no driver. In a process of its own, since its module changes the resolver.
    """
    code = (
        f"import sys; sys.path.insert(0, {str(SINKS.parent)!r}); import bench_http as b;"
        f"b.URL = 'http://127.0.0.1:{HTTP_PORT}/hook'; print(*b.run(b.aiohttp_client(64, {seconds})))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    sent, wall, cpu = map(float, said.split())
    return sent / wall, cpu / sent * 1e6


def run_case(
    name: str, servers: TestServers, pids: Sequence[int], deliveries: int, seconds: float, processes: int
) -> bool:
    case = CASES[name]
    os.environ["BENCH_SECRET"] = SECRET
    driver, url, address, batch, flight = case["driver"]
    with servers.fresh_database() as database, tempfile.TemporaryDirectory() as home:
        alone = measure(driven(driver, url, address, batch, flight, seconds, **case["extra"]))
        bare = bare_http(seconds) if name == "http" else None
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
        total, phases = count * PEOPLE, list[Phase]()
        prepare(deps, engine, count)
        plan = Lane(engine, PlanMessages(deps), "normal", None, lambda _: None, deps.playbook_number, cap=300)
        memory.settle()
        with phase(total, pids, phases):
            while plan.run_once():
                pass
        phases.append(sent_by(processes, name, "claimed", settings, pids, total))
        prepare(deps, engine, count, first=count)
        phases.append(sent_by(processes, name, "flow", settings, pids, total))
        with engine.connect() as connection:
            rows = connection.exec_driver_sql("select state, count(*) as n, sum(jsonb_array_length(attempts)) as a from notifier.message group by 1").all()  # fmt: skip
        engine.dispose()
    return report(name, case, total, phases, alone, bare, {row.state: (row.n, int(row.a)) for row in rows})


def report(
    name: str, case: dict[str, Any], total: int, phases: Sequence[Phase], alone: Any, bare: tuple[float, float] | None,
    states: dict[str, tuple[int, int]],
) -> bool:  # fmt: skip
    planned, sent, flow = phases
    raw_rate, rate, flowed = alone[0] / alone[1], total / sent.seconds, total / flow.seconds
    raw_cpu = alone[2] / alone[0] * 1e6
    print(f"-- {name}: twice {total} deliveries; (messages, attempts) by state {states}")
    print(f"   driver alone      {raw_rate:9.0f}/s  {raw_cpu:6.0f} us CPU each")
    if bare is not None:
        print(
            f"   aiohttp alone     {bare[0]:9.0f}/s  {bare[1]:6.0f} us CPU each, unsigned (bench/reference/notify_limits)"
        )
    for text, one in (("all planned first ", planned), ("  then sent       ", sent), ("planned and sent  ", flow)):
        print(f"   {text}{total / one.seconds:9.0f}/s  {one.own:6.0f} us here + {one.postgres:6.0f} us PostgreSQL")
    whole = planned.cpu + sent.cpu
    holds = [
        (
            f"every delivery sent with its attempt: {states.get('sent', (0, 0))[0]} of {2 * total}",
            states == {"sent": (2 * total, 2 * total)},
        ),
        (f"plan + send + record {whole:.0f} us CPU a delivery from a backlog (<= {case['cpu']:.0f})", whole <= case["cpu"]),
        (f"plan + send + record {flow.cpu:.0f} us CPU a delivery as they come (<= {case['cpu']:.0f})", flow.cpu <= case["cpu"]),
    ]  # fmt: skip
    if case["ratio"]:
        ratio, ours = case["ratio"], [("our driver", raw_rate)]
        if bare is not None:
            ours.append(("aiohttp", bare[0]))
        holds += [
            (f"{what} is {got / most:.2f} of {client} alone (>= {ratio})", got / most >= ratio)
            for client, most in ours
            for what, got in (("sending a backlog", rate), ("planning and sending as they come", flowed))
        ]
        holds.append((f"send and record {sent.cpu:.0f} us CPU (<= 250)", sent.cpu <= 250))
    else:
        best = max(rate, flowed)
        holds.append(
            (
                f"batched SMS {rate:.0f}/s from a backlog, {flowed:.0f}/s planned and sent as they come (>= 8000 on a quiet machine)",
                best >= 8_000,
            )
        )
        holds.append((f"of which the driver {raw_cpu:.1f} us (<= 15)", raw_cpu <= 15))
    for text, ok in holds:
        print(f"   {'OK  ' if ok else 'FAIL'} {text}", flush=True)
    if not all(ok for _, ok in holds):
        cores = os.cpu_count() or 1
        for what, cpu in (
            ("a backlog", sent.cpu),
            ("as they come", flow.cpu),
            ("PostgreSQL alone, as they come", flow.postgres),
        ):
            most = cores / cpu * 1e6
            print(
                f"        what bounds it, {what}: {cpu:.0f} us on {cores} cores are at most {most:.0f}/s, {most / raw_rate:.2f} of our driver alone"
            )
        print(f"        less what the sink and others take (load {os.getloadavg()[0]:.1f})", flush=True)
    return all(ok for _, ok in holds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deliveries", type=int, default=6000)
    parser.add_argument("--only", default="http,smtp,sms")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many send and record")
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long the driver alone is measured")
    options = parser.parse_args()
    if options.worker:
        return worker(*options.worker)
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
