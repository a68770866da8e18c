"""One transaction over a batch of tickets: classify, settle what changed hands, give out what needs somebody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from services.router import metrics, store
from services.router.compiled import Compiled, compiled, pool_of, window_start
from services.router.domain.assign import Assigner
from services.router.domain.classify import Classified
from services.router.domain.desk import Request
from services.router.domain.outcomes import Assigned, Waiting
from services.router.domain.pool import Pool, Turns
from services.router.store import Changes, Held, Wait
from shared.contracts import events as e
from shared.contracts.envelope import New
from shared.directory.people import Directory
from shared.ledger.process import Deps
from shared.ledger.unit import Result, Unit, Work
from shared.ticket.state import Ticket, evolve

ROUSED = 200
"""Waiting tickets looked at again when capacity comes free."""
RETRY = timedelta(minutes=5)
"""A waiting ticket is looked at again after this long even if nothing was heard."""


@dataclass(slots=True)
class _Case:
    """One ticket of the batch while it is decided."""

    work: Work
    ticket: Ticket
    rules: Compiled
    held: Held | None
    wait: Wait | None
    events: list[New] = field(default_factory=list)
    due_at: datetime | None = None
    classified: Classified | None = None

    def append(self, data: e.Data, at: datetime, reason: dict[str, Any] | None = None) -> None:
        """Add an event, and see the ticket as it is after it."""
        self.events.append(New(data, reason))
        self.ticket = evolve(self.ticket, data, at, self.ticket.version + 1)

    @property
    def needs_somebody(self) -> bool:
        ticket = self.ticket
        return (
            ticket.status == "new"
            and ticket.assignee is None
            and ticket.offered_to is None
            and ticket.group is not None
        )


class RouteTickets:
    """The handler of tickets."""

    service = "router"
    kind = "ticket"

    def __init__(self, deps: Deps, tables: store.Tables = store) -> None:
        self._deps, self._tables = deps, tables

    def handle(self, unit: Unit, batch: Sequence[Work]) -> list[Result]:
        """Decide a batch; see the package for the order of things."""
        ids = [work.id for work in batch]
        known = [work.id for work in batch if work.version > 1]
        held = self._tables.held(unit.connection, known) if known else {}
        waits = self._tables.waits(unit.connection, known) if known else {}
        rules = {number: self._rules(unit, number) for number in {work.ticket.playbook for work in batch}}
        cases = [_Case(work, work.ticket, rules[work.ticket.playbook], *_of(held, waits, work.id)) for work in batch]
        for case in cases:
            self._classify(case, unit.now)
        self._expire(cases, unit.now)
        self._give_out(unit, cases, self._deps.directory.get(unit.connection), ids)
        return [Result(case.work, tuple(case.events), case.due_at) for case in cases]

    def _rules(self, unit: Unit, number: int) -> Compiled:
        return compiled(self._deps.playbooks.get(unit.connection, number))

    # ---- what it is -----------------------------------------------------------------------------------------------------

    def _classify(self, case: _Case, now: datetime) -> None:
        ticket = case.ticket
        if ticket.priority is not None or not ticket.is_open:
            return
        opened = case.work.events[0].data if case.work.events else None
        if not isinstance(opened, e.TicketOpened):
            return
        found = case.rules.classifier.classify(case.rules.classifier.facts(_posted(opened), ticket.opened_at))
        case.classified = found
        data = e.TicketClassified(
            labels={name: e.Label(one.value, str(one.source), one.rule) for name, one in found.labels.items()},
            priority=found.priority.value,
            group=found.group.value,
            kind=found.kind or ticket.kind or "general",
            lane=found.lane if found.lane != "normal" or ticket.lane != "bulk" else "bulk",
            skills=dict(found.skills),
        )
        case.append(data, now, found.as_dict())

    # ---- offers and assignments that nobody touched -------------------------------------------------------------------------

    def _expire(self, cases: list[_Case], now: datetime) -> None:
        for case in cases:
            ticket, held = case.ticket, case.held
            if held is None or not ticket.is_open or held.assignment != ticket.assignment:
                continue
            until = _until(case, held)
            if until is None or ticket.accepted:
                continue
            if now < until:
                case.due_at = until
            elif (held.offer and ticket.offered_to == held.agent) or (not held.offer and ticket.assignee == held.agent):
                why = "the offer timed out" if held.offer else "untouched for too long"
                gone = e.TicketDeclined(agent=held.agent, assignment=held.assignment, reason=why, timed_out=True)
                case.append(gone, now, {"why": why, "since": held.assigned_at.isoformat()})

    # ---- whose it is ---------------------------------------------------------------------------------------------------------

    def _give_out(self, unit: Unit, cases: list[_Case], directory: Directory, ids: list[int]) -> None:
        seekers = [case for case in cases if case.needs_somebody]
        desks = {name for case in seekers for name in case.rules.reach(case.ticket.group or "")}
        agents = {member.id for name in desks for member in directory.members(name)}
        agents |= {case.held.agent for case in cases if case.held is not None}
        agents |= {case.ticket.assignee for case in cases if case.ticket.assignee is not None}
        agents |= {c.ticket.offered_to for c in cases if c.ticket.offered_to is not None}
        agents |= {c.classified.agent for c in cases if c.classified is not None and c.classified.agent is not None}
        agents |= {step for one in tuple(agents) for step in _delegates(directory, one)}
        if not agents and not seekers:
            return
        loads = self._tables.lock_loads(unit.connection, agents) if agents else {}
        book = _Book(unit, directory, loads, self._tables)
        for case in cases:
            book.settle(case)
        if seekers:
            self._assign(book, seekers, desks)
        self._tables.save(unit.connection, book.changes, book.moved_turns)
        freed = book.freed_groups
        if freed:
            unit.rouse(self.service, self._tables.next_waiting(unit.connection, freed, ROUSED, ids))

    def _assign(self, book: _Book, seekers: list[_Case], desks: set[str]) -> None:
        unit = book.unit
        by_rules: dict[int, list[_Case]] = {}
        for case in seekers:
            if case.needs_somebody:
                by_rules.setdefault(id(case.rules), []).append(case)
        for cases in by_rules.values():
            rules = cases[0].rules
            turned = [name for name in desks if name in rules.desks and rules.desks[name].by_turn]
            turns = self._tables.turns(unit.connection, turned) if turned else {}
            hours = self._deps.playbooks.get(unit.connection, cases[0].ticket.playbook).calendars
            pool = book.pool(rules, desks, turns, unit.now)
            assigner = Assigner(rules.desks, pool, unit.now, hours, rules.lightest)
            requests = {case.work.id: _request(case, unit.now) for case in cases}
            found = {case.work.id: case for case in cases}
            for outcome in assigner.assign_all(requests.values()):
                case = found[int(outcome.ticket)]
                if isinstance(outcome, Assigned):
                    book.assigned(case, requests[case.work.id], outcome)
                else:
                    book.waiting(case, requests[case.work.id], outcome)
            book.take_over(pool, {name: pool.turn(name) for name in turned})


class _Book:
    """Loads, assignments and waits of one batch: what the tables will say afterwards."""

    def __init__(self, unit: Unit, directory: Directory, loads: dict[str, store.Load], tables: store.Tables) -> None:
        self.unit, self.directory, self.loads, self.tables = unit, directory, loads, tables
        self.changes = Changes()
        self.moved_turns: dict[str, Turns] = {}
        self.freed_groups: set[str] = set()

    def settle(self, case: _Case) -> None:
        """Bring the assignment row up to what the ticket says: ended, taken over by hand, another weight."""
        ticket, held = case.ticket, case.held
        owner = ticket.assignee or ticket.offered_to
        active = ticket.is_open and owner is not None
        if held is not None and (not active or held.agent != owner or held.assignment != ticket.assignment):
            self._end(held)
            held = None
        if case.wait is not None and (active or not ticket.is_open):
            self.changes.served.append(ticket.id)
        if not active:
            return
        if held is None:
            if ticket.assignee is not None:
                base = _base(case)
                self._open(
                    case, ticket.group or "", ticket.assignee, ticket.assignment, base, offer=False, by_hand=True
                )
            return
        weight = round(held.base * case.rules.factor(ticket.status))
        accepted_offer = held.offer and ticket.assignee == held.agent
        if weight != held.weight or accepted_offer:
            self._add(held.agent, weight - held.weight, 0)
            self.changes.reweighed.append(
                {"ticket_id": ticket.id, "assignment": held.assignment, "weight": weight}
                | {"offer": held.offer and not accepted_offer}
            )
            if weight < held.weight:
                self._freed(held.agent)

    def assigned(self, case: _Case, request: Request, outcome: Assigned) -> None:
        """Somebody takes it (the pool has booked the load already)."""
        ticket, now = case.ticket, self.unit.now
        number = ticket.assignment + 1
        policy = case.rules.groups[outcome.group].offer
        reason = outcome.as_dict()
        if policy is not None:
            until = now + policy.timeout
            offered = e.TicketOffered(group=outcome.group, agent=outcome.agent, assignment=number, expires_at=until)
            case.append(offered, now, reason)
            case.due_at = until
        else:
            data = e.TicketAssigned(
                group=outcome.group,
                agent=outcome.agent,
                assignment=number,
                weight=request.weight / 100,
                node=ticket.node,
            )
            case.append(data, now, reason)
            waited = (now - ticket.opened_at).total_seconds()
            self.unit.after_commit.append(partial(metrics.ASSIGN_SECONDS.labels(ticket.lane).observe, waited))
            untouched = case.rules.groups[outcome.group].untouched
            case.due_at = None if untouched is None else now + untouched
        self._open(case, outcome.group, outcome.agent, number, request.weight, offer=policy is not None, by_hand=False)
        if case.wait is not None:
            self.changes.served.append(ticket.id)

    def waiting(self, case: _Case, request: Request, outcome: Waiting) -> None:
        """Nobody can take it: it waits, says so once, and is looked at again when time or capacity may change that."""
        ticket, now, wait = case.ticket, self.unit.now, case.wait
        failed = outcome.all_declined
        if failed and (wait is None or not wait.failed):
            gone = e.TicketAssignmentFailed(
                group=outcome.group, why="everybody declined", declined=tuple(sorted(request.declined))
            )
            case.append(gone, now, outcome.as_dict())
        elif wait is None or wait.group != outcome.group:
            case.append(e.TicketQueued(group=outcome.group, why=str(outcome.cause)), now, outcome.as_dict())
        self.changes.waits.append(
            {
                "ticket_id": ticket.id,
                "group_name": outcome.group,
                "rank": request.rank,
                "queued_at": request.queued_at,
                "cause": str(outcome.cause),
                "demand": _demand(request),
                "failed": failed,
            }
        )
        case.due_at = min(outcome.retry_at or now + RETRY, now + RETRY)

    def pool(self, rules: Compiled, desks: set[str], turns: dict[str, Turns], now: datetime) -> Pool:
        """The people as they are after what was settled so far."""
        recent: dict[tuple[str, str], int] = {}
        for name in desks:
            start = window_start(rules.groups[name], now) if name in rules.groups else None
            if start is not None:
                found = self.tables.recent(self.unit.connection, name, start)
                recent |= {(name, agent): count for agent, count in found.items()}
        return pool_of(
            self.directory, (rules.desks[name] for name in desks if name in rules.desks), self.loads, turns, recent
        )

    def take_over(self, pool: Pool, turns: dict[str, Turns]) -> None:
        """Read back what the assigner booked."""
        for agent_id in pool.taken:
            agent = pool.agents[agent_id]
            self._set(agent_id, store.Load(agent.load, agent.open_tickets, agent.last_assigned))
        self.moved_turns |= turns

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _open(self, case: _Case, group: str, agent: str, number: int, base: int, *, offer: bool, by_hand: bool) -> None:
        now, weight = self.unit.now, base
        over = False
        if by_hand:
            weight = round(base * case.rules.factor(case.ticket.status))
            load = self._add(agent, weight, 1, at=now)
            person = self.directory.people.get(agent)
            over = person is not None and load.load > person.capacity * 100
            if over:
                metrics.OVER_CAPACITY.inc()
        self.changes.opened.append(
            {
                "ticket_id": case.ticket.id,
                "assignment": number,
                "node": case.ticket.node,
                "visit": 1,
                "group_name": group,
                "agent": agent,
                "base": base,
                "weight": weight,
                "offer": offer,
                "over_capacity": over,
                "assigned_at": now,
            }
        )

    def _end(self, held: Held) -> None:
        self._add(held.agent, -held.weight, -1)
        self.changes.ended.append(
            {"ticket_id": held.ticket_id, "assignment": held.assignment, "ended_at": self.unit.now}
        )
        self._freed(held.agent)

    def _freed(self, agent: str) -> None:
        person = self.directory.people.get(agent)
        self.freed_groups.update(person.groups if person is not None else ())

    def _add(self, agent: str, weight: int, count: int, at: datetime | None = None) -> store.Load:
        before = self.loads[agent]
        last = before.last_assigned if at is None else at.timestamp()
        return self._set(agent, store.Load(before.load + weight, before.open_count + count, last))

    def _set(self, agent: str, load: store.Load) -> store.Load:
        self.loads[agent] = load
        self.changes.loads[agent] = {
            "agent": agent,
            "load": load.load,
            "open_count": load.open_count,
            "last_assigned": load.last_assigned,
        }
        return load


class MindPeople:
    """The handler of people: somebody is there, has learnt something or is back: their groups' waiting tickets are looked at."""

    service = "router"
    kind = "agent"

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def handle(self, unit: Unit, batch: Sequence[Work]) -> list[Result]:
        """Rouse waiting tickets of the groups of everybody who changed."""
        self._deps.directory.forget()
        directory = self._deps.directory.get(unit.connection)
        groups = {
            group
            for work in batch
            for person in directory.people.values()
            if person.number == work.id
            for group in person.groups
        }
        if groups:
            unit.rouse(self.service, store.next_waiting(unit.connection, groups, ROUSED, []))
        return [Result(work) for work in batch]


