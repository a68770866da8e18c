"""The flow cases of running tickets when these go to another playbook version: what moves where, what cannot, and the way back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy import Connection

from shared.contracts import events as e
from shared.directory.people import Directory
from shared.ledger.process import Deps
from shared.playbook import flows
from shared.playbook.model import Playbook
from shared.ticket import moving
from shared.ticket.course import Course
from shared.ticket.flow.state import FlowState, load
from shared.ticket.projection import evolve
from shared.ticket.state import Ticket

_BEFORE = """
select t.id, b.state, last.version = m.version as untouched
from unnest(%s::bigint[]) as t (id)
cross join lateral (
    select e.version from ledger.event e where e.kind = 'ticket' and e.id = t.id and e.type = 'flow.moved'
    and e.data ->> 'step' = 'migrated' and (e.data ->> 'version')::integer = %s order by e.version desc limit 1
) m
cross join lateral (
    select e.data ->> 'state' as state from ledger.event e where e.kind = 'ticket' and e.id = t.id and e.type = 'flow.moved'
    and e.version < m.version order by e.version desc limit 1
) b
cross join lateral (
    select e.version from ledger.event e where e.kind = 'ticket' and e.id = t.id and e.type = 'flow.moved'
    order by e.version desc limit 1
) last
"""


@dataclass(frozen=True, slots=True)
class Before:
    """A case before it was moved; `untouched`: it has taken no step since."""

    state: FlowState
    untouched: bool


@dataclass(frozen=True, slots=True)
class Way:
    """What becomes of a ticket's case: the events, a line for each visit that people see change, or why it `stays`."""

    events: tuple[e.Data, ...] = ()
    lines: tuple[str, ...] = ()
    stays: str | None = None


class Cases:
    """Moves cases in one transaction: `now`, people and versions are those of its beginning."""

    def __init__(self, deps: Deps, connection: Connection, now: datetime) -> None:
        self._deps, self._connection, self._now = deps, connection, now
        self._directory: Directory = deps.directory.get(connection)

    def onto(self, ticket: Ticket, there: Playbook) -> Way:
        """The case on the flow of the same name in version `there`, by that flow's `moved`."""
        return self._move(ticket, there, None)

    def off(self, ticket: Ticket, undone: int, there: Playbook, before: Before | None) -> Way:
        """The case away from version `undone`: as it was `before`, or by the way back of that version's `moved`."""
        if not ticket.in_flow or ticket.flow is None or ticket.flow.version != undone:
            return Way()
        target = there if before is None else self._version(before.state.version)
        left = self._course(self._version(undone), ticket.flow.flow)
        back = None if before is None else self._course(target, before.state.flow)
        if before is not None and before.untouched and left is not None and back is not None:
            return _way(ticket, moving.put_back(ticket, before.state, left, back))
        return self._move(ticket, target, {} if left is None else moving.reverse(left.program.flow.moved))

    def before(self, ids: Sequence[int], undone: int) -> dict[int, Before]:
        """The cases of these tickets as they were before they were moved to version `undone`, where they were."""
        rows = self._connection.exec_driver_sql(_BEFORE, (list(ids), undone))
        return {row.id: Before(load(msgspec.json.decode(row.state)), row.untouched) for row in rows}

    def after(self, ticket: Ticket, way: Way) -> Ticket:
        """The ticket as it will be."""
        for data in way.events:
            ticket = evolve(ticket, data, self._now, ticket.version + 1)
        return ticket

    def _move(self, ticket: Ticket, there: Playbook, mapping: dict[str, str] | None) -> Way:
        if not ticket.in_flow or ticket.flow is None:
            return Way()
        name = ticket.flow.flow
        old, new = self._course(self._version(ticket.flow.version), name), self._course(there, name)
        if old is None or new is None:
            return Way(stays=f"there is no flow {name} there")
        return _way(ticket, moving.move(ticket, old, new, mapping))

    def _course(self, playbook: Playbook, flow: str) -> Course | None:
        return flows.course(playbook, flow, self._now, self._directory)

    def _version(self, number: int) -> Playbook:
        found: Playbook = self._deps.playbooks.get(self._connection, number)
        return found


def _way(ticket: Ticket, moved: moving.Moved) -> Way:
    if moved.obstacles:
        first = moved.obstacles[0]
        where = f"its case at {first.node}" + (f"#{first.visit}" if first.visit else "") if first.node else "its case"
        return Way(stays=f"{where}: {first.reason}")
    return Way(moved.events, tuple(_lines(moved)))


def _lines(moved: moving.Moved) -> Iterator[str]:
    for one in moved.moves:
        name = f"node {one.visit.node}#{one.visit.visit}"
        needs = f", needs {', '.join(one.needs)}" if one.needs else ""
        if one.to is None:
            yield f"{name}: ends"
        elif not one.kept:
            yield f"{name}: goes on at {one.to.node}#{one.to.visit}{needs}"
        elif needs:
            yield f"{name}: goes on{needs}"
