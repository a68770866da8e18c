"""One replay: a log, a playbook with the log's people, a world in memory, and the database behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy import Engine as Database

from services.control import platform, publish
from services.control.checks import problems_of
from services.control.cli import Failure
from services.control.replay import mapping as mappings
from services.control.replay import reading
from services.control.replay.behind import Behind
from services.control.replay.engine import Engine
from services.control.replay.history import Given, given, steps
from services.control.replay.mapping import Mapping
from services.control.replay.people import People, people_of, staffed
from services.control.replay.play import Played, Player
from services.control.replay.reading import Log, Rejects
from services.control.replay.report import Tally
from services.control.replay.world import World
from services.gateway import attribution
from shared.ledger.process import Deps
from shared.playbook.model import Document, Playbook
from shared.playbook.source import BadPlaybook, Problem, read_document
from shared.runtime.settings import Settings

WRITE_EVENTS = 5_000
"""So many events are gathered before they are written behind."""
LINK_KEY = "the links of a replay lead nowhere, and are the same each time"
Tell = Callable[[datetime, int, int], None]
"""Hears where a replay is: instant, rows since last time, tickets so far."""


@dataclass(frozen=True, slots=True)
class History:
    """A log that was read, and what it gives."""

    name: str
    mapping: Mapping
    log: Log
    people: People
    everything: list[Given]

    @property
    def start(self) -> datetime:
        return self.everything[0].at

    @property
    def years(self) -> range:
        """The years for which holidays are looked up."""
        return range(self.everything[0].at.year - 1, self.everything[-1].at.year + 3)


def load(events: Path, wanted_mapping: str | None, rejects: Rejects) -> History:
    """Read a log through its mapping. Raises `BadPlaybook` for the mapping and `Failure` for a log without a good row."""
    path = mappings.find(events, wanted_mapping)
    columns = reading.header(events)
    mapping = mappings.load(path, columns, events.name)
    log = reading.read(events, mapping, rejects)
    if not log.rows:
        raise Failure(f"replay: {events}: no good row among {log.read} (see {rejects.name})")
    return History(events.name, mapping, log, people_of(log), given(log, mapping))


def playbook_of(name: str, history: History) -> Playbook:
    """A playbook, checked, with the log's people in it. Raises `BadPlaybook`."""
    checked = publish.load(name, history.years)
    document = staffed(checked.playbook.document, history.people)
    playbook = Playbook(0, document, checked.playbook.specs)
    wrong = [one for one in problems_of(playbook, read_document({}, document.name)) if not one.warning]
    wrong += [Problem(why, field=where) for where, why in _unplayable(document)]
    if wrong:
        raise BadPlaybook(wrong)
    return playbook


def _unplayable(document: Document) -> Iterator[tuple[str, str]]:
    """What a world in memory does not do: holding back, and presence that an offer changes."""
    for number, rules in enumerate(document.rules):
        for place, rule in enumerate(rules.rules):
            if rule.then.hold is not None:
                yield f"rules[{number}].rules[{place}].then.hold", "a replay cannot hold tickets back"
    for name, group in document.groups.items():
        if group.offer is not None and (group.offer.on_timeout or group.offer.on_decline) is not None:
            yield f"groups.{name}.offer", "a replay keeps everybody's presence as it is"


def prepare(settings: Settings, database: Database, playbook: Playbook, start: datetime) -> Deps:
    """Publish the playbook in an empty database whose business time stands at `start`."""
    deps = platform.deps(replace(settings, redis_url=None), database, fresh=True)
    deps.playbooks.max_age_seconds = 3600.0  # this process publishes once, and nobody else is here
    with database.connect() as connection:
        connection.exec_driver_sql("insert into ledger.clock (at) values (%s)", (start,))
        connection.commit()
        publish.publish(deps, connection, playbook, by="replay")
    deps.directory.max_age_seconds = 3600.0
    Engine(deps, database).settle_all()
    return deps


def play(history: History, deps: Deps, database: Database, rejects: Rejects, tell: Tell) -> tuple[Tally, Played]:
    """Play a history on a prepared database."""
    with database.connect() as connection:
        playbook = deps.playbooks.current(connection)
        directory = deps.directory.get(connection)
        first_id = deps.ids.take(connection, 1)[0]
        connection.commit()
    tally, behind = Tally(), Behind(database)
    settings = replace(deps.settings, link_key=LINK_KEY)
    world = World(playbook, directory, settings, behind, tally.hear, first_id=first_id)
    player = Player(world, history.people, directory, lambda one, why: rejects.add(one.line, [one.case], why))

    def after_step(at: datetime, rows: int) -> None:
        if behind.waiting >= WRITE_EVENTS:
            behind.write(world.now, world.ids.next)
        tell(at, rows, player.played.opened)

    try:
        player.play(steps(history.everything), after_step)
        behind.write(world.now, world.ids.next)
    finally:
        behind.close()
    return tally, player.played


def elapsed(connection: Connection, history: History, tally: Tally) -> dict[str, dict[str, float]]:
    """Whose time all tickets took up to the end, in seconds of wall time: by kind and by team, each without remainder."""
    if tally.last is None or tally.last <= history.start:
        return {}
    found: dict[str, dict[str, float]] = {}
    for way in ("kind", "team"):
        items = attribution.of_period(connection, history.start, tally.last, way)["items"]
        named = {str(item["name"] or item["part"]): round(item["seconds"], 3) for item in items}
        found[f"by_{way}"] = dict(sorted(named.items()))
    return found


def result(history: History, playbook: str, tally: Tally, played: Played, rejected: int) -> dict[str, Any]:
    """All of it as plain data; the same history under the same playbook makes the same bytes."""
    return {
        "history": {
            "name": history.name,
            "mapping": history.mapping.title,
            "rows": history.log.read,
            "cases": len(history.log.rows),
            "rejected": rejected,
        },
        "playbook": playbook,
        "given": {
            "openings": played.opened,
            "acts": dict(sorted(played.acts.items())),
            "refused": dict(sorted(played.refused.items())),
        },
        **tally.as_dict(),
    }
