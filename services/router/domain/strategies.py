"""Who of those who can take a ticket gets it: each strategy is a key, and the smallest key wins.

Every key ends in: longest since the last assignment, then the group's order, so that no two are equal. In turn
strategies the turn itself is the history, so only the order follows. Within a batch keys only grow — loads, turns and
last assignments never go back — which is what lets the batch keep agents in a heap and look at few of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.router.domain.desk import Desk
from services.router.domain.pool import Agent, Turns
from shared.playbook.routing import Strategy

Key = Callable[[Agent, int], tuple[float, ...]]
"""(agent, place in the group's order) → key."""

STRIDE = 1_000_000
"""What one turn costs an agent of weight 1; an agent of weight 2 pays half."""


def key_of(
    desk: Desk, turns: Turns, skills: tuple[tuple[str, int], ...], preferred: tuple[tuple[str, int], ...]
) -> Key:
    """Return the key of the desk's strategy for a demand."""
    strategy = desk.strategy
    if desk.by_turn:
        of = turns.of
        return lambda agent, place: (of.get(agent.id, 0), place)
    if strategy is Strategy.SKILL_FIT:
        return _skill_fit(skills, preferred)
    return _KEYS.get(strategy, _least_loaded)


def _least_loaded(agent: Agent, place: int) -> tuple[float, ...]:
    return (agent.load, agent.last_assigned, place)


def _utilisation(agent: Agent, place: int) -> tuple[float, ...]:
    share = agent.load / agent.capacity if agent.capacity else 0.0
    return (share, agent.load, agent.last_assigned, place)


def _most_spare(agent: Agent, place: int) -> tuple[float, ...]:
    spare = float("inf") if agent.capacity is None else agent.capacity - agent.load
    return (-spare, agent.load, agent.last_assigned, place)


def _balanced(agent: Agent, place: int) -> tuple[float, ...]:
    return (agent.open_tickets, agent.last_assigned, place)


def _least_recently(agent: Agent, place: int) -> tuple[float, ...]:
    return (agent.last_assigned, place)


_KEYS: Mapping[Strategy, Key] = {
    Strategy.LEAST_LOADED: _least_loaded,
    Strategy.UTILISATION: _utilisation,
    Strategy.MOST_SPARE: _most_spare,
    Strategy.BALANCED: _balanced,
    Strategy.LEAST_RECENTLY_ASSIGNED: _least_recently,
}


_NAMES: Mapping[Strategy, tuple[str, ...]] = {
    Strategy.ROUND_ROBIN: ("turn", "place"),
    Strategy.WEIGHTED_ROUND_ROBIN: ("turn", "place"),
    Strategy.UTILISATION: ("share of capacity", "load", "last assigned", "place"),
    Strategy.MOST_SPARE: ("less capacity left", "load", "last assigned", "place"),
    Strategy.BALANCED: ("open tickets", "last assigned", "place"),
    Strategy.LEAST_RECENTLY_ASSIGNED: ("last assigned", "place"),
    Strategy.SKILL_FIT: ("preferred skills missing", "skill levels unused", "load", "last assigned", "place"),
}


def names_of(strategy: Strategy) -> tuple[str, ...]:
    """What the parts of a strategy's key are, in words; the smallest key wins, part by part. Loads are in hundredths."""
    return _NAMES.get(strategy, ("load", "last assigned", "place"))


def _skill_fit(skills: tuple[tuple[str, int], ...], preferred: tuple[tuple[str, int], ...]) -> Key:
    """Most preferred skills first, then the least surplus over what is demanded: experts stay free for what needs
    them.
    """

    def key(agent: Agent, place: int) -> tuple[float, ...]:
        have = agent.skills
        missing = sum(1 for skill, level in preferred if have.get(skill, 0) < level)
        surplus = sum(max(0, have.get(skill, 0) - level) for skill, level in skills)
        return (missing, surplus, agent.load, agent.last_assigned, place)

    return key


def turn_taken(desk: Desk, turns: Turns, agent_id: str) -> None:
    """Send the agent to the back of the queue; those who were passed over keep their place.

    Weighted: the agent pays one stride divided by its weight from where it stood, or from where the queue stands now
    when it was away longer, so that nobody catches up on turns they could not take.
    """
    if desk.strategy is Strategy.ROUND_ROBIN:
        turns.clock += 1
        turns.of[agent_id] = turns.clock
    elif desk.strategy is Strategy.WEIGHTED_ROUND_ROBIN:
        stood = max(turns.of.get(agent_id, 0), turns.clock)
        turns.clock = max(turns.clock, turns.of.get(agent_id, 0))
        weight = next((one for name, one in desk.weights if name == agent_id), 1.0)
        turns.of[agent_id] = stood + round(STRIDE / max(weight, 0.001))
