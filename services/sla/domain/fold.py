"""One fact after the other, and the timers that fell due in between, each at its effective instant.

The fold is a working copy of an `SlaState`; `decide` and `compute` are its only users. Before a fact at `t` is taken, every
warning and breach that falls before `t` fires, so that an outage of hours gives the same clocks and the same events as no
outage. At equal instants the fact comes first: an answer exactly at the due instant is in time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from services.sla.domain.arming import arm, due_computed, read, terms_of
from services.sla.domain.attribution import placed
from services.sla.domain.clock import Clock, State, Warning, WarningState, seconds
from services.sla.domain.terms import Choice, Library, Policy
from services.sla.domain.ticket import SlaState
from services.sla.domain.track import Span, waits
from shared.contracts import events as e

LATE_AFTER = timedelta(seconds=60)
"""An effect decided this long after its instant is marked late: an outage, not the ordinary second of work."""

ALWAYS = datetime.min.replace(tzinfo=UTC)
NEVER = datetime.max.replace(tzinfo=UTC)
CONTINUES = frozenset({"closed", "policy"})
"""Ends after which the same promise may go on, as a new cycle."""


class Fold:
    """See the module. `changed` holds every clock touched since the start, ended cycles included, in order of first touch."""

    __slots__ = (
        "_moved", "_soonest", "_started",
        "answered", "at", "attributes", "changed", "choice", "clocks", "created_at", "desk", "events",
        "group", "group_since", "library", "merged", "nodes", "now", "opening", "passed_on", "person", "phases", "places", "policy",
        "priority", "ready", "replied_at", "status", "version", "waiting_since",
    )  # fmt: skip

    def __init__(self, state: SlaState, library: Library, now: datetime) -> None:
        self.library, self.now = library, now
        self.version, self.created_at, self.at = state.version, state.created_at, state.at
        self.status, self.phases, self.attributes = state.status, state.phases, state.attributes
        self.ready, self.priority = state.ready, state.priority
        self.policy: Policy | None = None if state.policy is None else library.policy(state.version, state.policy)
        self.opening, self.answered = state.opening, state.answered
        self.waiting_since, self.replied_at = state.waiting_since, state.replied_at
        self.group, self.group_since, self.nodes = state.group, state.group_since, state.nodes
        self.merged, self.desk = state.merged, state.desk
        self.person, self.places = state.person, state.places
        self.clocks: dict[str, Clock] = {clock.metric: clock for clock in state.clocks}
        self.changed: dict[tuple[str, int], Clock] = {}
        self.events: list[tuple[datetime, e.Data]] = []
        self.choice: Choice | None = None
        self._started: list[Clock] = []
        self._moved: dict[str, list[Clock]] = {}
        self._soonest = min([_first(clock) for clock in self.clocks.values()], default=NEVER)
        """Nothing falls due before it."""
        self.passed_on = False
        """From `at` on the ticket's time may be somebody else's, which is not noted yet."""

    def state(self) -> SlaState:
        """What to keep."""
        return SlaState(
            version=self.version, created_at=self.created_at, at=self.at, status=self.status, phases=self.phases,
            attributes=self.attributes, ready=self.ready, policy=None if self.policy is None else self.policy.name,
            priority=self.priority, opening=self.opening, answered=self.answered, waiting_since=self.waiting_since,
            replied_at=self.replied_at, group=self.group, group_since=self.group_since, nodes=self.nodes, merged=self.merged,
            clocks=tuple(self.clocks.values()), desk=self.desk, person=self.person, places=self.places,
        )  # fmt: skip

    # ---- clocks -------------------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Is the ticket closed, as its policy understands it."""
        return self.policy is not None and self.status in self.policy.closed_on

    def open_clocks(self) -> list[Clock]:
        """The cycles that have not ended."""
        return [clock for clock in self.clocks.values() if clock.stopped_at is None]

    def put(self, clock: Clock) -> Clock:
        """Note a clock's new value."""
        self.clocks[clock.metric] = clock
        self.changed[clock.metric, clock.cycle] = clock
        first = _first(clock)
        if first < self._soonest:
            self._soonest = first
        return clock

    def started(self, clock: Clock) -> None:
        """Note a new cycle; told in one event with the others of this fact."""
        self._started.append(self.put(clock))

    def moved(self, clock: Clock, cause: str) -> None:
        """Note a new due instant; told in one event with the others of this fact and cause."""
        self._moved.setdefault(cause, []).append(self.put(clock))

    def place(self) -> None:
        """Note whose time it is from `at` on: once for all facts of that instant, after the last of them."""
        if self.passed_on:
            node = next(reversed(self.nodes), None) if self.nodes else None
            self.places = placed(self.places, self.at, self.status, (self.group, self.person, node))
            self.passed_on = False

    def flush(self) -> None:
        """Tell what the fact at `self.at` started and moved. A clock that ended in the same breath is told of by its end."""
        if self._started:
            self._tell(e.SlaStarted(clocks=tuple([ref(clock) for clock in self._started])))
            self._started = []
        for cause, clocks in self._moved.items():
            refs = tuple(ref(self.clocks[clock.metric]) for clock in clocks if self.clocks[clock.metric].open)
            if refs:
                self._tell(e.SlaMoved(clocks=refs, cause=cause))
        if self._moved:
            self._moved = {}

    def begin(self, metric: str, start: datetime, at: datetime, cause: str, visit: int = 0) -> Clock:
        """Open the next cycle of a metric for the promise that holds since `start`; it goes on where that promise last stopped."""
        policy = self.policy
        assert policy is not None
        span = Span(start, self.version, policy.name, self.priority)
        last = self.clocks.get(metric)
        cycle = max(visit, 1 if last is None else last.cycle + 1)
        clock = Clock(metric, cycle, start, start, (span,), armed_at=at, as_of=at)
        if last is not None and last.started_at == start and last.stop_cause in CONTINUES:
            clock = replace(
                clock,
                counts_from=last.counts_from,
                spans=self._spans_after(last, span),
                anchors=last.anchors,
                continued=True,
                breached_at=last.breached_at,
                breach_cause=last.breach_cause,
                warnings=last.warnings,
                warned_at=last.warned_at,
                generation=last.generation + 1,
            )
        clock = arm(clock, self.phases, self.status, self.library, at, cause)
        self.started(clock)
        return clock

    def _spans_after(self, last: Clock, span: Span) -> tuple[Span, ...]:
        """Spans of a cycle that goes on after the end of `last`: as before, or under the policy that came since."""
        policy = self.policy
        assert policy is not None
        assert last.stopped_at is not None
        before = last.span
        kept = policy.on_change == "keep" and last.stop_cause == "closed"
        if kept or (before.version, before.policy, before.priority) == (span.version, span.policy, span.priority):
            return last.spans
        return (*last.spans, Span(last.stopped_at, span.version, span.policy, span.priority))

    def stop(self, metric: str, at: datetime, cause: str) -> None:
        """End an open cycle because what was promised happened: met, or breached when that is later than the due instant."""
        clock = self.clocks.get(metric)
        if clock is None or clock.stopped_at is not None:
            return
        ended = self._end(clock, at, cause)
        if ended.state is not State.BREACHED and ended.due_at is not None and ended.due_at < at:
            self.put(ended)
            ended = self.breach(ended, max(ended.due_at, ended.armed_at))
        if ended.state is not State.BREACHED:
            ended = replace(ended, state=State.MET)
        self.put(ended)
        self.flush()
        self._tell(met(ended))

    def cancel(self, clock: Clock, at: datetime, cause: str) -> None:
        """End a cycle unanswered. What was breached before stays breached."""
        ended = self._end(clock, at, cause)
        if ended.state is not State.BREACHED:
            ended = replace(ended, state=State.CANCELLED)
        self.put(ended)
        self.flush()
        self._tell(e.SlaCancelled(metric=clock.metric, cycle=clock.cycle, cause=cause))

    def _end(self, clock: Clock, at: datetime, cause: str) -> Clock:
        if clock.paused:
            clock = self._unpaused(clock, at)
        ended = replace(clock, stopped_at=at, stop_cause=cause, paused=False)
        return read(ended, self.phases, self.library, at)

    def _unpaused(self, clock: Clock, at: datetime) -> Clock:
        """The due instant a paused clock has at `at`, for the record of its end."""
        return replace(clock, due_at=due_computed(clock, self.phases, self.library, at))

    def repause(self, at: datetime) -> None:
        """After a change of status: clocks that begin to wait lose their due instant, clocks that count again get a new one."""
        for clock in self.open_clocks():
            waiting = waits(*terms_of(clock, self.library), self.status)
            if waiting and not clock.paused:
                state = State.BREACHED if clock.breached_at is not None else State.PAUSED
                clock = replace(clock, paused=True, state=state, due_at=None)
                self.moved(read(clock, self.phases, self.library, at), "paused")
            elif clock.paused and not waiting:
                clock = replace(clock, generation=clock.generation + 1)
                self.moved(arm(clock, self.phases, self.status, self.library, at, "resumed"), "resumed")

    # ---- timers -------------------------------------------------------------------------------------------------------------

    def fire(self, upto: datetime) -> None:
        """Warn and breach, in order, everything whose instant lies before `upto`.

        At one instant, breaches that a change put into the past come before what falls due at just that instant: the change is
        noticed with its fact, the others at the first instant after it.
        """
        if self._soonest >= upto:
            return  # most facts come before anything is due
        for at, _, _, metric, index in sorted(self._due(upto)):
            clock = self.clocks[metric]
            if index < 0:
                self.put(self.breach(clock, at))
            else:
                self._warn(clock, index)
        self._soonest = min([_first(clock) for clock in self.clocks.values()], default=NEVER)

    def _due(self, upto: datetime) -> Iterator[tuple[datetime, bool, int, str, int]]:
        for metric, clock in self.clocks.items():
            if clock.stopped_at is not None or clock.paused or clock.breached_at is not None or clock.due_at is None:
                continue
            for index, warning in enumerate(clock.warnings):
                if warning.state is WarningState.ARMED and warning.at < upto:
                    yield warning.at, True, 0, metric, index
            if clock.due_at < upto:
                at = max(clock.due_at, clock.armed_at)
                yield at, clock.due_at == at, 1, metric, -1

    def _warn(self, clock: Clock, index: int) -> None:
        warning = clock.warnings[index]
        sent = Warning(warning.threshold, warning.at, WarningState.SENT)
        warnings = (*clock.warnings[:index], sent, *clock.warnings[index + 1 :])
        self.put(replace(clock, warnings=warnings, warned_at=(*clock.warned_at, warning.at)))
        assert clock.due_at is not None
        policy, _ = terms_of(clock, self.library)
        self._tell(
            e.SlaWarned(
                metric=clock.metric, threshold=warning.threshold, due_at=clock.due_at, cycle=clock.cycle,
                generation=clock.generation, policy=clock.span.policy, late=self._late(warning.at), recipients=policy.tell,
                remaining_seconds=seconds(policy.calendar.between(warning.at, clock.due_at)),
            ),
            warning.at,
        )  # fmt: skip

    def breach(self, clock: Clock, at: datetime) -> Clock:
        """The clock as breached at `at`: its due instant, or later where a change put the due instant into the past."""
        assert clock.due_at is not None
        cause = clock.cause if at > clock.due_at else "time"
        self._tell(
            e.SlaBreached(
                metric=clock.metric, due_at=clock.due_at, breached_at=at, cycle=clock.cycle, generation=clock.generation,
                policy=clock.span.policy, priority=clock.span.priority or "", cause=cause, late=self._late(at),
            ),
            at,
        )  # fmt: skip
        return replace(clock, state=State.BREACHED, breached_at=at, breach_cause=cause)

    def next_due_at(self) -> datetime | None:
        """The next instant that matters: the first after the earliest armed warning or due instant."""
        soonest = min([_first(clock, clock.armed_at) for clock in self.clocks.values()], default=NEVER)
        return None if soonest is NEVER else soonest + NOTICED

    def _late(self, at: datetime) -> bool:
        return self.now - at > LATE_AFTER

    def _tell(self, data: e.Data, at: datetime | None = None) -> None:
        self.events.append((self.at if at is None else at, data))


