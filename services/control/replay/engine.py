"""The engine of replay and demo: business time in hand, the real handlers, nothing else.

Doorbells are a set in memory: a lane is drained when something woke it, and when its instant has come. Time moves only when
nothing is due any more, to the next instant that anybody waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import dropwhile
from typing import Any

from sqlalchemy import Connection
from sqlalchemy import Engine as Database

from services.control import platform
from services.notifier.channels.base import Outcome
from services.notifier.handlers import PlanMessages
from services.notifier.null_sender import NullSender, accepts
from services.notifier.reports import ApplyReports
from services.notifier.sending import Job, SendMessages
from shared.ledger import business
from shared.ledger.kinds import LANES
from shared.ledger.lane import SMALLEST, Handler, Lane, team_up
from shared.ledger.process import Deps
from shared.ledger.sql import OLDEST_DUE


class HeardBells:
    """In place of Redis: remembers who was rung."""

    healthy = True

    def __init__(self) -> None:
        self.rung: set[tuple[str, str]] = set()

    def ring(self, targets: set[tuple[str, str]]) -> bool:
        """Note the targets."""
        self.rung |= targets
        return True


@dataclass(slots=True)
class Engine:
    """Drives all lanes of all services on one database whose business time is in hand.

    `ask`: outside systems are asked (`enrichments` of the playbook); else their defaults hold.
    """

    deps: Deps
    database: Database
    on_send: Callable[[Sequence[Job]], None] | None = None
    ask: bool = False
    answer: Callable[[Job], Outcome | None] = accepts
    """What a provider answers; nobody is called."""
    bells: HeardBells = field(default_factory=HeardBells)
    _lanes: list[Lane] = field(default_factory=list)
    _connection: Connection | None = None

    def __post_init__(self) -> None:
        handlers: list[Handler] = []
        for service in ("router", "sla", "escalation"):
            parts = platform.parts(service, self.deps)
            handlers += parts.handlers
            for background in parts.background if self.ask else ():
                background.inline()
        sender = NullSender(self.deps, self.database, on_send=self._sent, answer=self.answer)
        sending = SendMessages(self.deps, sender, notes=sender.notes)
        handlers += [PlanMessages(self.deps, sending), sending, ApplyReports(self.deps)]
        for lane in LANES:
            for handler in handlers:
                self._lanes.append(Lane(self.database, handler, lane, None, self._ring, self.deps.playbook_number))
        for one in self._lanes:
            one.suspects = False  # nobody dies in the middle of a batch here
        team_up(self._lanes)

    def _sent(self, jobs: Sequence[Job]) -> None:
        if self.on_send is not None:
            self.on_send(jobs)

    def _ring(self, targets: set[tuple[str, str]]) -> None:
        self.bells.rung |= targets

    def start_at(self, at: datetime) -> None:
        """Take business time into hand."""
        with self.database.begin() as connection:
            business.freeze(connection, at)

    def next_due(self) -> datetime | None:
        """The next instant that anybody waits for."""
        return min((row.due_at for row in self._oldest(self._lanes)), default=None)

    def move_to(self, at: datetime) -> None:
        """Move business time, and let every lane whose instant has come do its work."""
        business.freeze(self._control(), at)
        self.settle_all()

    def settle_all(self) -> None:
        """Drain every lane, whoever was rung."""
        self.bells.rung = {(lane.name[0], lane.lane) for lane in self._lanes}
        self.settle()

    def settle(self) -> None:
        """Drain lanes until nobody is rung any more."""
        # a batch that is not full leaves nothing due, and whoever is woken rings; but answers from outside come without a bell
        full = 1 if self.ask else SMALLEST
        while self.bells.rung:
            rung, self.bells.rung = self.bells.rung, set()
            waiting = [lane for lane in self._lanes if (lane.name[0], lane.lane) in rung]
            while waiting := self._from_the_first_due(waiting):
                while waiting[0].run_once() >= full:
                    pass
                del waiting[0]

    def _from_the_first_due(self, lanes: Sequence[Lane]) -> list[Lane]:
        """The lanes without those before the first that has something to do: a look at all is cheaper than a claim for nothing."""
        due = (
            {(row.service, row.kind, row.lane) for row in self._oldest(lanes) if row.due_at <= row.now} if lanes else ()
        )
        return list(dropwhile(lambda lane: lane.name not in due, lanes))

    def _oldest(self, lanes: Sequence[Lane]) -> list[Any]:
        """Each lane's earliest instant, of those that have one: an index look-up each, however much waits."""
        services, kinds, names = zip(*(lane.name for lane in lanes), strict=True)
        rows = self._control().exec_driver_sql(
            OLDEST_DUE, {"services": list(services), "kinds": list(kinds), "lanes": list(names)}
        )
        return [row for row in rows if row.due_at is not None]

    def run_until(self, until: datetime) -> None:
        """Let everything that falls due up to `until` happen at its instant, and stand at `until`."""
        while (due := self.next_due()) is not None and due <= until:
            self.move_to(due)
        self.move_to(until)

    def close(self) -> None:
        """Give back the connection by which time is moved."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _control(self) -> Connection:
        """A connection of its own for moving time: each statement is its own transaction, which saves two round trips a step."""
        if self._connection is None:
            self._connection = self.database.connect().execution_options(isolation_level="AUTOCOMMIT")
        return self._connection
