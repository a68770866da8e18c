"""One transaction over a batch of tickets: classify, settle what changed hands, give out what needs somebody."""

from __future__ import annotations

from collections.abc import Sequence, Set
from datetime import datetime

from services.router import drain, presence, store
from services.router.book import Book
from services.router.cases import Case, named_of, request_of, side_request_of
from services.router.classifying import Classifying
from services.router.compiled import Compiled, compiled
from services.router.domain.assign import Assigner
from services.router.domain.desk import Request, in_order
from services.router.domain.lookahead import plan
from services.router.domain.outcomes import Assigned, Outcome
from services.router.domain.pool import Turns
from services.router.models import Models
from services.router.outside import Asker, Nobody
from services.router.staff import delegates, staff
from services.router.stations import Stations
from services.router.store import Held, Wait
from shared.contracts import events as e
from shared.directory.people import Directory
from shared.ledger.process import Deps
from shared.ledger.unit import Result, Unit, Work
from shared.playbook import flows
from shared.ticket.course import Stopped, begin
from shared.ticket.flow.engine import opening
from shared.ticket.state import Node

IN_LINE = 16
"""New tickets of a batch that stands in line for the capacity lock: they want most of the staff, and so does every other."""


class RouteTickets:
    """The handler of tickets."""

    service = "router"
    kind = "ticket"

    def __init__(self, deps: Deps, tables: store.Tables = store, asker: Asker | None = None) -> None:
        self._deps, self._tables = deps, tables
        self._classifying = Classifying(asker or Nobody())
        self._stations = Stations(deps, asker or Nobody())
        self._models = Models()

    def handle(self, unit: Unit, batch: Sequence[Work]) -> list[Result]:
        """Decide a batch; see the package for the order of things."""
        ids = [work.id for work in batch]
        known = [work.id for work in batch if work.version > 1]
        held = self._tables.held(unit.connection, known) if known else {}
        waits = self._tables.waits(unit.connection, known) if known else {}
        rules = {number: self._rules(unit, number) for number in {work.ticket.playbook for work in batch}}
        cases = [_case(work, rules[work.ticket.playbook], held.get(work.id, ()), waits.get(work.id)) for work in batch]
        self._classifying.run(unit, cases, self._models.predict_on(unit.connection))
        directory = self._deps.directory.get(unit.connection)
        for case in cases:
            if case.classified is not None and case.ticket.flow is None:
                _begin(case, directory, unit.now)
        self._stations.run(unit, cases, directory)
        moods = _expire(cases, unit.now)
        if moods:
            directory = presence.put(self._deps, unit, directory, moods)
        self._give_out(unit, cases, directory, ids)
        return [Result(case.work, tuple(case.events), case.due_at, ticket=case.ticket) for case in cases]

    def _rules(self, unit: Unit, number: int) -> Compiled:
        return compiled(self._deps.playbooks.get(unit.connection, number))

    # ---- whose it is -------------------------------------------------------------------------------------------------

    def _give_out(self, unit: Unit, cases: list[Case], directory: Directory, ids: list[int]) -> None:
        seekers = [case for case in cases if case.needs_somebody]
        flowing = [case for case in cases if case.seeking]
        asked = {(id(case.rules), case.ticket.group or ""): case.rules for case in seekers}
        asked |= {(id(case.rules), node.group or ""): case.rules for case in flowing for node in case.seeking}
        desks = {name for (_, group), rules in asked.items() for name in rules.reach(group)}
        agents = _people(cases, seekers, desks, directory)
        if not agents and not seekers and not flowing:
            return
        # new tickets: nothing of theirs was done in this transaction yet, so that no load is locked
        new = sum(case.work.seen == 0 for case in seekers)
        loads = self._tables.lock_loads(unit.connection, agents, in_line=new >= IN_LINE) if agents else {}
        book = Book(unit, directory, loads, self._tables)
        for case in cases:
            book.settle(case)
        by_rules: dict[int, list[Case]] = {}
        for case in [one for one in cases if one.needs_somebody or one.seeking] if flowing else seekers:
            by_rules.setdefault(id(case.rules), []).append(case)
        roused: set[int] = set()
        for group in by_rules.values():
            roused |= self._assign(book, group, desks, ids)
        if book.freed and not by_rules:
            roused |= self._assign(book, [], set(), ids, self._rules(unit, unit.playbook))
        self._tables.save(unit.connection, book.changes, book.moved_turns())
        if roused:
            unit.rouse(self.service, sorted(roused))

    def _assign(
        self, book: Book, cases: list[Case], desks: set[str], ids: list[int], version: Compiled | None = None
    ) -> set[int]:
        """Give out the cases' tickets; return waiting tickets that are not in hand and could be given out too.

        Waiting tickets stand before those in hand by priority and waiting time, as everybody does (see `drain`).
        """
        unit, connection = book.unit, book.unit.connection
        rules = cases[0].rules if version is None else version
        freed = rules.fed_by(name for one in book.freed for name in _groups(book.directory, one))
        places = (desks & set(rules.desks)) | {step for name in freed for step in rules.reach(name)}
        turned = [name for name in places if rules.desks[name].by_turn]
        book.read_turns(turned)
        pool = book.pool(rules, places, {name: _copy(book.turns[name]) for name in turned})
        assigner = Assigner(rules.desks, pool, unit.now, rules.playbook.calendars, rules.lightest)
        owners = _last_owners(book, cases)
        wanted: dict[int | str, tuple[Case, Node | None, Request]] = {}
        for case in cases:
            if case.needs_somebody:
                wanted[case.work.id] = (case, None, request_of(case, unit.now, owners.get(case.work.id)))
            for node in case.seeking:
                asked = side_request_of(case, node)
                wanted[asked.ticket] = (case, node, asked)
        requests = [asked for _, _, asked in wanted.values()]
        shadows = drain.shadows(connection, self._tables, assigner, desks | freed, ids)
        roused: set[int] = set()
        for outcome in serve(assigner, [*requests, *shadows], rules, unit.now):
            found = wanted.get(outcome.ticket)
            if found is None:
                if isinstance(outcome, Assigned):
                    roused.add(int(outcome.ticket))
                continue
            case, where, asked = found
            if isinstance(outcome, Assigned):
                book.assigned(case, where, asked, outcome)
            else:
                book.waiting(case, where, asked, outcome)
        return roused


