"""A changed calendar under many running clocks: looking ahead, moving them with intake going on, taking it back.

    python -m bench recompute [--tickets 5000]        # the promised size is 50000 tickets: 100,000 clocks

Every ticket has two running clocks. `preview` is `apply --preview`, `apply` is `apply --running whole`, `undo` is `apply --undo`.
The bounds are the promise's 60 seconds scaled to the size of the run. While tickets are moved, others are taken in and people act
on tickets that are being moved; how long those waited is shown.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.tools import desk
from bench.tools.house import House, house
from bench.tools.meter import Verdicts, load, percentile
from services.control import publish
from services.control.moving import Mover, clock_lane, foresee
from services.gateway.actions import act
from services.gateway.intake import Intake, Submission
from shared.contracts import events as e
from shared.contracts.envelope import Actor, New
from shared.ledger import business
from shared.ledger.process import Deps
from shared.ledger.tickets import Opening, open_tickets
from shared.ledger.unit import Unit
from shared.playbook.calendars import CalendarSection
from shared.playbook.calendars import publish as publish_calendar
from shared.playbook.model import Document, Playbook
from shared.playbook.types import decode
from shared.ticket import commands as c

CLOCKS = 2
SECONDS_FOR_100_000 = 60.0
OFFICE = {"tz": "Asia/Shanghai", "weekly": {"mon-fri": ["08:00-20:00"]}, "holidays": {"country": "CN"}}
LONGER = OFFICE | {"weekly": {"mon-fri": ["08:00-21:00"], "sat": ["10:00-14:00"]}}
ANNA = Actor(kind="person", id="a1")


def playbook(calendar: dict[str, Any]) -> Playbook:
    """The desk with two promises on a calendar."""
    sla = [
        {
            "name": "everyone",
            "calendar": "office",
            "targets": {"first_response": "40h", "resolution": "200h"},
            "warn": ["30m"],
        }
    ]
    written = desk.sections(sla=sla, calendars={"office": calendar})
    spec, _ = publish_calendar(decode(calendar, CalendarSection), range(2025, 2030))
    return Playbook(0, decode({"name": "bench", **written}, Document), {"office": spec})


def fill(deps: Deps, count: int, number: int) -> list[int]:
    """Open classified tickets, a fifth of them paused once, and start their clocks; their ids."""
    chance, ids = random.Random(5), list[int]()
    classified = e.TicketClassified(labels={}, priority="normal", group="g0", kind="case", lane="normal")
    for start in range(0, count, 1_000):
        openings = []
        for _ in range(min(1_000, count - start)):
            made: list[e.Data] = [e.TicketOpened(subject="no paper", source="bench"), classified]
            if chance.random() < 0.2:
                made += [e.TicketPaused(reason="vendor"), e.TicketResumed()]
            openings.append(Opening(tuple(New(one) for one in made), desk.SENDER, 0))
        with deps.engine.begin() as connection:
            unit = Unit(connection, business.now(connection), desk.SENDER, number, given=True)
            ids += [one.ticket.id for one in open_tickets(unit, openings, deps.ids)]
    with deps.engine.begin() as connection:  # the other services have no part in this
        connection.exec_driver_sql("delete from ledger.agenda where service <> 'sla'")
    clock_lane(deps, deps.engine, "normal").drain()
    return ids


class Beside:
    """What goes on while tickets are moved: intake, and people acting on tickets that are being moved."""

    def __init__(self, deps: Deps, ids: Sequence[int]) -> None:
        self.deps, self.ids = deps, ids
        self.taken: list[float] = []
        self.acted: list[float] = []
        self.touched: set[int] = set()
        self._stop = threading.Event()

    @contextmanager
    def going_on(self) -> Iterator[None]:
        threads = [threading.Thread(target=one) for one in (self._take_in, self._act)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _take_in(self) -> None:
        chance, intake = random.Random(3), Intake(self.deps)
        while not self._stop.wait(0.05):
            begun = time.perf_counter()
            intake.open_many([Submission(desk.ticket(chance), desk.SENDER) for _ in range(10)])
            self.taken.append(time.perf_counter() - begun)

    def _act(self) -> None:
        chance = random.Random(4)
        while not self._stop.wait(0.05):
            ticket, begun = chance.choice(self.ids), time.perf_counter()
            with self.deps.engine.connect() as connection:
                act(self.deps, connection, ticket, c.Note(text="seen"), ANNA, "bench")
            self.acted.append(time.perf_counter() - begun)


def states(deps: Deps, ids: Sequence[int]) -> dict[int, str]:
    """The stored clocks of each ticket, as text."""
    with deps.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "select ticket_id, md5((kept -> 5)::text) as digest from sla.ticket where ticket_id = any(%s)",
            (list(ids),),
        )
        return {row.ticket_id: row.digest for row in rows}


def timed(place: House, what: str, work: Any) -> tuple[float, Any]:
    """Wall seconds and the result; says so, and what CPU it took here and in PostgreSQL."""
    begun, cpu, postgres = time.perf_counter(), time.process_time(), place.postgres_cpu()
    result = work()
    wall = time.perf_counter() - begun
    here, there = time.process_time() - cpu, place.postgres_cpu() - postgres
    print(f"     {what}: {wall:.1f} s wall, CPU {here:.1f} s here, {there:.1f} s PostgreSQL, {load()}", flush=True)
    return wall, result


def publish_as(deps: Deps, calendar: dict[str, Any], running: str) -> int:
    with deps.engine.connect() as connection:
        return publish.publish(deps, connection, playbook(calendar), by="bench", running=running).number


def run(place: House, count: int) -> int:
    """The whole course; the number of figures out of bounds."""
    place.fresh("recompute")
    deps, verdicts = place.deps(), Verdicts()
    first = publish_as(deps, OFFICE, "keep")
    _, ids = timed(place, f"{count:,} tickets with {count * CLOCKS:,} clocks", lambda: fill(deps, count, first))
    before = states(deps, ids)
    bound = SECONDS_FOR_100_000 * count * CLOCKS / 100_000

    changed = playbook(LONGER)
    with deps.engine.connect() as connection:
        candidate = Playbook(first + 1, changed.document, changed.specs)
        wall, seen = timed(
            place, "preview", lambda: sum(bool(x.ahead.changes) for x in foresee(deps, connection, candidate, "whole"))
        )
    verdicts.most("preview", wall, bound, "s")
    verdicts.least("tickets it lists", seen, count)

    worker = place.worker(["sla", "router"])
    worker.tell("go")
    number = publish_as(deps, LONGER, "whole")
    beside = Beside(deps, ids)
    with beside.going_on():
        wall, moved = timed(
            place,
            "apply --running whole, intake going on",
            lambda: Mover(deps, deps.engine, number, "bench").move("whole"),
        )
    verdicts.most("apply", wall, bound, "s")
    verdicts.least("tickets moved", moved.moved, count)
    after = states(deps, ids)
    verdicts.most("clocks left as they were", sum(after[one] == before[one] for one in ids), 0)
    verdicts.most("intake of 10, p99", percentile(beside.taken, 0.99) * 1e3, 1_000, "ms")
    verdicts.most("a person's command on a moving ticket, p99", percentile(beside.acted, 0.99) * 1e3, 1_000, "ms")
    print(f"     {len(beside.taken) * 10} tickets were taken in, {len(beside.acted)} people's commands done meanwhile")

    back = publish_as_undo(deps, number)
    _, undone = timed(place, "undo", lambda: Mover(deps, deps.engine, back, "bench").take_back(number, "keep"))
    verdicts.least("tickets given back", undone.moved, count)
    again = states(deps, ids)
    verdicts.most("clocks that are not what they were, to the byte", sum(again[one] != before[one] for one in ids), 0)
    worker.stop()
    return verdicts.failed


def publish_as_undo(deps: Deps, number: int) -> int:
    with deps.engine.connect() as connection:
        return publish.publish(deps, connection, playbook(OFFICE), by="bench", undoes=number).number


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickets", type=int, default=5_000)
    args = parser.parse_args()
    with house() as place:
        return 1 if run(place, args.tickets) else 0


if __name__ == "__main__":
    sys.exit(main())
