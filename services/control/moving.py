"""Running tickets and playbook versions: what a move would change, making it, taking it back.

A ticket runs under one version (`ticket.playbook`), read by every service when it next decides. `ticket.repinned` changes it:

    from-now   its clocks keep what they counted; new targets, pauses, calendars hold from this instant
    whole      its clocks are counted anew from their start under the new version alone
    undo       its clocks are what they would be had the version never reached it

Its case goes along, node by node (`cases`). What else has begun under the old version goes on as it began: an assignment, a running
escalation, a planned message. A ticket whose case has no place in the new version, or that needs a group which it does not have,
stays where it is, and is listed.

Tickets are moved a few hundred at a time, in their own short transactions and in the bulk lane, so that nobody waits for them.
Which are still to be moved is read from the tickets themselves, so a move that was cut off goes on when it is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine

from services.control import platform
from services.control.cases import Before, Cases, Way
from services.sla.ahead import Ahead, look_ahead
from shared.contracts import events as e
from shared.contracts.envelope import Actor, New
from shared.ledger import business, tickets
from shared.ledger.lane import Lane, Ring
from shared.ledger.process import Deps
from shared.ledger.unit import Unit
from shared.playbook.model import Playbook
from shared.ticket.state import Ticket

BATCH = 250
Watch = Callable[[int], None]
Making = Callable[[Ticket], e.TicketRepinned | None]


def nobody_watches(_: int) -> None:
    """Progress that is not shown."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One running ticket: what a move would change of its clocks and its case, or why it `stays` where it is."""

    ahead: Ahead
    way: Way
    stays: str | None


@dataclass(slots=True)
class Moved:
    """What became of the running tickets. `touched`: of those taken back, the ones that are
    recomputed, because something had happened to them since or they began under the version."""

    moved: int = 0
    stayed: dict[int, str] = field(default_factory=dict)
    touched: list[int] = field(default_factory=list)


def foresee(
    deps: Deps, connection: Connection, candidate: Playbook, mode: str, progress: Watch = nobody_watches
) -> Iterator[Foreseen]:
    """Every running ticket that is not under `candidate` yet, in id order. Nothing is written."""
    now = business.now(connection)
    cases = Cases(deps, connection, now)
    for ahead in look_ahead(deps, connection, candidate, "whole" if mode == "whole" else "from-now", now):
        progress(1)
        way = cases.onto(ahead.ticket, candidate)
        yield Foreseen(ahead, way, why_it_stays(cases.after(ahead.ticket, way), way, candidate))


def why_it_stays(after: Ticket, way: Way, new: Playbook) -> str | None:
    """Why the ticket cannot go on under `new`, where it would stand as `after`; None: it can."""
    if way.stays is not None:
        return way.stays
    wanted = {after.group, after.home_group, *(node.group for node in after.nodes)}
    named = (one for one in wanted if one is not None and not one.startswith("role:"))
    gone = sorted(one for one in named if one not in new.document.groups)
    return f"there is no group {gone[0]} there" if gone else None