def _of(held: dict[int, list[Held]], waits: dict[int, Wait], ticket_id: int) -> tuple[Held | None, Wait | None]:
    rows = held.get(ticket_id)
    return (rows[0] if rows else None), waits.get(ticket_id)


def _posted(opened: e.TicketOpened) -> dict[str, Any]:
    """An opening in the shape it was posted in."""
    asked = opened.requester
    posted: dict[str, Any] = {
        "subject": opened.subject,
        "body": opened.body,
        "source": opened.source,
        "labels": opened.labels,
        "fields": opened.fields,
        "requester": {
            "id": asked.id,
            "name": asked.name,
            "email": asked.email,
            "phone": asked.phone,
            "tier": asked.tier,
            "automated": asked.automated,
        },
    }
    for name in ("external_id", "dedup_key", "kind"):
        value = getattr(opened, name)
        if value is not None:
            posted[name] = value
    return posted


def _until(case: _Case, held: Held) -> datetime | None:
    group = case.rules.groups.get(held.group)
    if group is None:
        return None
    if held.offer:
        return None if group.offer is None else held.assigned_at + group.offer.timeout
    return None if group.untouched is None else held.assigned_at + group.untouched


def _base(case: _Case) -> int:
    if case.held is not None:
        return case.held.base
    if case.wait is not None:
        return int(case.wait.demand.get("weight", 100))
    return case.classified.weight if case.classified is not None else 100


