"""A history through the database: the same acts as `play`, by the same doors and lanes as in production, instant by instant.

Slower by an order of magnitude than a world in memory, and what that is held to (`tests/e2e/test_replay.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

from services.control.replay.engine import Engine
from services.control.replay.history import Given, Step
from services.control.replay.people import People
from services.control.replay.play import NOBODY, Played, Refuse, actor, command, message
from services.gateway.actions import act
from services.gateway.intake import Intake, Submission
from shared.contracts.envelope import Actor
from shared.contracts.strict import Unacceptable
from shared.ledger.tickets import read


class LanePlayer:
    """Plays a history through an engine."""

    def __init__(self, engine: Engine, people: People, refuse: Refuse) -> None:
        self._engine, self._people, self._refuse = engine, people, refuse
        self._intake = Intake(engine.deps)
        self._ids: dict[str, int] = {}
        self.played = Played()

    def play(self, steps: Iterable[Step]) -> None:
        """Everything, instant by instant."""
        engine = self._engine
        for at, many in steps:
            while (due := engine.next_due()) is not None and due < at:
                engine.move_to(due)
            engine.move_to(at)
            for given in many:
                if given.opening is not None:
                    self._open(given)
                for one in given.acts:
                    self._act(one, given)
            engine.move_to(at)

    def _open(self, given: Given) -> None:
        try:
            posted = message(given)
        except Unacceptable as error:
            self._refuse(given, f"{error.fault.pointer or '/'}: {error.fault.reason}")
            return
        asked = posted.requester.id if posted.requester and posted.requester.id else NOBODY
        answer = self._intake.open_many([Submission(posted, Actor(kind="customer", id=asked), given.case)])[0]
        if answer.ticket is None:
            fault = answer.fault
            self._refuse(given, "refused" if fault is None else f"{fault.pointer or '/'}: {fault.reason}")
            return
        self._ids[given.case] = answer.ticket.id
        self.played.opened += 1

    def _act(self, one: str, given: Given) -> None:
        number = self._ids.get(given.case)
        if number is None:
            return
        with self._engine.database.connect() as connection:
            ticket = read(connection, number)
            connection.rollback()
            assert ticket is not None
            who = actor(one, given, ticket, self._people.persons)
            wanted = command(one, given, self._people.groups)
            outcome = act(self._engine.deps, connection, number, wanted, who, given.case)
        if outcome.refused is not None:
            self.played.refused[one] += 1
        else:
            self.played.acts[one] += 1