class Mover:
    """Moves the running tickets to `version`, the current one."""

    def __init__(self, deps: Deps, engine: Engine, version: int, by: str, progress: Watch = nobody_watches) -> None:
        self.deps, self.engine, self.version = deps, engine, version
        self.actor = Actor(kind="person", id=by)
        self.progress = progress
        self.done = Moved()
        # The clocks are brought along here as well as by the running workers, so that a move needs no worker and never runs ahead.
        self._lane = clock_lane(deps, engine, "bulk")

    def move(self, mode: str) -> Moved:
        """Move every open ticket that is under another version."""
        self._all(
            lambda ticket: e.TicketRepinned(version=self.version, from_version=ticket.playbook, mode=mode), pinned=None
        )
        self.done.touched = []
        return self.done

    def take_back(self, undone: int, mode: str) -> Moved:
        """Give the tickets that were moved to version `undone` back to where they were.

        Those opened under it follow the current version in the mode in which it was applied; with `keep` they stay.
        """

        def event(ticket: Ticket) -> e.TicketRepinned | None:
            under = ticket.playbook
            if ticket.moved_from is not None:
                back = ticket.moved_from
                return e.TicketRepinned(version=back, from_version=under, mode="undo", undoes=undone)
            if mode == "keep":
                return None
            return e.TicketRepinned(version=self.version, from_version=under, mode=mode)

        self._all(event, pinned=undone)
        return self.done

    # ---- in batches ---------------------------------------------------------------------------------------------------

    def _all(self, event: Making, *, pinned: int | None) -> None:
        under = tickets.Under(other_than=self.version) if pinned is None else tickets.Under(exactly=pinned)
        after = 0
        while found := self._batch(event, under, after):
            after = max(found)
        with self.engine.connect() as connection:
            busy = [i for i in tickets.ids_under(connection, under) if i not in self.done.stayed]
        for start in range(0, len(busy), BATCH):  # what somebody had in hand: in turn with everybody else now
            self._batch(event, under, 0, busy[start : start + BATCH])
        self._lane.drain()

    def _batch(self, event: Making, under: tickets.Under, after: int, ids: Sequence[int] | None = None) -> list[int]:
        with self.engine.connect() as connection:
            found = tickets.lock_under(connection, under, after, BATCH, ids=ids)
            if not found:
                connection.rollback()
                return []
            now = business.now(connection)
            unit = Unit(connection, now, self.actor, self.version, given=True)
            cases = Cases(self.deps, connection, now)
            backwards = [
                ticket for ticket in found if ticket.moved_from is not None and ticket.playbook != self.version
            ]
            touched = _touched(connection, backwards)
            before = {} if under.exactly is None else cases.before([one.id for one in found], under.exactly)
            for ticket in found:
                data = event(ticket)
                if data is None:
                    self.done.stayed[ticket.id] = "it began under that version"
                    continue
                went = self._one(unit, cases, ticket, data, under.exactly, before.get(ticket.id))
                if went and (data.undoes is None or ticket.id in touched):
                    self.done.touched.append(ticket.id)
            unit.flush()
            connection.commit()
        self._lane.drain()
        self.progress(len(found))
        return [ticket.id for ticket in found]

    def _one(
        self,
        unit: Unit,
        cases: Cases,
        ticket: Ticket,
        data: e.TicketRepinned,
        undone: int | None,
        before: Before | None,
    ) -> bool:
        """Move one ticket and its case; False: it stays."""
        there = self.deps.playbooks.get(unit.connection, data.version)
        way = cases.onto(ticket, there) if undone is None else cases.off(ticket, undone, there, before)
        # a version that the ticket was under before has its groups
        why = way.stays if data.undoes is not None else why_it_stays(cases.after(ticket, way), way, there)
        if why is not None:
            self.done.stayed[ticket.id] = why
            return False
        reason = {"why": f"apply --running {data.mode}"}
        # the case first: a ticket counts as untouched when nothing happened after it was given its version
        unit.append_to_ticket(ticket, tuple(New(one, reason) for one in (*way.events, data)), by="sla")
        unit.wake("sla", "ticket", ticket.id, "bulk")
        if way.events:  # the timers of its nodes may be others now
            unit.wake("escalation", "ticket", ticket.id, "bulk")
        self.done.moved += 1
        return True


def clock_lane(deps: Deps, engine: Engine, lane: str) -> Lane:
    """A lane of the SLA service, driven by whoever calls."""
    (handler,) = (one for one in platform.parts("sla", deps).handlers if one.kind == "ticket")
    return Lane(engine, handler, lane, None, _rung_by(deps), deps.playbook_number, cap=BATCH)


def _rung_by(deps: Deps) -> Ring:
    def ring(targets: set[tuple[str, str]]) -> None:
        deps.bells.ring(targets)

    return ring


def _touched(connection: Connection, found: Sequence[Ticket]) -> set[int]:
    """Of tickets about to be given back, those to which something happened since they were moved."""
    if not found:
        return set()
    rows = connection.exec_driver_sql(
        """select t.id from unnest(%s::bigint[]) as t (id)
        cross join lateral (
            select m.version from ledger.event m
            where m.kind = 'ticket' and m.id = t.id and m.type = 'ticket.repinned' order by m.version desc limit 1
        ) moved
        cross join lateral (
            select from ledger.event e where e.kind = 'ticket' and e.id = t.id and e.version > moved.version
            and (e.type like 'ticket.%%' or e.type in ('node.entered', 'node.completed'))
            and e.type not in ('ticket.noted', 'ticket.mentioned', 'ticket.rated') limit 1
        ) since""",
        ([ticket.id for ticket in found],),
    )
    return {row.id for row in rows}
