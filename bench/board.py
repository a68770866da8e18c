"""The board's first page and the completion of a node over HTTP, with many open tickets in flows.

    python -m bench.board [--tickets 100000] [--calls 400]

A hundred tickets of the shipped playbook `service` go through the real services; their rows are copied until there are enough.
Prints a verdict for each figure; exit code 0 when all hold.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import uuid

from bench.tools.flows import multiply, percentile, settle
from tests.support.servers import servers_of_run
from tests.support.world import World

TEMPLATES = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickets", type=int, default=100_000)
    parser.add_argument("--calls", type=int, default=400)
    args = parser.parse_args()
    with servers_of_run(uuid.uuid4().hex[:12], 0) as servers, servers.fresh_database() as url:
        desk = World(url, "service")
        for number in range(TEMPLATES):
            desk.open(subject=f"软件报错 {number}", source="web")
        with desk.database.begin() as connection:
            multiply(connection, max(1, args.tickets // TEMPLATES))
        settle(desk.database)
        count = desk.one("select count(*) from ledger.ticket where status in ('new', 'assigned', 'in_progress')")
        board = [_timed(desk, "GET", "/v1/board") for _ in range(args.calls)]
        gantt = [_timed(desk, "GET", "/v1/gantt") for _ in range(args.calls // 4)]
        with desk.database.connect() as connection:
            ids = connection.exec_driver_sql(
                "select id from ledger.ticket where status in ('new', 'assigned', 'in_progress') order by hashint8(id) limit %s",
                (args.calls,),
            ).scalars()
            wanted = list(ids)
        body = {"action": "complete_node", "node": "triage", "outcome": "software"}
        completed = [_timed(desk, "POST", f"/v1/tickets/{one}/actions", body) for one in wanted]
        desk.closing.close()
        desk.database.dispose()
    print(f"{count:,} open tickets in flows; one client, {args.calls} calls each; milliseconds p50 / p99 / worst")
    print(f"load {os.getloadavg()[0]:.1f}")
    holds = []
    for name, values, most in (
        ("GET /v1/board, first page", board, 200.0),
        ("GET /v1/gantt, first page", gantt, 200.0),
        ("complete a node over HTTP", completed, 100.0),
    ):
        p50, p99 = percentile(values, 0.5), percentile(values, 0.99)
        text = f"{name}: {p50:.1f} / {p99:.1f} / {max(values):.1f} (p99 at most {most:.0f})"
        holds.append((text, p99 <= most))
    for text, ok in holds:
        print(f"{'OK  ' if ok else 'FAIL'} {text}")
    return 0 if all(ok for _, ok in holds) else 1


def _timed(desk: World, method: str, path: str, body: object = None) -> float:
    started = time.perf_counter()
    desk.call(method, path, body)
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    sys.exit(main())
