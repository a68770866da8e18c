"""Many open tickets in flows, one in twenty stalling within a minute: each escalated once, in time, nobody told twice?

    python -m bench.stalls [--tickets 100000] [--seconds 60]

Fifty tickets go through the real services; their rows are copied, and their nodes' instants spread. Then real worker processes of
escalation and notifier run on real time. Prints a verdict for each figure; exit code 0 when all hold.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from bench.tools.flows import multiply, percentile, settle
from bench.tools.house import house
from bench.tools.meter import cpu_seconds
from tests.support.world import World, write_playbook

TEMPLATES = 50
LEAD = timedelta(seconds=20)
PLAYBOOK = """
name: stalls
triage: desk
groups: {desk: {members: [ann]}}
agents: {boss: {roles: [lead]}, ann: {manager: boss, capacity: null}}
rules: [{name: whose, matches: first, rules: [{name: all, default: true, then: {group: desk, kind: work}}]}]
flows:
  - name: work
    responsible: {ticket: true}
    nodes: [{name: do, expected: 30d, expected_in: wall, next: done}, {name: done, kind: end}]
chains: [{name: up, steps: [{targets: [{manager: 1}]}], fallback: boss}]
watch: [{on: node, chain: up}]
messages:
  rules:
    - name: escalated
      on: [escalation.stepped]
      audience: [{to: [targets]}]
      plan: [{channel: inbox}]
      templates: {any: {en: {title: up, text: "{{ ticket.number }}"}}}
"""
_SPREAD = """
with moved as (
    select id, case when hashint8(id) %% 20 = 0 and id > 1000000
        then %(first)s::timestamptz + %(span)s * interval '1 second' * (abs(hashint8extended(id, 7)) %% 100000) / 100000.0
        else %(far)s::timestamptz end as at
    from ledger.ticket
), texts as (
    select id, at, to_char(at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as new from moved
), tickets as (
    update ledger.ticket t set state = replace(t.state::text, %(due)s, x.new)::jsonb from texts x where x.id = t.id
), watched as (
    update escalation.ticket w set state = replace(w.state::text, %(due)s, x.new)::jsonb, next_at = x.at
    from texts x where x.id = w.ticket_id
)
update ledger.agenda a set due_at = case when a.service = 'escalation' then x.at end
from texts x where a.kind = 'ticket' and a.id = x.id
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickets", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--profile", help="write the worker's profile to this file")
    args = parser.parse_args()
    with house() as servers, tempfile.TemporaryDirectory() as folder:
        servers.fresh("stalls")
        _build(servers.database_url, str(write_playbook(Path(folder) / "stalls", PLAYBOOK)), args.tickets, args.seconds)
        profile = ["--profile", args.profile] if args.profile else []
        worker = servers.worker(["escalation", "notifier"], *profile)
        seen: dict[int, float] = {}
        stop = threading.Event()
        watcher = threading.Thread(target=_watch, args=(servers.database_url, seen, stop))
        with psycopg.connect(servers.database_url, autocommit=True) as connection:
            due = dict(
                connection.execute(
                    "select ticket_id, extract(epoch from next_at)::float8 from escalation.ticket where next_at < now() + '1 day'"
                ).fetchall()
            )
            watcher.start()
            worker.tell("go")
            before = cpu_seconds([worker.pid]), servers.postgres_cpu()
            deadline = time.monotonic() + args.seconds + LEAD.total_seconds() + 120
            while len(seen) < len(due) and time.monotonic() < deadline:
                time.sleep(0.5)
            time.sleep(2)
            after = cpu_seconds([worker.pid]), servers.postgres_cpu()
            stop.set()
            watcher.join()
            raised = connection.execute(
                "select count(*), count(distinct id) from ledger.event where type = 'escalation.raised'"
            ).fetchone()
            twice = connection.execute(
                """select count(*) from (select ticket_id, recipient, channel, event_type from notifier.notification
                where event_type = 'escalation.stepped' group by 1, 2, 3, 4 having count(*) > 1) t"""
            ).fetchone()
            total = connection.execute("select count(*) from ledger.ticket").fetchone()
    assert raised is not None and twice is not None and total is not None  # noqa: PT018
    late = [1000 * (at - due[one]) for one, at in seen.items() if one in due]
    print(f"{total[0]:,} open tickets, {len(due):,} stall within {args.seconds} s")
    p50, p99 = percentile(late, 0.5), percentile(late, 0.99)
    holds = [
        (f"each escalated once: {raised[0]:,} raised on {raised[1]:,} tickets", raised == (len(due), len(due))),
        (f"instant to seen committed: {p50:.0f} / {p99:.0f} / {max(late):.0f} ms (p99 at most 100)", p99 <= 100),
        (f"never early: {min(late):.0f} ms", min(late) >= 0),
        (f"people told twice for one step: {twice[0]}", twice[0] == 0),
    ]
    start = min(due.values())
    tens: dict[int, list[float]] = {}
    for one, at in seen.items():
        if one in due:
            tens.setdefault(int((due[one] - start) // 10), []).append(1000 * (at - due[one]))
    by_ten = ", ".join(f"{percentile(tens[ten], 0.99):.0f}" for ten in sorted(tens))
    print(f"p99 of each ten seconds: {by_ten} ms; load {os.getloadavg()[0]:.1f}")
    mine, server = (1000 * (late - early) / len(due) for early, late in zip(before, after, strict=True))
    print(f"CPU a stall: {mine:.1f} ms of the worker, {server:.1f} ms of PostgreSQL (with the watcher's queries)")
    for text, ok in holds:
        print(f"{'OK  ' if ok else 'FAIL'} {text}")
    return 0 if all(ok for _, ok in holds) else 1


def _build(url: str, playbook: str, tickets: int, seconds: int) -> None:
    start = datetime.now(UTC).replace(microsecond=123457)
    desk = World(url, playbook, start)
    for number in range(TEMPLATES):
        desk.done(desk.open(subject=f"work {number}"), _ACCEPT, "ann")
    due = desk.ticket(int(desk.one("select min(id) from ledger.ticket"))).nodes[0].due_at
    assert due is not None
    written = due.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    with desk.database.begin() as connection:
        multiply(connection, max(1, tickets // TEMPLATES))
    settle(desk.database)
    first = datetime.now(UTC) + LEAD + timedelta(seconds=tickets / 8000)
    values = {"first": first, "span": seconds, "far": first + timedelta(days=30), "due": written}
    with desk.database.begin() as connection:
        connection.exec_driver_sql("set local statement_timeout = 0")
        connection.exec_driver_sql(_SPREAD, values)
        connection.exec_driver_sql("delete from ledger.clock")
    settle(desk.database)
    desk.database.dispose()


def _watch(url: str, seen: dict[int, float], stop: threading.Event) -> None:
    """Note when each raised escalation became visible; the instants are the database's own."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("select coalesce(max(position), 0) from ledger.event").fetchone()
        after = 0 if row is None else int(row[0])
        while not stop.is_set():
            rows = connection.execute(
                """select id, position, extract(epoch from clock_timestamp())::float8 from ledger.event
                where position > %s and type = 'escalation.raised'""",
                (max(0, after - 300),),
            ).fetchall()
            for ticket, position, at in rows:
                seen.setdefault(ticket, at)
                after = max(after, position)
            time.sleep(0.01)


if __name__ == "__main__":
    from shared.ticket.commands import Accept

    _ACCEPT = Accept()
    sys.exit(main())
