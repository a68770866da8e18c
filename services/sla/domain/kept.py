"""How a ticket's clocks are written, and read again: short, because it is written with each decision.

What can be told from the rest is left out. An array, whose places the views of the service know too:

| place | holds |
|---|---|
| 0, 1, 2 | playbook version, instant of the last fact, policy |
| 3 | phases; the ticket was created when the first of them began, and is in the status of the last |
| 4 | places: whose time it was |
| 5 | clocks: metric, due instant, target, elapsed time, warnings, and an object of what is not as usual (`_Rest`) |
| 6 | attributes |
| 7 | an object of what is not as usual of the ticket (`_Further`) |

Rows of before hold an object instead, the members of `SlaState` by name; it is read as it always was.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from services.sla.domain.clock import Clock, State, Warning
from services.sla.domain.ticket import Desk, OpenNode, Place, SlaState
from services.sla.domain.track import ZERO, Phase, Span

Usual = TypeVar("Usual")


class _Rest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is not as usual of a clock, the rarest last. Usual is: the first cycle of a promise that holds since the ticket was
    created and counts since then, under the ticket's policy, armed by the last fact and not looked at since.
    """

    calendar: str | None = None
    cause: str = "opened"
    cycle: int = 1
    started_at: datetime | UnsetType = UNSET
    counts_from: datetime | UnsetType = UNSET
    """Usually `started_at`."""
    armed_at: datetime | UnsetType = UNSET
    as_of: datetime | UnsetType = UNSET
    """Usually `armed_at`."""
    state: State = State.RUNNING
    generation: int = 1
    warned_at: tuple[datetime, ...] = ()
    paused: bool = False
    paused_time: timedelta | UnsetType = UNSET
    breached_at: datetime | None = None
    breach_cause: str | None = None
    stopped_at: datetime | None = None
    stop_cause: str | None = None
    continued: bool = False
    spans: tuple[Span, ...] | UnsetType = UNSET
    anchors: dict[str, datetime] = {}


class _Clock(msgspec.Struct, frozen=True, array_like=True):
    metric: str
    due_at: datetime | None
    target: timedelta | None
    elapsed: timedelta
    warnings: tuple[Warning, ...]
    rest: _Rest


