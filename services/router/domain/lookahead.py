"""A whole batch at once: the assignment of tickets to agents with the least expected breach cost.

Greedy assignment gives the first ticket its best agent and may leave the last one nobody who could keep its promise.
Here every ticket is a row, every free place of an agent a column; a cell is what the promise would cost there, and
the cheapest pairing is exact (`scipy.optimize.linear_sum_assignment`, a shortest augmenting path solver).

Cost of a cell = − what giving it out now saves: value of the ticket × (probability that its promise is broken when it
waits one more round, less that probability here), the tickets before it taken as normal with a coefficient of
variation of 0.8. Small terms decide between equals: age, waiting, how much skill the ticket leaves unused, and what
the agent was given today.

Tickets bind late: an agent has at most `Desk.depth` at a time (1: the next ticket comes when this one is done), the
rest stay where anybody can still take them. `Agent.open_tickets` must then count what is worked on, not what waits
for a customer.

Fairness: nobody is planned beyond the group's average load after the batch plus `Desk.fairness` tickets. What finds
no place within that, and groups beyond 100 agents, are left to the greedy assignment. 100 tickets × 100 agents take
at most 50 ms (held by tests/unit/router/test_lookahead.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from services.router.domain.assign import Assigner
from services.router.domain.desk import Filter, How, Request, in_order
from services.router.domain.outcomes import Assigned, Outcome, View, Waiting
from services.router.domain.pool import Agent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_TICKETS = 100
MAX_AGENTS = 100
MAX_PLACES = 300
HELD = "held back: everybody who could take it has work"
VARIATION = 0.8
NEVER = 1e6
"""Cost of a pair that is not allowed; a plan that holds one leaves the ticket out."""

# Against 1 for an urgent promise that is broken for certain. Chosen on the benchmark's first days, see
# `bench/lookahead.py`.
_PER_HOUR_OF_AGE = 3e-3
_PER_HOUR_OF_WAIT = 2e-2
_PER_UNUSED_LEVEL = 1e-4
_PER_TICKET_GIVEN = 2e-4
_NO_PROMISE_SECONDS = 7 * 86_400.0


def plan(assigner: Assigner, requests: Iterable[Request], now: datetime) -> list[Outcome]:
    """Assign the requests, group by group, in plans of at most 100 tickets; outcomes are by priority and waiting time."""
    ordered = in_order(list(requests))
    groups: dict[str, list[Request]] = {}
    for request in ordered:
        groups.setdefault(request.group, []).append(request)
    outcomes: dict[int | str, Outcome] = {}
    for members in groups.values():
        for start in range(0, len(members), MAX_TICKETS):
            chunk = members[start : start + MAX_TICKETS]
            for outcome in _plan_chunk(assigner, chunk, now):
                outcomes[outcome.ticket] = outcome
    return [outcomes[request.ticket] for request in ordered]


def warm() -> None:
    """Load the solver, which takes a second the first time: a worker whose playbook looks ahead calls this when it
    starts.
    """
    import scipy.optimize
    import scipy.special  # noqa: F401


def _plan_chunk(assigner: Assigner, requests: Sequence[Request], now: datetime) -> list[Outcome]:
    planned: dict[int | str, Outcome] = {}
    held = False
    plain = [one for one in requests if one.named is None and not one.from_outside]
    views = [assigner.view(one) for one in plain]
    agents = list({agent.id: agent for view in views for agent in view.screened.eligible}.values())
    if plain and 1 < len(agents) <= MAX_AGENTS:
        for request, view, agent, cost in _solve(assigner, plain, views, agents, now):
            if assigner.refuses(view, agent, request) is not None:
                continue  # places are counted in average weights; a heavy neighbour took the room
            assigner.take(view, agent, request.weight)
            planned[request.ticket] = Assigned(
                request.ticket,
                view.desk.name,
                agent.id,
                request.weight,
                view.step,
                How.PLAN,
                view,
                (cost,),
                at=agent.last_assigned,
            )
        held = True
    return [planned.get(one.ticket) or _rest(assigner, one, held) for one in requests]


def _rest(assigner: Assigner, request: Request, held: bool) -> Outcome:
    """What the plan left out waits where everybody who could take it has enough on the table; else it goes the usual
    way.
    """
    if held and request.named is None and not request.from_outside:
        view = assigner.view(request)
        able = [agent for agent in view.screened.eligible if assigner.refuses(view, agent, request) is None]
        if able and all(agent.open_tickets >= view.desk.depth for agent in able):
            return Waiting(request.ticket, request.group, Filter.CAPACITY, None, view, notes=(HELD,))
    return assigner.assign(request)


def _solve(
    assigner: Assigner, requests: Sequence[Request], views: Sequence[View], agents: Sequence[Agent], now: datetime
) -> list[tuple[Request, View, Agent, float]]:
    """Return the pairs of the cheapest plan that are allowed."""
    from scipy.optimize import linear_sum_assignment  # late: 200 ms that only a look-ahead group pays

    places = _places(requests, views, agents)
    if not places:
        return []
    costs = _costs(assigner, requests, views, places, now)
    rows, columns = linear_sum_assignment(costs)
    return [
        (requests[row], views[row], places[column][0], float(costs[row, column]))
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if costs[row, column] < NEVER
    ]


def _places(requests: Sequence[Request], views: Sequence[View], agents: Sequence[Agent]) -> list[tuple[Agent, int]]:
    """Return the places each agent has, as (agent, tickets taken before in this plan), within capacity and fairness."""
    weight = max(1, sum(one.weight for one in requests) // len(requests))
    share = (sum(agent.load for agent in agents) + weight * len(requests)) / len(agents)
    highest = share + views[0].desk.fairness * weight
    places: list[tuple[Agent, int]] = []
    for agent in agents:
        limit = highest if agent.capacity is None else min(highest, agent.capacity)
        free = min(int((limit - agent.load) // weight), views[0].desk.depth - agent.open_tickets)
        places += [(agent, taken) for taken in range(max(0, free))]
    # The first place of everybody before the second of anybody, so that the bound cuts the least useful.
    places.sort(key=lambda one: one[1])
    return places[:MAX_PLACES]


def _costs(
    assigner: Assigner,
    requests: Sequence[Request],
    views: Sequence[View],
    places: Sequence[tuple[Agent, int]],
    now: datetime,
) -> NDArray[np.float64]:
    import numpy as np
    from scipy.special import ndtr

    slack = np.array([_slack_seconds(one, now) for one in requests])[:, None]
    handle = np.array([one.handle_seconds for one in requests])[:, None]
    each = np.array([one.ahead_seconds for one in requests])[:, None]
    value = np.array([4.0 ** -min(one.rank, 6) for one in requests])[:, None]
    ahead = np.array([agent.open_tickets + taken for agent, taken in places])[None, :]
    distinct = {agent.id: agent for agent, _ in places}
    position = {agent_id: at for at, agent_id in enumerate(distinct)}
    allowed, surplus = _fits(assigner, requests, views, list(distinct.values()))
    columns = [position[agent.id] for agent, _ in places]
    allowed, surplus = allowed[:, columns], surplus[:, columns]
    own = handle
    mean = ahead * each + own

    def breach(tables: Any) -> Any:
        spread = VARIATION * np.sqrt(tables * each**2 + own**2) + 1.0
        return ndtr((tables * each + own - slack) / spread)

    waited = np.array([(now - one.queued_at).total_seconds() for one in requests])[:, None]
    saved = value * (breach(ahead + 1.0) - breach(ahead)) + _PER_HOUR_OF_AGE * waited / 3_600.0
    given = np.array([agent.given + taken * 100 for agent, taken in places], dtype=float)[None, :]
    costs = (
        -saved
        + _PER_HOUR_OF_WAIT * mean / 3_600.0
        + _PER_UNUSED_LEVEL * surplus
        + _PER_TICKET_GIVEN * (given - given.min()) / 100.0
    )
    found: NDArray[np.float64] = np.where(allowed, costs, NEVER)
    return found


def _slack_seconds(request: Request, now: datetime) -> float:
    return _NO_PROMISE_SECONDS if request.due_at is None else (request.due_at - now).total_seconds()


def _fits(
    assigner: Assigner, requests: Sequence[Request], views: Sequence[View], agents: Sequence[Agent]
) -> tuple[Any, Any]:
    """Return, for each ticket and agent, whether the pair is allowed, and how many levels of skill would lie idle.

    Tickets with one demand share a row: there are few demands in a batch.
    """
    import numpy as np

    by_demand: dict[object, tuple[Any, Any]] = {}
    allowed, surplus = [], []
    for request, view in zip(requests, views, strict=True):
        demand = (id(view), request.weight, request.declined)
        if demand not in by_demand:
            takes = [agent.id in view.by_id and assigner.refuses(view, agent, request) is None for agent in agents]
            asked = sum(level for _, level in request.skills)
            spare = [sum(agent.skills.values()) - asked for agent in agents]
            by_demand[demand] = (np.array(takes), np.array(spare, dtype=float))
        allowed.append(by_demand[demand][0])
        surplus.append(by_demand[demand][1])
    return np.array(allowed), np.array(surplus)
