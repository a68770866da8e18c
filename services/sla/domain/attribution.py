"""Whose time it was: a ticket's life from its creation, cut into slices that each belong to exactly one bearer.

A slice is *closed* time, or *customer* wait (the ticket is in a pausing status), or it lies in a group's *queue* (nobody has
it), or on a *person*'s desk. The last two also belong to a team (the group) and to a node of the flow: where several are open
at once, the one entered last. Every view of it is a partition: its parts add up to the whole, to the microsecond, in wall time
and in open time alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from services.sla.domain import facts as f
from services.sla.domain.terms import CLOSED
from services.sla.domain.ticket import Place
from services.sla.domain.track import ZERO
from shared.calendar import ALWAYS_OPEN, BusinessCalendar

Bearer = tuple[str | None, str | None, str | None]
WAITING = frozenset({"pending"})
View = Literal["kind", "team", "person", "node"]
Part = tuple[str, str | None]
"""What bore the time, and its name: `("person", "anna")`, `("queue", "level1")`, `("closed", None)`."""


class Kind(StrEnum):
    """Closed wins over customer wait, that over desk and queue."""

    CLOSED = "closed"
    CUSTOMER = "customer"
    QUEUE = "queue"
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch `[start, end)` of a ticket's life with one bearer."""

    start: datetime
    end: datetime
    kind: Kind
    team: str | None = None
    person: str | None = None
    node: str | None = None

    def part(self, view: View) -> Part:
        """Which part of a view the slice belongs to."""
        if self.kind in (Kind.CLOSED, Kind.CUSTOMER):
            return self.kind.value, None
        if view == "team":
            return "team", self.team
        if view == "node":
            return "node", self.node
        if self.kind is Kind.QUEUE:
            return "queue", self.team
        return ("person", self.person) if view == "person" else ("person", None)


def split(slices: Iterable[Slice], view: View, calendar: BusinessCalendar = ALWAYS_OPEN) -> dict[Part, timedelta]:
    """Time by part of the view; wall time, or open time of `calendar`; the parts add up to the whole."""
    total: dict[Part, timedelta] = {}
    for one in slices:
        part = one.part(view)
        total[part] = total.get(part, ZERO) + calendar.between(one.start, one.end)
    return total


def placed(places: Sequence[Place], at: datetime, status: str, bearer: Bearer) -> tuple[Place, ...]:
    """The places of a ticket that is so from `at` on (`bearer`: team, person, node): one more only where the bearer changes."""
    kind = kind_of(status, bearer[1])
    new = Place(at, kind.value) if kind is Kind.CLOSED else Place(at, kind.value, *bearer)
    while places and places[-1].at == at:
        places = places[:-1]
    if places:
        last = places[-1]
        if (last.kind, last.team, last.person, last.node) == (new.kind, new.team, new.person, new.node):
            return tuple(places)
    return (*places, new)


def kind_of(status: str, person: str | None) -> Kind:
    """Which kind of time passes in a status, with this person on it."""
    if status in CLOSED:
        return Kind.CLOSED
    if status.partition(":")[0] in WAITING:
        return Kind.CUSTOMER
    return Kind.QUEUE if person is None else Kind.PERSON


def slices_of(places: Sequence[Place], until: datetime) -> tuple[Slice, ...]:
    """The places kept with a ticket's clocks as slices up to `until`."""
    ends = [*(one.at for one in places[1:]), until]
    return tuple(
        Slice(one.at, min(end, until), Kind(one.kind), one.team, one.person, one.node)
        for one, end in zip(places, ends, strict=True)
        if one.at < until
    )


def attribute(
    facts: Sequence[f.Fact],
    until: datetime,
    *,
    closed_on: frozenset[str] = CLOSED,
    waiting_on: frozenset[str] = WAITING,
) -> tuple[Slice, ...]:
    """The slices from the ticket's creation (the first fact) to `until`, in order, without gap or overlap, neighbours of one
    bearer joined.

    Facts later than `until` are left out; one that claims to be earlier than its predecessor counts at the predecessor's instant.
    """
    if not facts:
        return ()
    place = _Place(closed_on, waiting_on)
    slices: list[Slice] = []
    begin = facts[0].at
    for fact in facts:
        at = max(fact.at, begin)
        if at >= until:
            break
        _cut(slices, place, begin, at)
        begin = at
        place.take(fact)
    _cut(slices, place, begin, until)
    return tuple(slices)


def _cut(slices: list[Slice], place: _Place, start: datetime, end: datetime) -> None:
    if end <= start:
        return
    new = place.slice(start, end)
    if slices and _bearer(slices[-1]) == _bearer(new):
        new = place.slice(slices.pop().start, end)
    slices.append(new)


def _bearer(one: Slice) -> tuple[Kind, str | None, str | None, str | None]:
    return one.kind, one.team, one.person, one.node


class _Place:
    """Where the ticket is while its facts are walked."""

    def __init__(self, closed_on: frozenset[str], waiting_on: frozenset[str]) -> None:
        self.closed_on, self.waiting_on = closed_on, waiting_on
        self.status = "new"
        self.team: str | None = None
        self.person: str | None = None
        self.nodes: list[str] = []

    def take(self, fact: f.Fact) -> None:
        match fact:
            case f.Created() | f.StatusChanged():
                self.status = fact.status
            case f.Merged():
                self.status = "merged"
            case f.GroupChanged() if fact.group != self.team:
                self.team, self.person = fact.group, None
            case f.PersonChanged():
                self.person = fact.person
            case f.NodeEntered():
                self.nodes = [*(one for one in self.nodes if one != fact.node), fact.node]
            case f.NodeCompleted() if fact.node in self.nodes:
                self.nodes.remove(fact.node)
            case _:
                pass

    def slice(self, start: datetime, end: datetime) -> Slice:
        if self.status in self.closed_on:
            return Slice(start, end, Kind.CLOSED)
        node = self.nodes[-1] if self.nodes else None
        if self.status.partition(":")[0] in self.waiting_on:
            return Slice(start, end, Kind.CUSTOMER, self.team, self.person, node)
        kind = Kind.QUEUE if self.person is None else Kind.PERSON
        return Slice(start, end, kind, self.team, self.person, node)
