"""The handler of people, and the look at the waiting list that needs no event: both rouse tickets that somebody can take now."""

from __future__ import annotations

from collections.abc import Sequence

from services.router import drain, store
from services.router.book import recent_counts
from services.router.compiled import Compiled, compiled, pool_of
from services.router.domain.assign import Assigner
from services.router.domain.outcomes import Assigned
from services.router.handlers import serve
from services.router.staff import staff
from services.router.store import Load
from shared.contracts.envelope import Actor
from shared.directory.people import Directory
from shared.ledger import business
from shared.ledger.process import Deps
from shared.ledger.unit import Result, Unit, Work
from shared.runtime.database import looking

_ALONE = 0x5163
"""Advisory lock: one router at a time looks at the whole waiting list."""


class MindPeople:
    """Somebody is there, has learnt something or is back: whoever they can help is roused, as many as they can take."""

    service = "router"
    kind = "agent"

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def handle(self, unit: Unit, batch: Sequence[Work]) -> list[Result]:
        """Rouse waiting tickets of the groups of everybody who changed."""
        self._deps.directory.forget()
        directory = self._deps.directory.get(unit.connection)
        numbers = {work.id for work in batch}
        changed = [person for person in directory.people.values() if person.number in numbers]
        groups = {group for person in changed for group in person.desks}
        if groups:
            people = {person.id for person in changed}
            rules = compiled(self._deps.playbooks.get(unit.connection, unit.playbook))
            unit.rouse(self.service, takers(unit, rules, directory, store.loads(unit.connection, people), groups))
        return [Result(work) for work in batch]


def takers(unit: Unit, rules: Compiled, directory: Directory, loads: dict[str, Load], groups: set[str]) -> list[int]:
    """Waiting tickets of groups that the people with these loads could take now, by priority and waiting time."""
    known = rules.fed_by(groups)
    desks = {step for name in known for step in rules.reach(name)}
    pool = pool_of(directory, loads, {}, recent_counts(unit, rules, desks, store))
    assigner = Assigner(rules.desks, pool, unit.now, rules.playbook.calendars, rules.lightest)
    shadows = drain.shadows(unit.connection, store, assigner, known, [])
    outcomes = serve(assigner, shadows, rules, unit.now) if shadows else []
    return [int(one.ticket) for one in outcomes if isinstance(one, Assigned)]


def look_again(deps: Deps) -> int | None:
    """Rouse every waiting ticket that somebody could take now; returns how many, or None when nobody waits at all.

    What an event rouses at once is found here too when its ticket was busy then, and what no event tells: a shift that began, a
    leave that ended, a rate window that moved on.
    """
    with looking(deps.engine) as connection:
        if not store.waiting_groups(connection):
            return None  # as nearly always
    with deps.engine.begin() as connection:
        if not connection.exec_driver_sql("select pg_try_advisory_xact_lock(%s)", (_ALONE,)).scalar_one():
            return 0
        groups = set(store.waiting_groups(connection))
        if not groups:
            return 0
        directory = deps.directory.get(connection)
        unit = Unit(
            connection, business.now(connection), Actor(kind="service", id="router"), deps.playbook_number(connection)
        )
        rules = compiled(deps.playbooks.get(connection, unit.playbook))
        desks = {step for name in groups for step in rules.reach(name)}
        loads = store.loads(connection, staff(directory).crowd(desks))
        found = takers(unit, rules, directory, loads, groups)
        unit.rouse("router", found)
    deps.bells.ring(unit.woken)
    return len(found)
