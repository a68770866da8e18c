"""What the router computes once from a playbook version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.router.domain.classify import Classifier
from services.router.domain.desk import Desk, desk_of
from services.router.domain.draft import hundredths
from services.router.domain.lookahead import warm
from services.router.domain.pool import Pool, Turns
from services.router.staff import staff
from services.router.store import Load
from shared.directory.people import ROLE, Directory
from shared.playbook.facts import Facts
from shared.playbook.livefacts import live_facts
from shared.playbook.model import Playbook
from shared.playbook.routing import Group
from shared.playbook.sla import DEFAULT, Target
from shared.ticket.state import Ticket

HANDLE_SECONDS = 900.0
"""How long a ticket is worked on, where nothing says so: only look-ahead weighs it."""


Promise = tuple[Callable[[Facts], bool], str | None, Mapping[str, Target]]
"""Condition, calendar and targets by priority of an SLA policy: the first answer's, or the resolution's where that is all."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """Classifier and desks of one version. `ahead`: groups that look ahead; `budget`: how long a ticket may wait for answers."""

    classifier: Classifier
    desks: dict[str, Desk]
    groups: dict[str, Group]
    factors: dict[str, float]
    lightest: int
    ahead: frozenset[str]
    budget: timedelta
    promises: tuple[Promise, ...]
    playbook: Playbook
    handle_seconds: float = HANDLE_SECONDS

    def reach(self, group: str) -> set[str]:
        """The group and those it overflows to."""
        found: set[str] = set()
        while group in self.desks and group not in found:
            found.add(group)
            group = self.desks[group].overflow or ""
        return found

    def fed_by(self, groups: Iterable[str]) -> set[str]:
        """Groups whose waiting tickets the people of these groups may take: their own, and those that overflow into them."""
        known = set(groups) & set(self.desks)
        return {name for name in self.desks if not known.isdisjoint(self.reach(name))}

    def factor(self, status: str) -> float:
        """What a ticket's state makes of its weight."""
        return self.factors.get(status, 1.0)

    def weight_of(self, ticket: Ticket) -> int:
        """What the ticket takes of a capacity, in hundredths."""
        if ticket.weight is not None:
            return hundredths(ticket.weight)
        return self.classifier.weight(live_facts(ticket))

    def department(self, group: str | None) -> str:
        """A group's department; a group without one is its own."""
        known = self.groups.get(group or "")
        return known.department or (group or "") if known is not None else group or ""

    def promise(self, ticket: Ticket) -> datetime | None:
        """By when the ticket is promised to be answered (or resolved), as far as the playbook alone says."""
        facts = live_facts(ticket)
        for holds, calendar, targets in self.promises:
            if not holds(facts):
                continue
            target = targets.get(ticket.priority or "", targets.get(DEFAULT))
            if not isinstance(target, timedelta):
                return None
            hours = self.playbook.calendars.get(calendar or "")
            return ticket.opened_at + target if hours is None else hours.add(ticket.opened_at, target)
        return None


def compiled(playbook: Playbook) -> Compiled:
    """The version, compiled once in each process."""
    return playbook.derived("router", _compile)


def _compile(playbook: Playbook) -> Compiled:
    routing = playbook.routing
    if any(group.look_ahead for group in routing.groups.values()):
        warm()  # before anybody's load is locked
    weights = [routing.work.default, *(rule.weight for rule in routing.work.rules)]
    weights += [rule.then.weight for one in routing.rules for rule in one.rules if rule.then.weight is not None]
    factors = [1.0, *routing.work.states.values()]
    groups = {**routing.groups, **_roles(playbook)}
    asked = [routing.enrichments[name].timeout for one in routing.rules for name in one.enrich]
    return Compiled(
        Classifier(routing, playbook.schema),
        {name: desk_of(name, group) for name, group in groups.items()},
        groups,
        dict(routing.work.states),
        max(1, int(min(weights) * min(factors) * 100)),
        frozenset(name for name, group in routing.groups.items() if group.look_ahead),
        max(asked, default=timedelta(0)),
        tuple(_promises(playbook)),
        playbook,
    )


def _promises(playbook: Playbook) -> Iterable[Promise]:
    for place, policy in enumerate(playbook.document.sla):
        metric = next((one for one in ("first_response", "resolution") if one in policy.targets), None)
        if metric is not None:
            yield playbook.condition(policy.when, f"sla[{place}].when"), policy.calendar, policy.targets_of(metric)


def _roles(playbook: Playbook) -> dict[str, Group]:
    """A desk for each role that works a node of a flow: everybody who holds it, the least loaded first."""
    document = playbook.document
    named = {
        whose.role
        for flow in document.flows
        for whose in (flow.responsible, *(node.responsible for node in flow.nodes))
        if whose is not None and whose.role is not None
    }
    return {
        ROLE + role: Group(members=tuple(name for name, one in document.agents.items() if role in one.roles))
        for role in sorted(named)
    }


def pool_of(
    directory: Directory,
    loads: Mapping[str, Load],
    turns: dict[str, Turns],
    recent: dict[tuple[str, str], int],
) -> Pool:
    """The people whose loads are given (locked, where tickets are given out), as the assigner sees them."""
    known = staff(directory)
    agents = {name: known.agent(name, load) for name, load in loads.items()}
    return Pool(agents, turns, recent)


def window_start(group: Group, now: datetime) -> datetime | None:
    """Since when assignments count towards the group's rate."""
    return None if group.rate is None else now - group.rate.within