def _first(clock: Clock, not_before: datetime = ALWAYS) -> datetime:
    """The first instant at which something of a clock falls due; a breach `not_before` that."""
    first = clock.due_at
    if first is None or clock.stopped_at is not None or clock.paused or clock.breached_at is not None:
        return NEVER
    if first < not_before:
        first = not_before
    for warning in clock.warnings:
        if warning.at < first and warning.state is WarningState.ARMED:
            first = warning.at
    return first


NOTICED = timedelta(microseconds=1)
"""Timers fire at the first instant after their own, so that a fact at the same instant comes first, however late it is told."""


def met(clock: Clock) -> e.SlaMet:
    """How the end of a cycle is told: what was promised happened, in time or late."""
    assert clock.stopped_at is not None
    return e.SlaMet(
        metric=clock.metric,
        stopped_at=clock.stopped_at,
        cycle=clock.cycle,
        elapsed_seconds=seconds(clock.elapsed),
        breached=clock.state is State.BREACHED,
    )


def ref(clock: Clock) -> e.ClockRef:
    """A clock as an event names it."""
    return e.ClockRef(
        metric=clock.metric,
        cycle=clock.cycle,
        generation=clock.generation,
        policy=clock.span.policy,
        target_seconds=None if clock.target is None else seconds(clock.target),
        due_at=clock.due_at,
    )