class _Further(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is not as usual of a ticket. Usual is: classified, of the priority that its attributes name, with its last
    place's group and person, and with that group since then.
    """

    opening: bool = False
    ready: bool = True
    answered: bool = False
    waiting_since: datetime | None = None
    replied_at: datetime | None = None
    group_since: datetime | UnsetType | None = UNSET
    desk: Desk | UnsetType = UNSET
    nodes: dict[str, OpenNode] = {}
    merged: bool = False
    priority: str | UnsetType | None = UNSET
    group: str | UnsetType | None = UNSET
    person: str | UnsetType | None = UNSET


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    version: int
    at: datetime
    policy: str | None
    phases: tuple[Phase, ...]
    places: tuple[Place, ...]
    clocks: tuple[_Clock, ...]
    attributes: dict[str, Any]
    further: _Further


_NOWHERE = Place(datetime.min, "queue")
"""States of before places were kept have none."""
_short = msgspec.json.Decoder(_Kept)
_by_name = msgspec.json.Decoder(SlaState)


def to_json(state: SlaState) -> bytes:
    """The state as stored."""
    return msgspec.json.encode(short(state))


def from_json(data: str | bytes) -> SlaState:
    """The stored state; raises `msgspec.ValidationError` when it is none."""
    return _by_name.decode(data) if data[:1] in ("{", b"{") else _whole(_short.decode(data))


def short(state: SlaState) -> msgspec.Struct:
    """The state as it is to be encoded."""
    place = state.places[-1] if state.places else _NOWHERE
    group, person, attributes = state.group, state.person, state.attributes
    usual = _spans(state.created_at, state.version, state.policy, state.priority)
    return _Kept(
        state.version, state.at, state.policy, state.phases, state.places,
        tuple([_short_clock(clock, state, usual) for clock in state.clocks]),
        attributes,
        _Further(
            state.opening, state.ready, state.answered, state.waiting_since, state.replied_at,
            UNSET if state.group_since == _since(group, place) else state.group_since,
            UNSET if state.desk == _desk(state.status, group, person) else state.desk,
            state.nodes, state.merged,
            UNSET if state.priority == attributes.get("priority") else state.priority,
            UNSET if group == place.team else group,
            UNSET if person == place.person else person,
        ),
    )  # fmt: skip


def _whole(kept: _Kept) -> SlaState:
    further, phases, attributes = kept.further, kept.phases, kept.attributes
    place = kept.places[-1] if kept.places else _NOWHERE
    created_at, status = phases[0].at, phases[-1].status
    priority = _or(further.priority, attributes.get("priority"))
    group, person = _or(further.group, place.team), _or(further.person, place.person)
    return SlaState(
        version=kept.version, created_at=created_at, at=kept.at, status=status, phases=phases, attributes=attributes,
        ready=further.ready, policy=kept.policy, priority=priority, opening=further.opening, answered=further.answered,
        waiting_since=further.waiting_since, replied_at=further.replied_at, group=group,
        group_since=_or(further.group_since, _since(group, place)), nodes=further.nodes, merged=further.merged,
        clocks=tuple([_whole_clock(clock, kept, created_at, priority) for clock in kept.clocks]),
        desk=_or(further.desk, _desk(status, group, person)), person=person, places=kept.places,
    )  # fmt: skip


def _short_clock(clock: Clock, state: SlaState, usual: tuple[Span, ...]) -> _Clock:
    started_at, counts_from, armed_at = clock.started_at, clock.counts_from, clock.armed_at
    if counts_from != state.created_at:
        usual = _spans(counts_from, state.version, state.policy, state.priority)
    return _Clock(
        clock.metric, clock.due_at, clock.target, clock.elapsed, clock.warnings,
        _Rest(
            clock.calendar, clock.cause, clock.cycle,
            UNSET if started_at == state.created_at else started_at,
            UNSET if counts_from == started_at else counts_from,
            UNSET if armed_at == state.at else armed_at,
            UNSET if clock.as_of == armed_at else clock.as_of,
            clock.state, clock.generation, clock.warned_at, clock.paused, clock.paused_time or UNSET,
            clock.breached_at, clock.breach_cause, clock.stopped_at, clock.stop_cause, clock.continued,
            UNSET if clock.spans == usual else clock.spans,
            clock.anchors,
        ),
    )  # fmt: skip


def _whole_clock(clock: _Clock, kept: _Kept, created_at: datetime, priority: str | None) -> Clock:
    rest = clock.rest
    started_at, armed_at = _or(rest.started_at, created_at), _or(rest.armed_at, kept.at)
    counts_from = _or(rest.counts_from, started_at)
    return Clock(
        metric=clock.metric, cycle=rest.cycle, started_at=started_at, counts_from=counts_from,
        spans=_or(rest.spans, _spans(counts_from, kept.version, kept.policy, priority)), calendar=rest.calendar,
        state=rest.state, target=clock.target, due_at=clock.due_at, armed_at=armed_at, cause=rest.cause,
        generation=rest.generation, warnings=clock.warnings, warned_at=rest.warned_at, breached_at=rest.breached_at,
        breach_cause=rest.breach_cause, stopped_at=rest.stopped_at, stop_cause=rest.stop_cause, paused=rest.paused,
        continued=rest.continued, anchors=rest.anchors, elapsed=clock.elapsed, paused_time=_or(rest.paused_time, ZERO),
        as_of=_or(rest.as_of, armed_at),
    )  # fmt: skip


# ---- what is usual ----------------------------------------------------------------------------------------------------------


def _spans(since: datetime, version: int, policy: str | None, priority: str | None) -> tuple[Span, ...]:
    return () if policy is None else (Span(since, version, policy, priority),)


def _since(group: str | None, place: Place) -> datetime | None:
    return None if group is None else place.at


def _desk(status: str, group: str | None, person: str | None) -> Desk:
    name, _, reason = status.partition(":")
    return Desk(name, reason or None, group, person)


def _or(value: Usual | UnsetType, usual: Usual) -> Usual:
    return usual if value is UNSET else value
