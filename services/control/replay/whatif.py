"""The same history under two playbooks, in memory: who would have breached, been escalated or been told otherwise.

Each side is a world in memory without a database, in a process of its own. Nothing is sent: who is told is decided by the plan.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any

from services.control.cli import Failure
from services.control.replay.history import Given, steps
from services.control.replay.play import Player
from services.control.replay.run import LINK_KEY, History
from services.control.replay.tables import Key
from services.control.replay.world import NotInMemory, World, directory_of
from shared.contracts import events as e
from shared.contracts.envelope import Recorded
from shared.playbook.model import Playbook
from shared.runtime.settings import Settings

Progress = Callable[[int, int], None]
"""Hears (side, given so far)."""
NEWS_EVERY = 500


@dataclass(slots=True)
class Fate:
    """What became of one case: breaches by (metric, cycle), escalations by (cause, level), who was told what by which channel."""

    group: str = ""
    priority: str = ""
    breached: set[tuple[str, int]] = field(default_factory=set)
    escalated: set[tuple[str, int]] = field(default_factory=set)
    told: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(recipient, rule, channel) -> how often."""


class Fates:
    """Hears a world's events and notifications, and keeps each case's fate. A mirror that writes nothing."""

    def __init__(self) -> None:
        self.of: dict[str, Fate] = {}
        self.refused: list[str] = []
        self._cases: dict[int, Fate] = {}
        self._causes: dict[tuple[int, int], str] = {}
        self._told: dict[int, tuple[int, tuple[str, str, str]]] = {}

    def hear(self, event: Recorded) -> None:
        """Note what an event says of its case."""
        data = event.data
        if isinstance(data, e.TicketOpened):
            fate = self.of[data.external_id or str(event.id)] = self._cases[event.id] = Fate()
            return
        if event.kind != "ticket":
            return
        fate = self._cases[event.id]
        match data:
            case e.TicketClassified():
                fate.priority = data.priority
            case e.TicketSet() if data.priority is not None:
                fate.priority = data.priority
            case e.TicketAssigned():
                fate.group = fate.group or data.group
            case e.SlaBreached():
                fate.breached.add((data.metric, data.cycle))
            case e.EscalationRaised():
                self._causes[event.id, data.escalation] = data.metric or data.cause
            case e.EscalationStepped():
                fate.escalated.add((self._causes.get((event.id, data.escalation), ""), data.level))
            case _:
                pass

    def put(self, table: str, key: Key, row: Any) -> None:
        """A notification: told when it is sent, not any more when it is not."""
        if table != "notifier.notification" or row["ticket_id"] not in self._cases:
            return
        told = self._cases[row["ticket_id"]].told
        if row["state"] == "sent":
            told[row["recipient"], row["rule"], row["channel"]] += 1

    def drop(self, table: str, key: Key) -> None:
        """Nothing."""

    def event(self, event: Recorded) -> None:
        """Nothing."""

    def digest(self, ticket_id: int, digest: int) -> None:
        """Nothing."""


def fates(history: History, playbook: Playbook, tell: Callable[[int], None] = lambda _: None) -> Fates:
    """One side."""
    found, directory = Fates(), directory_of(playbook.document)
    settings = Settings.from_environment({"SIGNALBOX_LINK_KEY": LINK_KEY})
    world = World(Playbook(1, playbook.document, playbook.specs), directory, settings, found, found.hear, trial=True)

    def refuse(given: Given, why: str) -> None:
        found.refused.append(f"{given.case}: {why}")

    done = 0

    def after_step(_at: object, rows: int) -> None:
        nonlocal done
        done += rows
        if done % NEWS_EVERY < rows:
            tell(done)

    Player(world, history.people, directory, refuse).play(steps(history.everything), after_step)
    return found


def both(history: History, sides: Sequence[Playbook], progress: Progress) -> list[Fates]:
    """Both sides at once, each in a process of its own. Raises `Failure` with what went wrong in either."""
    context = multiprocessing.get_context("fork")
    pipes: list[Pipe] = []
    workers = []
    for playbook in sides:
        here, there = context.Pipe(duplex=False)
        worker = context.Process(target=_side, args=(history, playbook, there), daemon=True)
        worker.start()
        there.close()
        pipes.append(here)
        workers.append(worker)
    try:
        return _gather(pipes, progress)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _side(history: History, playbook: Playbook, out: Pipe) -> None:
    try:
        out.send(fates(history, playbook, out.send))
    except NotInMemory as error:
        out.send(str(error))


