"""Plays a day: tickets come, people act, timers fire, on a virtual clock through the real handlers."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from services.control.demo.day import Arrival, habit
from services.control.demo.door import Door, Link, link_in
from services.control.replay.engine import Engine
from services.gateway.actions import act
from services.gateway.intake import Intake, Submission
from services.notifier.sending import Job
from shared.contracts.envelope import Actor
from shared.ledger.tickets import read
from shared.ticket import commands as c

Progress = Callable[["Day"], None]
GROUPS = ("desk", "network", "his", "field")
"""Of the playbook `selected`: whom people hand tickets to."""


@dataclass(slots=True)
class Day:
    """The day as it goes: counts for the table, what to do next."""

    engine: Engine
    intake: Intake
    door: Door
    seed: int
    now: datetime
    counts: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    ids: list[int] = field(default_factory=list)
    _todo: list[tuple[datetime, int, int, str, int]] = field(default_factory=list)
    _planned: set[tuple[int, int]] = field(default_factory=set)
    _serial: int = 0
    _owners: Counter[int] = field(default_factory=Counter)
    _links: dict[tuple[int, str], Link] = field(default_factory=dict)
    """The newest link that was sent to a person about a ticket."""
    _chance: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    def play(self, arrivals: Sequence[Arrival], until: datetime, progress: Progress) -> None:
        """Run to `until`."""
        coming = list(reversed(arrivals))
        while True:
            due = self.engine.next_due()
            at = min(
                (
                    one
                    for one in (coming[-1].at if coming else None, self._todo[0][0] if self._todo else None, due)
                    if one is not None
                ),
                default=until,
            )
            if at >= until:
                self.engine.run_until(until)
                return
            self.now = max(at, self.now)
            self.engine.move_to(self.now)
            while coming and coming[-1].at <= self.now:
                self._open(coming.pop())
            while self._todo and self._todo[0][0] <= self.now:
                _, _, ticket, what, assignment = heapq.heappop(self._todo)
                self._act(ticket, what, assignment)
            self.engine.settle()
            self._look()
            progress(self)

    def on_send(self, jobs: Sequence[Job]) -> None:
        """What went out by mail and SMS (the sinks of the demo)."""
        self.sent.update(job.row.channel for job in jobs)
        for job in jobs:
            link = link_in(job) if job.row.event_type == "ticket.assigned" and job.row.ticket_id is not None else None
            if link is not None and job.row.ticket_id is not None:
                self._links[job.row.ticket_id, job.row.recipient] = link

    def _open(self, arrival: Arrival) -> None:
        actor = Actor(kind="customer", id=str(arrival.ticket.requester.id if arrival.ticket.requester else "somebody"))
        answer = self.intake.open_many([Submission(arrival.ticket, actor)])[0]
        if answer.ticket is None:
            raise RuntimeError(f"a generated ticket was refused: {answer.fault}")
        self.ids.append(answer.ticket.id)
        self.counts["opened"] += 1

    def _look(self) -> None:
        """Whoever was given something since the last look makes up their mind about it."""
        with self.engine.database.connect() as connection:
            rows = connection.exec_driver_sql(
                """select id, assignee, (state ->> 'assignment')::integer as assignment from ledger.ticket
                where status = 'assigned' and updated_at >= %s order by id""",
                (self.now,),
            ).all()
        for row in rows:
            if (row.id, row.assignment) in self._planned:
                continue
            self._planned.add((row.id, row.assignment))
            plan = habit(self._chance, self._owners[row.id])
            self._owners[row.id] += 1
            accept = "press" if plan.by_link else "accept"
            todo = (
                (accept, plan.accept),
                ("hand over", plan.hand_over),
                ("reply", plan.reply),
                ("resolve", plan.resolve),
            )
            for what, after in todo:
                if after is not None:
                    self._later(self.now + after, row.id, what, row.assignment)
            if plan.pause and plan.reply is not None:
                self._later(self.now + plan.reply + timedelta(minutes=5), row.id, "pause", row.assignment)
                self._later(self.now + plan.reply + timedelta(minutes=65), row.id, "customer", row.assignment)

    def _later(self, at: datetime, ticket: int, what: str, assignment: int) -> None:
        self._serial += 1
        heapq.heappush(self._todo, (at, self._serial, ticket, what, assignment))

    def _act(self, ticket_id: int, what: str, assignment: int) -> None:
        with self.engine.database.connect() as connection:
            ticket = read(connection, ticket_id)
            connection.rollback()
            if ticket is None or ticket.assignment != assignment or ticket.assignee is None:
                return
            who = Actor(kind="person", id=ticket.assignee)
            link = self._links.get((ticket_id, ticket.assignee)) if what == "press" else None
            if link is not None:
                connection.close()
                self.counts["accept" if self.door.press(link) else "refused"] += 1
                return
            command: Any = {
                "accept": c.Accept(),
                "press": c.Accept(),
                "hand over": c.Transfer(group=self._elsewhere(ticket.group), reason="belongs to another group"),
                "reply": c.Reply(text="您好，正在处理。"),
                "pause": c.Pause(reason="waiting for the clinic"),
                "customer": c.CustomerReply(text="谢谢，请继续。"),
                "resolve": c.Resolve(resolution="done"),
            }[what]
            if what == "customer":
                who = Actor(kind="customer", id=ticket.requester.id or "somebody")
            outcome = act(self.engine.deps, connection, ticket_id, command, who, f"demo-{ticket_id}")
        self.counts["refused" if outcome.refused else "accept" if what == "press" else what] += 1

    def _elsewhere(self, group: str | None) -> str:
        return self._chance.choice([one for one in GROUPS if one != group])
