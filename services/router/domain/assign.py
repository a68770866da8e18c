"""Whose a ticket is: one batch of tickets against one pool.

For each demand (group, skills, effort) the fixed filters run once and those left stand in a heap by the strategy's
key. Keys only grow within a batch, so an entry that has fallen behind is put back with its new key when it comes up
(the classic lazy heap): O(log agents) a ticket, also when one agent stands in many heaps. Capacity is asked of the
agent itself, never of the heap, so it is exact.

A ticket that nobody can take is answered at once and never blocks those behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush, heapreplace

import msgspec

from services.router.domain.desk import ORDER, Desk, Filter, How, Request, Step, in_order
from services.router.domain.filters import Screened, Shifts, drops, has_skills, screen, skilled, wakes_at
from services.router.domain.outcomes import Assigned, Entry, Outcome, Scores, View, Waiting
from services.router.domain.pool import Agent, Hours, Pool, stand_in
from services.router.domain.strategies import key_of, turn_taken
from services.router.errors import UnknownGroup
from shared.playbook.routing import Strategy

SCORED = 20
"""Candidates of a group up to this many are explained with the score of each."""


class Assigner:
    """One batch. Not thread-safe; belongs to one transaction, as its pool does.

    `lightest` is the smallest weight a ticket can have (hundredths): an agent without room for it leaves its heaps.
    """

    def __init__(
        self,
        desks: Mapping[str, Desk],
        pool: Pool,
        now: datetime,
        hours: Mapping[str, Hours] | None = None,
        lightest: int = 1,
    ) -> None:
        self._desks, self.pool, self._now = desks, pool, now
        self._shifts = Shifts(hours or {}, now)
        self._lightest = lightest
        self._views: dict[object, View] = {}
        self._there: dict[object, Screened] = {}
        """Who of a group is there, whatever skills are asked for: many demands share it."""
        self.stamp = now.timestamp()

    def assign_all(self, requests: Iterable[Request]) -> list[Outcome]:
        """Serve the requests by priority, then by waiting time; return the outcomes in that order."""
        return [self.assign(request) for request in in_order(list(requests))]

    def assign(self, request: Request) -> Outcome:
        """Find somebody for one ticket and take their capacity, or say why not. Raises `UnknownGroup`."""
        desk = self._desks.get(request.group)
        if desk is None:
            raise UnknownGroup(request.group)
        notes: tuple[str, ...] = ()
        named = request.named or (desk.interface if request.from_outside else None)
        if named is not None:
            how = How.NAMED if request.named is not None else How.INTERFACE
            found, why = self._named(named, how, desk, request)
            if found is not None:
                return found
            notes = (f"{how} {named}: {why}",)
        if desk.strategy is Strategy.BY_FIELD:
            view = self._view(desk, Step.ALL, request)
            return Waiting(request.ticket, desk.name, Filter.GROUP, None, view, notes=notes)
        return self._choose(desk, request, notes)

    def take(self, view: View, agent: Agent, weight: int) -> None:
        """Book `weight` on the agent: load, turn, rate."""
        self.stamp += 1e-6  # within a batch, later is later
        self.pool.take(agent, weight, self.stamp)
        if view.desk.by_turn:
            turn_taken(view.desk, self.pool.turn(view.desk.name), agent.id)
        if view.desk.rate_limit is not None:
            place = (view.desk.name, agent.id)
            self.pool.recent[place] = self.pool.recent.get(place, 0) + 1

    def view(self, request: Request) -> View:
        """The look at the request's own group with its whole demand; look-ahead reads it."""
        return self._view(self._desks[request.group], Step.ALL, request)

    def places(self, request: Request, most: int) -> int:
        """How many tickets like this could be given out now, at most `most`; 0 when nobody can take even one."""
        desk = self._desks.get(request.group)
        if desk is None:
            return 0
        named = request.named or (desk.interface if request.from_outside else None)
        if named is not None and named in self.pool.agents:
            return 1  # asked for by name: whether they can is seen when it is this ticket's turn
        if desk.strategy is Strategy.BY_FIELD:
            return 0
        found = 0
        waited = (self._now - request.queued_at).total_seconds()
        for step in (Step.ALL, *self._relaxed(desk, request, waited, refused=bool(request.declined))):
            other = self._desks.get(desk.overflow or "") if step is Step.OVERFLOW else desk
            if other is None:
                continue
            view = self._view(other, step, request)
            for agent in view.screened.eligible:
                if self.refuses(view, agent, request) is None:
                    found += most if agent.capacity is None else (agent.capacity - agent.load) // max(1, request.weight)
                    if found >= most:
                        return most
        return found

    # -- steps
    # -----------------------------------------------------------------------------------------------------------

    def _choose(self, desk: Desk, request: Request, notes: tuple[str, ...]) -> Outcome:
        view = self._view(desk, Step.ALL, request)
        outcome = self._from(view, request, notes)
        if isinstance(outcome, Assigned) or (not desk.relax and desk.overflow is None):
            return outcome
        refused = outcome.all_declined
        waited = (self._now - request.queued_at).total_seconds()
        tried: tuple[Waiting, ...] = (outcome,)
        for step in self._relaxed(desk, request, waited, refused):
            further = self._relax(desk, step, request, notes)
            if isinstance(further, Assigned):
                return msgspec.structs.replace(further, tried=tried)
            if further is not None:
                refused = refused and further.all_declined
                tried = (*tried, further)
        outcome = max(tried, key=lambda one: ORDER[one.cause])  # the first of those that came furthest
        retry_at = _earliest(outcome.retry_at, self._next_relaxation(desk, request, waited))
        others = tuple(one for one in tried if one is not outcome)
        return msgspec.structs.replace(outcome, group=desk.name, retry_at=retry_at, all_declined=refused, tried=others)

    def _relaxed(self, desk: Desk, request: Request, waited: float, refused: bool) -> list[Step]:
        """The steps beyond the whole demand that are due; after everybody declined, the overflow group is due at once."""
        steps = [step for after, step in desk.relax if waited >= after]
        if not request.preferred and Step.MANDATORY in steps:
            steps.remove(Step.MANDATORY)
        if refused and desk.overflow is not None and Step.OVERFLOW not in steps:
            steps.append(Step.OVERFLOW)
        return steps

    def _relax(self, desk: Desk, step: Step, request: Request, notes: tuple[str, ...]) -> Outcome | None:
        if step is not Step.OVERFLOW:
            return self._from(self._view(desk, step, request), request, notes)
        other = self._desks.get(desk.overflow or "")
        return None if other is None else self._from(self._view(other, step, request), request, notes)

    def _next_relaxation(self, desk: Desk, request: Request, waited: float) -> datetime | None:
        later = [after for after, _ in desk.relax if after > waited]
        return request.queued_at + timedelta(seconds=min(later)) if later else None

    # -- one view
    # --------------------------------------------------------------------------------------------------------

    def _view(self, desk: Desk, step: Step, request: Request) -> View:
        preferred = request.preferred if step is Step.ALL else ()
        place = (desk.name, step, request.skills, preferred, request.effort_seconds, request.allowed)
        found = self._views.get(place)
        if found is None:
            found = self._views[place] = self._open(desk, step, request, preferred)
        return found

    def _open(self, desk: Desk, step: Step, request: Request, preferred: tuple[tuple[str, int], ...]) -> View:
        # Preferred skills are demanded until the playbook gives way; where it never does, they only rank.
        demanded = request.skills
        if preferred and any(one is Step.MANDATORY for _, one in desk.relax):
            demanded = tuple(sorted((dict(preferred) | dict(request.skills)).items()))
        needed = max(desk.shift_left, timedelta(seconds=request.effort_seconds))
        allowed = request.allowed if step is not Step.OVERFLOW else None
        there = self._there.get((desk.name, needed, allowed))
        if there is None:
            there = screen(desk, self.pool, needed, self._shifts, self._now, allowed)
            self._there[desk.name, needed, allowed] = there
        screened = skilled(there, demanded)
        key = key_of(desk, self.pool.turn(desk.name), request.skills, request.preferred)
        heap = [(key(agent, place), place, agent) for place, agent in enumerate(screened.eligible)]
        heapify(heap)
        return View(desk, step, screened, key, heap, {agent.id: agent for agent in screened.eligible})

    def _from(self, view: View, request: Request, notes: tuple[str, ...]) -> Outcome:
        """Take the first of the view that fits, or say which filter was the last that somebody reached."""
        if view.desk.sticky and request.last_owner is not None:
            owner = view.by_id.get(request.last_owner)
            if owner is not None and self.refuses(view, owner, request) is None:
                self.take(view, owner, request.weight)
                return _assigned(view, request, owner, How.STICKY, (), None, notes)
        aside: list[Entry] = []
        scores = _scores(view)
        chosen = self._pop(view, request, aside)
        if chosen is None:
            outcome: Outcome = self._nobody(view, request, _tight(aside, request), notes)
        else:
            score, place, agent = chosen
            runner_up = view.heap[0][2].id if view.heap else None
            self.take(view, agent, request.weight)
            heappush(view.heap, (view.key(agent, place), place, agent))
            outcome = _assigned(
                view, request, agent, How.STRATEGY, score, runner_up, notes, _tight(aside, request), scores
            )
        for entry in aside:
            heappush(view.heap, entry)
        return outcome

    def _pop(self, view: View, request: Request, aside: list[Entry]) -> Entry | None:
        """Take the best fitting entry off the heap; those that fit only other tickets go `aside`."""
        heap, key = view.heap, view.key
        while heap:
            entry = heap[0]
            known, place, agent = entry
            current = key(agent, place)
            if current != known:
                heapreplace(heap, (current, place, agent))
                continue
            heappop(heap)
            refused = self.refuses(view, agent, request)
            if refused is None:
                return entry
            if refused is Filter.RATE:
                view.rated.append(agent.id)
            elif refused is Filter.CAPACITY and not agent.fits(self._lightest):
                view.full.append(agent.id)
            else:
                aside.append(entry)
        return None

    def refuses(self, view: View, agent: Agent, request: Request) -> Filter | None:
        """Return which of the changing filters keeps an eligible agent from this ticket."""
        if agent.id in request.declined:
            return Filter.DECLINED
        if agent.capacity is not None and agent.load + request.weight > agent.capacity:
            return Filter.CAPACITY
        limit = view.desk.rate_limit
        if limit is not None and self.pool.recent.get((view.desk.name, agent.id), 0) >= limit:
            return Filter.RATE
        return None

    def _nobody(self, view: View, request: Request, tight: tuple[str, ...], notes: tuple[str, ...]) -> Waiting:
        eligible, dropped = view.by_id, view.screened.dropped
        if _all_declined(view, request):
            cause = Filter.DECLINED
        elif not eligible:
            cause = max(dropped, key=ORDER.__getitem__, default=Filter.GROUP)
        else:
            cause = Filter.RATE if view.rated else Filter.CAPACITY
        if not view.wakes_known:
            view.wakes = wakes_at(view.desk, self.pool, view.screened, self._shifts, self._now)
            view.wakes_known = True
        return Waiting(
            request.ticket,
            view.desk.name,
            cause,
            view.wakes,
            view,
            _declined(view, request),
            len(view.full),
            len(view.rated),
            tight,
            cause is Filter.DECLINED,
            notes,
        )

    # -- a person by name
    # ------------------------------------------------------------------------------------------------

    def _named(self, name: str, how: How, desk: Desk, request: Request) -> tuple[Assigned | None, str]:
        """Give the ticket to `name` or whoever stands in for them; else say which filter was in the way."""
        view = self._view(desk, Step.ALL, request)
        other = stand_in(self.pool.agents, name, self._now)
        if other.agent is None:
            agent = self.pool.agents.get(name)
            if agent is None:
                return None, "unknown"
            return None, "delegates run in a circle" if other.loop else (
                Filter.LEAVE if agent.active else Filter.ACTIVE
            )
        agent = self.pool.agents[other.agent]
        needed = max(desk.shift_left, timedelta(seconds=request.effort_seconds))
        dropped = drops(agent, desk, needed, self._shifts, self._now) or self.refuses(view, agent, request)
        if dropped is not None:
            return None, dropped
        self.take(view, agent, request.weight)
        notes = () if has_skills(agent, request.skills) else ("named without the demanded skills",)
        found = _assigned(view, request, agent, how, (), None, notes)
        if agent.id != name:
            found = msgspec.structs.replace(found, stands_in_for=name)
        return found, ""