def _gather(pipes: Sequence[Pipe], progress: Progress) -> list[Fates]:
    found: dict[int, Fates] = {}
    waiting = {id(pipe): (side, pipe) for side, pipe in enumerate(pipes)}
    while waiting:
        for ready in multiprocessing.connection.wait([pipe for _, pipe in waiting.values()]):
            side, pipe = waiting[id(ready)]
            try:
                said = pipe.recv()
            except EOFError as error:
                raise Failure("replay: a side of the comparison died; its error is above") from error
            if isinstance(said, int):
                progress(side, said)
            elif isinstance(said, str):
                raise Failure(f"replay: {said}")
            else:
                found[side] = said
                del waiting[id(ready)]
    return [found[side] for side in range(len(pipes))]


# ---- the difference ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Row:
    """Cases of one group and priority: how many were breached and escalated under each, and how many differ."""

    tickets: int = 0
    breached: list[int] = field(default_factory=lambda: [0, 0])
    breached_only: list[int] = field(default_factory=lambda: [0, 0])
    escalated: list[int] = field(default_factory=lambda: [0, 0])
    escalated_only: list[int] = field(default_factory=lambda: [0, 0])
    escalated_otherwise: int = 0
    told: list[int] = field(default_factory=lambda: [0, 0])
    told_otherwise: int = 0

    def add(self, a: Fate, b: Fate) -> None:
        """Count one case."""
        self.tickets += 1
        for side, one, other in ((0, a, b), (1, b, a)):
            self.breached[side] += bool(one.breached)
            self.breached_only[side] += bool(one.breached - other.breached)
            self.escalated[side] += bool(one.escalated)
            self.escalated_only[side] += bool(one.escalated) and not other.escalated
            self.told[side] += one.told.total()
        self.escalated_otherwise += a.escalated != b.escalated
        self.told_otherwise += a.told != b.told

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in Row.__dataclass_fields__}


def difference(history: History, names: Sequence[str], sides: Sequence[Fates]) -> dict[str, Any]:
    """Everything that differs, as plain data: totals, by group and priority (of the first side), by person, by case."""
    a, b = sides
    total, rows, cases = Row(), dict[tuple[str, str], Row](), dict[str, Any]()
    people: dict[str, list[int]] = {}
    for case, first in sorted(a.of.items()):
        second = b.of.get(case, Fate())
        total.add(first, second)
        rows.setdefault((first.group or "none", first.priority or "none"), Row()).add(first, second)
        for side, fate in enumerate((first, second)):
            for (recipient, _, _), count in fate.told.items():
                people.setdefault(recipient, [0, 0])[side] += count
        changed = _changed(first, second)
        if changed:
            cases[case] = {"group": first.group, "priority": [first.priority, second.priority], **changed}
    return {
        "history": {"name": history.name, "mapping": history.mapping.title, "cases": len(a.of)},
        "playbooks": list(names),
        "total": total.as_dict(),
        "by_group_and_priority": [
            {"group": group, "priority": priority, **row.as_dict()} for (group, priority), row in sorted(rows.items())
        ],
        "messages_by_person": {who: counts for who, counts in sorted(people.items()) if counts[0] != counts[1]},
        "cases": cases,
        "refused": [one.refused for one in sides],
    }


def _changed(a: Fate, b: Fate) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if a.breached != b.breached:
        found["breached"] = [
            [f"{m}#{n}" for m, n in sorted(one)] for one in (a.breached - b.breached, b.breached - a.breached)
        ]
    if a.escalated != b.escalated:
        both_ways = (a.escalated - b.escalated, b.escalated - a.escalated)
        found["escalated"] = [[f"{cause}/{level}" for cause, level in sorted(one)] for one in both_ways]
    if a.told != b.told:
        found["told"] = [
            [[*who, count] for who, count in sorted(one.items())] for one in (a.told - b.told, b.told - a.told)
        ]
    return found
