"""One-click links under scanners and people: how many tickets change, and how many people get through.

    python -m bench.oneclick [--links 1000]

Each link is scanned first (HEAD, GET twenty times, every button pressed with what a scanner finds on the page), then pressed three
times by the person who reads the code in the message. Prints a verdict for each figure; exit code 0 when all hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.desk import CODE, LINK, Desk, Door, changed_copy, door_of
from tests.support.servers import servers_of_run


def scanned(door: Door, path: str) -> int:
    """Everything a scanner does; how many answers said that something was done."""
    door.call("HEAD", path)
    done = sum(door.call("GET", path).status >= 500 for _ in range(20))
    for form in ({}, {"code": ""}, {"code": "code"}, {"code": path[-6:]}):
        done += door.call("POST", path, form).status == 200
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--links", type=int, default=1000)
    count = parser.parse_args().links
    with (
        servers_of_run(uuid.uuid4().hex[:12], 0) as servers,
        servers.fresh_database() as url,
        tempfile.TemporaryDirectory() as home,
    ):
        folder = changed_copy(Path(home), lambda _, text: text.replace("capacity: 8,", "capacity: 1000,"))
        desk = Desk(url, str(folder), Path(home))
        with door_of(desk.settings) as (door, _), ThreadPoolExecutor(4) as people:
            tickets = desk.open_many([{} for _ in range(count)])
            words = {
                j.row.ticket_id: j.message.content.text for j in desk.sent if j.row.event_type == "ticket.assigned"
            }
            links = [(LINK.search(words[one]).group(1), CODE.search(words[one]).group(1)) for one in tickets]  # type: ignore[union-attr]
            before = {row.id: row.version for row in desk.rows("select id, version from ledger.ticket")}
            started = time.perf_counter()
            through = sum(people.map(lambda link: scanned(door, link[0]), links))
            seconds = time.perf_counter() - started
            after = {row.id: row.version for row in desk.rows("select id, version from ledger.ticket")}
            changed = sum(before[one] != after[one] for one in before)
            statuses = Counter(people.map(lambda link: door.call("POST", link[0], {"code": link[1]}).status, links * 3))
        accepted = desk.rows(
            "select count(*) as n, count(distinct id) as d from ledger.event where type = 'ticket.accepted'"
        )[0]
        desk.close()
    print(f"{count} links, {25 * count} requests of scanners in {seconds:.0f} s; presses answered {dict(statuses)}")
    holds = [
        (f"scanners: tickets changed {changed}, answers of 'done' {through} (both 0)", changed == 0 and through == 0),
        (f"people with the code: {statuses[200]} of {count} succeed", statuses[200] == count),
        (f"once: {accepted.n} acceptances of {accepted.d} tickets", accepted.n == accepted.d == count),
    ]
    for text, ok in holds:
        print(f"{'OK  ' if ok else 'FAIL'} {text}")
    return 0 if all(ok for _, ok in holds) else 1


if __name__ == "__main__":
    sys.exit(main())
