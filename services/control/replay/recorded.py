"""A history that Signalbox itself recorded, decided again in memory under the version it was decided under.

Given events are taken from the log as they are, at the instants at which they were recorded; whatever follows is decided anew and
held against what was recorded: the decided events of each ticket, and its clocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import msgspec
from sqlalchemy import Connection
from sqlalchemy import Engine as Database

from services.control.replay.run import LINK_KEY
from services.control.replay.tables import Nowhere
from services.control.replay.world import World
from services.sla import store as sla
from shared.contracts import events as e
from shared.contracts.envelope import New, Recorded
from shared.ledger import business
from shared.ledger.process import Deps
from shared.ledger.unit import recorded

_GIVEN = """
select e.id, e.version, e.type, e.happened_at, e.recorded_at, e.actor::text as actor, e.given, e.playbook, e.correlation,
       e.position, e.reason::text as reason, e.data::text as data
from ledger.event e where e.kind = 'ticket' order by e.position
"""


@dataclass(slots=True)
class Again:
    """What came of it: how many decided events and clocks were compared, and where they differ."""

    events: int = 0
    clocks: int = 0
    differing: list[str] = field(default_factory=list)


def again(deps: Deps, database: Database) -> Again:
    """Decide a database's whole history again, and compare."""
    with database.connect() as connection:
        log = [recorded("ticket", row) for row in connection.exec_driver_sql(_GIVEN)]
        now = business.now(connection)
        number = min((event.playbook for event in log), default=deps.playbooks.number(connection))
        playbook = deps.playbooks.get(connection, number)
        directory = deps.directory.get(connection)
        heard: dict[int, list[Recorded]] = {}
        settings = replace(deps.settings, link_key=LINK_KEY)

        def hear(event: Recorded) -> None:
            if event.kind == "ticket":
                heard.setdefault(event.id, []).append(event)

        world = World(playbook, directory, settings, Nowhere(), hear, trial=True)
        ids = _play(world, log)
        while (due := world.next_due()) is not None and due <= now:
            world.move_to(due)
        return _compare(connection, world, log, heard, ids)


def _play(world: World, log: list[Recorded]) -> dict[int, int]:
    """Give what was given, at its instants. Returns the ids that recorded tickets have in the world."""
    ids: dict[int, int] = {}
    given = [event for event in log if event.given]
    for at, moment in groupby(given, key=lambda event: event.recorded_at):
        while (due := world.next_due()) is not None and due < at:
            world.move_to(due)
        world.move_to(at)
        for event in moment:
            unit = world.unit(event.actor, given=True, correlation=event.correlation)
            if isinstance(event.data, e.TicketOpened):
                ids[event.id] = world.open(unit, event.data, event.actor, event.correlation).id
                continue
            ticket = world.ticket(ids[event.id])
            assert ticket is not None
            unit.append_to_ticket(ticket, (New(event.data, event.reason, event.happened_at),))
        world.settle()
    return ids


def _compare(
    connection: Connection, world: World, log: list[Recorded], heard: dict[int, list[Recorded]], ids: dict[int, int]
) -> Again:
    found = Again()
    before: dict[int, list[Recorded]] = {}
    for event in log:
        before.setdefault(event.id, []).append(event)
    states = sla.load(connection, sorted(before))
    renewed = world.sla.load(connection, sorted(ids.values()))
    for number, events in before.items():
        twin = ids[number]
        found.events += sum(not event.given for event in events)
        found.differing += _events(number, events, heard[twin])
        if number in states:
            found.clocks += 1
            if states[number] != renewed.get(twin):
                found.differing.append(f"T-{number}: its clocks differ")
    return found


def _events(number: int, before: list[Recorded], after: list[Recorded]) -> Iterator[str]:
    shown_before, shown_after = list(map(_shown, before)), list(map(_shown, after))
    for place, (one, two) in enumerate(zip(shown_before, shown_after, strict=False), start=1):
        if one != two:
            yield f"T-{number}: event {place} was {one} and is {two}"
            return
    if len(shown_before) != len(shown_after):
        yield f"T-{number}: {len(before)} events were recorded, {len(after)} follow now"


def _shown(event: Recorded) -> tuple[Any, ...]:
    reason = None if event.reason is None else msgspec.json.decode(msgspec.json.encode(event.reason))  # as it is stored
    return event.type, event.data, event.happened_at, event.recorded_at, event.given, event.actor, reason
