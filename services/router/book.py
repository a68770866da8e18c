"""Loads, assignments and waits of one batch: what the router's tables will say afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from services.router import metrics, store
from services.router.cases import Case, demand_of
from services.router.compiled import Compiled, pool_of, window_start
from services.router.domain.desk import Request
from services.router.domain.outcomes import Assigned, Waiting, stored
from services.router.domain.pool import Pool, Turns
from services.router.domain.strategies import turn_taken
from services.router.drain import line_of
from services.router.store import Changes, Held
from shared.contracts import events as e
from shared.directory.people import Directory
from shared.ledger.unit import Unit
from shared.ticket.state import Node

RETRY = timedelta(minutes=15)
"""A waiting ticket is looked at again after this long even if nothing was heard."""


SIDE_RETRY = timedelta(minutes=1)
"""A node beside the main path stands in no line; it is looked at again after this long."""


class Book:
    """The batch's own view of people and tickets; `loads` are locked."""

    def __init__(self, unit: Unit, directory: Directory, loads: dict[str, store.Load], tables: store.Tables) -> None:
        self.unit, self.directory, self.loads, self.tables = unit, directory, loads, tables
        self.changes = Changes()
        self.turns: dict[str, Turns] = {}
        self._moved: set[str] = set()
        self._waited: dict[str, list[float]] = {}
        """Seconds from opened to assigned, by lane."""
        self.freed: set[str] = set()
        """People who carry less than before."""

    # ---- what changed hands --------------------------------------------------------------------------------------------

    def settle(self, case: Case) -> None:
        """Bring the assignment row up to what the ticket says: ended, taken over by hand, another weight."""
        ticket, held = case.ticket, case.held
        if case.sides or ticket.nodes:
            self._settle_sides(case)
        owner = ticket.assignee or ticket.offered_to
        active = ticket.is_open and owner is not None
        base = case.base if active else 0
        if held is not None and (not active or held.agent != owner or held.assignment != ticket.assignment):
            self._end(held)
            held = None
        if case.wait is not None and (active or not ticket.is_open):
            self.changes.served.append(ticket.id)
        if not active:
            return
        if held is None:
            if ticket.assignee is not None:
                main = Node(ticket.node, ticket.visit, ticket.opened_at, ticket.group, assignment=ticket.assignment)
                self._by_hand(case, main, ticket.assignee, base)
            return
        weight = round(base * case.rules.factor(ticket.status))
        accepted_offer = held.offer and ticket.assignee == held.agent
        if weight != held.weight or base != held.base or accepted_offer:
            self._add(held.agent, weight - held.weight, 0)
            self.changes.reweighed.append(
                {"ticket_id": ticket.id, "assignment": held.assignment, "weight": weight, "base": base}
                | {"offer": held.offer and not accepted_offer}
            )
            if weight < held.weight:
                self.freed.add(held.agent)

    def _settle_sides(self, case: Case) -> None:
        """The same for the nodes beside the main path."""
        ticket = case.ticket
        open_nodes = {(one.name, one.visit): one for one in ticket.sides} if ticket.is_open else {}
        for place, held in list(case.sides.items()):
            node = open_nodes.get(place)
            if node is None or (node.assignee, node.assignment) != (held.agent, held.assignment):
                self._end(held)
                del case.sides[place]
        for place, node in open_nodes.items():
            if node.assignee is not None and place not in case.sides:
                self._by_hand(case, node, node.assignee, case.base)

    def assigned(self, case: Case, where: Node | None, request: Request, outcome: Assigned) -> None:
        """Somebody takes the ticket, or the node `where` beside its main path (that is given, never offered)."""
        ticket, now = case.ticket, self.unit.now
        number = ticket.next_assignment
        name, visit = (ticket.node, ticket.visit) if where is None else (where.name, where.visit)
        policy = case.rules.groups[outcome.group].offer if where is None else None
        reason = stored(outcome)
        if policy is not None:
            until = now + policy.timeout
            offered = e.TicketOffered(
                group=outcome.group, agent=outcome.agent, assignment=number, expires_at=until, node=name, visit=visit
            )
            case.append(offered, now, reason)
            case.wake_at(until)
        else:
            data = e.TicketAssigned(
                group=outcome.group, agent=outcome.agent, assignment=number, weight=request.weight / 100, node=name,
                visit=visit, side=where is not None,
            )  # fmt: skip
            case.append(data, now, reason)
            if where is None:
                self._noted(case, outcome.group)
        self._add(outcome.agent, request.weight, 1, at=outcome.at)
        taken = Node(name, visit, now, outcome.group, assignment=number)
        self._open(case, taken, outcome.agent, request.weight, request.weight, offer=policy is not None)
        if where is None and case.wait is not None:
            self.changes.served.append(ticket.id)
        desk = case.rules.desks[outcome.group]
        if desk.by_turn:
            turn_taken(desk, self.turns[outcome.group], outcome.agent)
            self._moved.add(outcome.group)

    def _noted(self, case: Case, group: str) -> None:
        ticket, now = case.ticket, self.unit.now
        if not self._waited:
            self.unit.after_commit.append(self._tell)
        self._waited.setdefault(ticket.lane, []).append((now - ticket.opened_at).total_seconds())
        untouched = case.rules.groups[group].untouched
        if untouched is not None:
            case.wake_at(now + untouched)

    def _tell(self) -> None:
        for lane, waited in self._waited.items():
            observe = metrics.ASSIGN_SECONDS.labels(lane).observe
            for seconds in waited:
                observe(seconds)

    def waiting(self, case: Case, where: Node | None, request: Request, outcome: Waiting) -> None:
        """Nobody can take it: it waits, says so once, and is looked at again when time or capacity may change that."""
        ticket, now, wait = case.ticket, self.unit.now, case.wait
        if where is not None:
            if where.waiting != outcome.group:
                queued = e.TicketQueued(group=outcome.group, why=str(outcome.cause), node=where.name, visit=where.visit)
                case.append(queued, now, stored(outcome))
            case.wake_at(min(outcome.retry_at or now + SIDE_RETRY, now + SIDE_RETRY))
            return
        failed = outcome.all_declined
        if failed and (wait is None or not wait.failed):
            gone = e.TicketAssignmentFailed(
                group=outcome.group, why="everybody declined", declined=tuple(sorted(request.declined))
            )
            case.append(gone, now, stored(outcome))
        elif wait is None or wait.group != outcome.group:
            queued = e.TicketQueued(group=outcome.group, why=str(outcome.cause), node=ticket.node, visit=ticket.visit)
            case.append(queued, now, stored(outcome))
        demand = demand_of(request)
        self.changes.waits.append(
            {
                "ticket_id": ticket.id,
                "group_name": outcome.group,
                "rank": request.rank,
                "queued_at": request.queued_at,
                "cause": str(outcome.cause),
                "demand": demand,
                "line": line_of(demand),
                "failed": failed,
            }
        )
        case.wake_at(min(outcome.retry_at or now + RETRY, now + RETRY))

    # ---- turns ---------------------------------------------------------------------------------------------------------

    def read_turns(self, groups: Iterable[str]) -> None:
        """Whose turn it is in groups; the loads of their members are locked."""
        missing = [name for name in groups if name not in self.turns]
        known = self.tables.turns(self.unit.connection, missing) if missing else {}
        self.turns |= {name: known.get(name) or Turns() for name in missing}

    def moved_turns(self) -> dict[str, Turns]:
        """The turns that this batch took."""
        return {name: self.turns[name] for name in self._moved}

    # ---- people --------------------------------------------------------------------------------------------------------

    def pool(self, rules: Compiled, desks: set[str], turns: dict[str, Turns]) -> Pool:
        """The people as they are after what was settled so far."""
        names = desks & set(rules.desks)
        return pool_of(
            self.directory,
            self.loads,
            turns,
            recent_counts(self.unit, rules, names, self.tables),
        )

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _by_hand(self, case: Case, where: Node, agent: str, base: int) -> None:
        """Somebody gave or took the ticket themselves: it may go beyond their capacity, is counted and flagged."""
        weight = round(base * case.rules.factor(case.ticket.status))
        load = self._add(agent, weight, 1, at=self.unit.now.timestamp())
        person = self.directory.people.get(agent)
        over = person is not None and load.load > person.capacity * 100
        if over:
            self.unit.after_commit.append(metrics.OVER_CAPACITY.inc)
        self._open(case, where, agent, base, weight, offer=False, over=over)

    def _open(
        self, case: Case, where: Node, agent: str, base: int, weight: int, *, offer: bool, over: bool = False
    ) -> None:
        """`where`: the node with its group and the number of the assignment."""
        group = where.group or ""
        self.changes.opened.append(
            {
                "ticket_id": case.ticket.id,
                "assignment": where.assignment,
                "node": where.name,
                "visit": where.visit,
                "group_name": group,
                "agent": agent,
                "base": base,
                "weight": weight,
                "offer": offer,
                "over_capacity": over,
                "assigned_at": self.unit.now,
            }
        )
        desk = case.rules.desks.get(group)
        requester = case.ticket.requester.id or case.ticket.requester.email
        if desk is not None and desk.sticky and requester is not None:
            self.changes.owners.append({"requester": requester, "group_name": group, "agent": agent})

    def _end(self, held: Held) -> None:
        self._add(held.agent, -held.weight, -1)
        self.changes.ended.append(
            {"ticket_id": held.ticket_id, "assignment": held.assignment, "ended_at": self.unit.now}
        )
        self.freed.add(held.agent)

    def _add(self, agent: str, weight: int, count: int, at: float | None = None) -> store.Load:
        before = self.loads[agent]
        last = before.last_assigned if at is None else at
        load = store.Load(before.load + weight, before.open_count + count, last)
        self.loads[agent] = self.changes.loads[agent] = load
        return load


def recent_counts(unit: Unit, rules: Compiled, desks: set[str], tables: store.Tables) -> dict[tuple[str, str], int]:
    """Assignments inside each group's rate window, by (group, agent)."""
    found: dict[tuple[str, str], int] = {}
    for name in desks:
        start = window_start(rules.groups[name], unit.now)
        if start is not None:
            counted = tables.recent(unit.connection, name, start)
            found |= {(name, agent): count for agent, count in counted.items()}
    return found