def _assigned(
    view: View,
    request: Request,
    agent: Agent,
    how: How,
    score: tuple[float, ...],
    runner_up: str | None,
    notes: tuple[str, ...],
    tight: tuple[str, ...] = (),
    scores: Scores = (),
) -> Assigned:
    standing_in = view.screened.standing_in
    return Assigned(
        request.ticket,
        view.desk.name,
        agent.id,
        request.weight,
        view.step,
        how,
        view,
        score,
        runner_up,
        _declined(view, request) if request.declined else (),
        len(view.full),
        len(view.rated),
        tight,
        standing_in.get(agent.id) if standing_in else None,
        notes,
        agent.last_assigned,
        scores=scores,
    )


def _scores(view: View) -> Scores:
    """Everybody's standing before the choice; of large groups only the winner's and the next one's are kept."""
    eligible = view.screened.eligible
    if len(eligible) > SCORED:
        return ()
    key = view.key
    return tuple([(agent.id, key(agent, place)) for place, agent in enumerate(eligible)])


def _tight(aside: list[Entry], request: Request) -> tuple[str, ...]:
    return tuple([one.id for _, _, one in aside if one.id not in request.declined]) if aside else ()


def _all_declined(view: View, request: Request) -> bool:
    """Whether everybody who could be asked has declined: also those who were set away for it, who are there no more."""
    declined = request.declined
    if not declined or any(one not in declined for one in view.by_id):
        return False
    return bool(view.by_id) or any(one in declined for one in view.screened.dropped.get(Filter.PRESENCE, ()))


def _declined(view: View, request: Request) -> tuple[str, ...]:
    return tuple(one for one in view.by_id if one in request.declined)


def _earliest(one: datetime | None, two: datetime | None) -> datetime | None:
    return min((at for at in (one, two) if at is not None), default=None)