def _begin(case: Case, directory: Directory, now: datetime) -> None:
    """A kind that names a flow: the case enters it. What the opening asks for was asked at the door when the kind was given."""
    course = flows.course(case.rules.playbook, case.ticket.kind, now, directory)
    if course is None:
        return
    missing = opening(course.program, course.facts(case.ticket))
    entered = begin(case.ticket, course)
    if isinstance(entered, Stopped):
        raise RuntimeError(f"flow {case.ticket.kind} cannot begin: {entered.reason}")
    for data in entered:
        case.append(data, now, {"flow": case.ticket.kind, "missing": list(missing)})


def serve(assigner: Assigner, requests: Sequence[Request], rules: Compiled, now: datetime) -> list[Outcome]:
    """Find somebody for each, by priority and waiting time; groups that look ahead are planned as a whole."""
    ahead = [one for one in requests if one.group in rules.ahead]
    others = [one for one in requests if one.group not in rules.ahead]
    outcomes = [assigner.assign(one) for one in in_order(others)]
    return outcomes + (plan(assigner, ahead, now) if ahead else [])


def _expire(cases: Sequence[Case], now: datetime) -> dict[str, tuple[str, str]]:
    """Take back offers and assignments that nobody touched in time.

    Returns what becomes of people's presence, and why, where the playbook says so: who lets an offer pass, or declines one.
    """
    moods: dict[str, tuple[str, str]] = {}
    for case in cases:
        ticket, held = case.ticket, case.held
        if held is None:
            continue
        policy = case.rules.groups[held.group].offer if held.group in case.rules.groups else None
        mood = policy.on_decline if held.offer and policy is not None else None
        if mood is not None and any(_declines(event.data, held) for event in case.work.events):
            moods[held.agent] = (mood, f"declined {ticket.number}")
        if not ticket.is_open or held.assignment != ticket.assignment or ticket.accepted:
            continue
        until = _until(case, held)
        if until is None:
            continue
        if now < until:
            case.wake_at(until)
        elif held.agent == (ticket.offered_to if held.offer else ticket.assignee):
            why = "the offer timed out" if held.offer else "untouched for too long"
            gone = e.TicketDeclined(
                agent=held.agent, assignment=held.assignment, reason=why, timed_out=True, node=ticket.node,
                visit=ticket.visit,
            )  # fmt: skip
            case.append(gone, now, {"why": why, "since": held.assigned_at.isoformat()})
            if held.offer and policy is not None and policy.on_timeout is not None:
                moods[held.agent] = (policy.on_timeout, f"let the offer of {ticket.number} pass")
    return moods