def _request(case: _Case, now: datetime) -> Request:
    ticket, found = case.ticket, case.classified
    rank = case.rules.classifier.rank.get(ticket.priority or "", 99)
    declined = frozenset(ticket.declined)
    queued_at = case.wait.queued_at if case.wait is not None else now if ticket.assignment else ticket.opened_at
    if found is not None:
        return Request(
            ticket.id, ticket.group or "", queued_at, found.rank, found.weight, found.skills, found.preferred,
            found.effort_seconds, declined, ticket.last_assignee, found.agent,
        )  # fmt: skip
    demand = case.wait.demand if case.wait is not None else {}
    skills = demand.get("skills") or sorted(ticket.skills.items())
    preferred = demand.get("preferred") or []
    return Request(
        ticket.id, ticket.group or "", queued_at, rank, int(demand.get("weight", _base(case))),
        tuple((name, level) for name, level in skills), tuple((name, level) for name, level in preferred),
        float(demand.get("effort_seconds", 0.0)), declined, ticket.last_assignee,
    )  # fmt: skip


def _demand(request: Request) -> dict[str, Any]:
    return {
        "weight": request.weight,
        "skills": [list(one) for one in request.skills],
        "preferred": [list(one) for one in request.preferred],
        "effort_seconds": request.effort_seconds,
    }


def _delegates(directory: Directory, agent: str) -> set[str]:
    """Everybody a ticket for this person may end with."""
    found: set[str] = set()
    todo = [agent]
    while todo:
        person = directory.people.get(todo.pop())
        for leave in person.leave if person is not None else ():
            if leave.delegate is not None and leave.delegate not in found:
                found.add(leave.delegate)
                todo.append(leave.delegate)
    return found
