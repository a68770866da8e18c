"""What the router computes once from a playbook version."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from services.router.domain.classify import Classifier
from services.router.domain.desk import Desk, desk_of
from services.router.domain.pool import Absence, Agent, Pool, Turns
from services.router.store import Load
from shared.directory.people import Directory
from shared.playbook.model import Playbook
from shared.playbook.routing import Group


@dataclass(frozen=True, slots=True)
class Compiled:
    """Classifier and desks of one version."""

    classifier: Classifier
    desks: dict[str, Desk]
    groups: dict[str, Group]
    factors: dict[str, float]
    lightest: int

    def reach(self, group: str) -> set[str]:
        """The group and those it overflows to."""
        found: set[str] = set()
        while group in self.desks and group not in found:
            found.add(group)
            group = self.desks[group].overflow or ""
        return found

    def factor(self, status: str) -> float:
        """What a ticket's state makes of its weight."""
        return self.factors.get(status, 1.0)


def compiled(playbook: Playbook) -> Compiled:
    """The version, compiled once in each process."""
    return playbook.derived("router", _compile)


def _compile(playbook: Playbook) -> Compiled:
    routing = playbook.routing
    weights = [routing.work.default, *(rule.weight for rule in routing.work.rules)]
    factors = [1.0, *routing.work.states.values()]
    return Compiled(
        Classifier(routing, playbook.schema),
        {name: desk_of(name, group) for name, group in routing.groups.items()},
        dict(routing.groups),
        dict(routing.work.states),
        max(1, int(min(weights) * min(factors) * 100)),
    )


def pool_of(
    directory: Directory,
    desks: Iterable[Desk],
    loads: dict[str, Load],
    turns: dict[str, Turns],
    recent: dict[tuple[str, str], int],
) -> Pool:
    """The people whose loads are locked, as the assigner sees them."""
    agents = {}
    for agent_id, load in loads.items():
        person = directory.people.get(agent_id)
        if person is None:
            agents[agent_id] = Agent(agent_id, active=False, load=load.load, open_tickets=load.open_count)
            continue
        agents[agent_id] = Agent(
            agent_id,
            skills=person.skills,
            capacity=None if person.capacity >= 1e9 else round(person.capacity * 100),
            load=load.load,
            open_tickets=load.open_count,
            last_assigned=load.last_assigned,
            presence=person.presence,
            active=person.active and person.assignable,
            shift=person.calendar,
            leave=tuple(Absence(one.from_at, one.to_at, one.delegate) for one in person.leave),
        )
    return Pool(agents, turns, recent)


def window_start(group: Group, now: datetime) -> datetime | None:
    """Since when assignments count towards the group's rate."""
    return None if group.rate is None else now - group.rate.within