def _declines(data: e.Data, held: Held) -> bool:
    return isinstance(data, e.TicketDeclined) and data.agent == held.agent and data.assignment == held.assignment


def _until(case: Case, held: Held) -> datetime | None:
    group = case.rules.groups.get(held.group)
    if group is None:
        return None
    if held.offer:
        return None if group.offer is None else held.assigned_at + group.offer.timeout
    return None if group.untouched is None else held.assigned_at + group.untouched


def _case(work: Work, rules: Compiled, held: Sequence[Held], wait: Wait | None) -> Case:
    """The ticket with what the tables hold: the row of its main path, and those of the nodes beside it."""
    if not held:
        return Case(work, work.ticket, rules, None, wait)
    main = (work.ticket.node, work.ticket.visit)
    mine = next((one for one in held if (one.node, one.visit) == main), None)
    sides = {(one.node, one.visit): one for one in held if (one.node, one.visit) != main}
    return Case(work, work.ticket, rules, mine, wait, sides)


def _copy(turns: Turns) -> Turns:
    return Turns(turns.clock, dict(turns.of))


def _groups(directory: Directory, agent: str) -> tuple[str, ...]:
    person = directory.people.get(agent)
    return person.desks if person is not None else ()


def _people(cases: Sequence[Case], seekers: Sequence[Case], desks: set[str], directory: Directory) -> Set[str]:
    """Everybody whose load this batch may change."""
    crowd, named = staff(directory).crowd(desks), set[str | None]()
    for case in cases:
        ticket = case.ticket
        if ticket.assignee is not None or ticket.offered_to is not None or case.held is not None:
            named |= {ticket.assignee, ticket.offered_to, None if case.held is None else case.held.agent}
        if ticket.nodes or case.sides:
            named.update(one.assignee for one in ticket.nodes)
            named.update(one.agent for one in case.sides.values())
    for case in seekers:
        desk = case.rules.desks.get(case.ticket.group or "")
        named.add(named_of(case))
        if desk is not None:
            named.add(desk.interface)
    others = {one for one in named if one} - crowd
    return crowd | others | {step for one in others for step in delegates(directory, one)} if others else crowd


def _last_owners(book: Book, cases: Sequence[Case]) -> dict[int, str]:
    """For groups that keep to the last owner: who had the same requester's last ticket."""
    wanted: dict[int, tuple[str, str]] = {}
    for case in cases:
        ticket = case.ticket
        desk = case.rules.desks.get(ticket.group or "")
        if desk is None or not desk.sticky or ticket.last_assignee is not None:
            continue
        requester = ticket.requester.id or ticket.requester.email
        if requester is not None:
            wanted[case.work.id] = (requester, desk.name)
    if not wanted:
        return {}
    known = book.tables.last_owners(book.unit.connection, wanted.values())
    return {ticket: known[place] for ticket, place in wanted.items() if place in known}
