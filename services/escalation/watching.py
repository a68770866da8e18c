"""What is watched on a ticket, and which chains begin, go on and end. Pure.

`watch` in the playbook says what starts a chain: `unaccepted` (an assignment that nobody accepts within `after`), `node` (a node
past its due instant; a node may name its own chain), `task` (a todo or task group past its instant), `sla.warned`,
`sla.breached`, `assignment_failed`, `manual`. The first entry whose condition holds counts. A chain with a step `before` the due
instant begins when that instant is known, not when it has passed.

Every open ticket has somebody who is to move it and an instant at which it is looked at, at the latest after `REVIEW`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from services.escalation.cards import cards
from services.escalation.domain.chain import engine
from services.escalation.domain.chain.state import (
    Acknowledge,
    Cause,
    ChainState,
    Command,
    End,
    EscalateNow,
    Facts,
    MoveDue,
    Pause,
    Resume,
    Status,
)
from services.escalation.domain.chain.view import View
from services.escalation.effects import Effects
from services.escalation.expecting import Key, frozen, of_tasks, thawed
from services.escalation.places import Place, facts_at, mover, place_among, places
from services.escalation.shares import divided, hands
from services.escalation.watched import Expected, Outcome, Watched, Watching, WatchRule
from shared.contracts import events as e
from shared.contracts.envelope import Recorded
from shared.playbook.escalation import Chain
from shared.ticket.course import Stopped, expire
from shared.ticket.state import Ticket

REVIEW = timedelta(hours=24)
"""An open ticket on which nothing is expected is looked at again after this long."""
SHARES = 50
"""Changes of hands kept for the shares of earlier owners."""


def decide(
    state: Watched | None, ticket: Ticket, events: Sequence[Recorded], watching: Watching, view: View, now: datetime
) -> Outcome:
    """What is watched now, and what the chains do. Running it again without events and before `due_at` changes nothing."""
    run = _Run(state or Watched(), ticket, watching, view, now)
    for event in events:
        run.take(event)
    run.settle()
    return run.outcome()


class _Run:
    def __init__(self, state: Watched, ticket: Ticket, watching: Watching, view: View, now: datetime) -> None:
        self.state, self.watching, self.view, self.now = state, watching, view, now
        self.chains: dict[int, ChainState] = {one.escalation: one for one in state.chains}
        self.commands: dict[int, list[Command]] = {}
        self.expected: dict[Key, Expected] = {(one.what, one.node, one.visit): one for one in state.expected}
        self.shares = list(state.shares)
        self.numbered = max(state.numbered, ticket.escalations)
        self.out = Outcome(None)
        self.effects = Effects(ticket, watching, view, now, self.out)
        self.dues: list[datetime] = []
        self._seen: Ticket | None = None
        self._places: tuple[Place, ...] = ()
        self._facts: dict[Place | None, dict[str, Any]] = {}

    @property
    def ticket(self) -> Ticket:
        """As it is after what was decided so far."""
        return self.effects.ticket

    def places(self) -> tuple[Place, ...]:
        """Where the ticket is now, the main path first."""
        if self.effects.ticket is not self._seen:
            self._seen, self._facts = self.effects.ticket, {}
            self._places = tuple(places(self._seen))
        return self._places

    def place(self, node: str | None, visit: int | None) -> Place | None:
        """See `place_of`."""
        return place_among(self.places(), node, visit)

    # ---- events ------------------------------------------------------------------------------------------------------

    def take(self, event: Recorded) -> None:
        at, data = event.happened_at, event.data
        self.shares += hands(data, at)
        match data:
            case e.TicketAssigned():
                self._end_at("unaccepted", data.node, data.visit, "assigned to somebody else", at)
                self._end("assignment_failed", "assigned", at)
            case e.TicketAccepted():
                self._end_at("unaccepted", data.node, data.visit, "accepted", at)
            case e.TicketDeclined() | e.TicketTransferred():
                self._end_at("unaccepted", data.node, data.visit, event.type.removeprefix("ticket."), at)
            case e.TicketResolved() | e.TicketClosed() | e.TicketMerged():
                self._end(None, event.type.removeprefix("ticket."), at)
            case e.TicketPaused():
                self.expected = frozen(self.expected, at)
                self._tell_all(Pause(at))
            case e.TicketResumed():
                self.expected = thawed(self.expected, at)
                self._tell_all(Resume(at))
            case e.TicketAssignmentFailed():
                self._begin("assignment_failed", at, owner=None)
            case e.SlaStarted():
                self._ahead_of_breach(data, at)
            case e.SlaMoved():
                self._moved(data, at)
            case e.SlaAtRisk() | e.SlaWarned() | e.SlaBreached():
                self._begin(event.type, at, owner=self.ticket.assignee, metric=data.metric, due_at=data.due_at)
            case e.SlaMet() | e.SlaCancelled():
                self._end_metric(data.metric, at)
            case e.NodeCompleted():
                self._end_node(data, at)
            case e.TaskClosed() | e.TaskProgressed():
                self._end_task(data.task, at)
            case e.EscalationRaised() if event.given:
                self._by_hand(data, event)
            case e.EscalationAcknowledged() if event.given:
                self._command(data.escalation, Acknowledge(data.by, at))
            case _:
                pass

    def _by_hand(self, data: e.EscalationRaised, event: Recorded) -> None:
        running = self.chains.get(data.escalation)
        if running is not None and running.status is not Status.ENDED:
            self._command(data.escalation, EscalateNow(event.actor.id, event.happened_at))
            return
        begun = self._begin(
            "manual", event.happened_at, owner=self.ticket.assignee, number=data.escalation,
            like=("sla.breached", "unaccepted", "node"),
        )  # fmt: skip
        if not begun:
            self.effects.emit(e.EscalationEnded(escalation=data.escalation, why="the playbook has no chain for it"))

    def _ahead_of_breach(self, data: e.SlaStarted, at: datetime) -> None:
        rule = self._rule("sla.breached", None)
        if rule is None or not _has_before(rule.chain):
            return
        for clock in data.clocks:
            if clock.due_at is not None:
                self._begin(
                    "sla.breached", clock.due_at, owner=self.ticket.assignee, metric=clock.metric, due_at=clock.due_at
                )

    def _moved(self, data: e.SlaMoved, at: datetime) -> None:
        due = {clock.metric: clock.due_at for clock in data.clocks if clock.due_at is not None}
        for number, chain in self.chains.items():
            due_at = due.get(chain.cause.metric or "")
            if due_at is not None:
                self._command(number, MoveDue(due_at, at))

    # ---- what is expected ----------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let everything happen that is due; again while the chains themselves change the ticket."""
        for _ in range(4):
            self.dues.clear()
            before = self.ticket.version
            self._timers()
            self._expect()
            self._overdue()
            self._go_on()
            if self.ticket.version == before:
                return

    def _timers(self) -> None:
        """Timers of nodes that have come: the case goes on instead, or there as well."""
        ticket = self.ticket
        if not ticket.in_flow or not ticket.is_open or ticket.status == "pending":
            return
        for node in ticket.nodes:
            token = ticket.flow.token(node.name, node.visit) if ticket.flow is not None else None
            for index, at in enumerate(node.timers):
                if token is None or index in token.fired:
                    continue
                if at > self.now:
                    self.dues.append(at)
                elif self.ticket.visit_of(node.name, node.visit) is not None:
                    self._fire(node.name, node.visit, index, at)

    def _fire(self, node: str, visit: int, timer: int, at: datetime) -> None:
        course = self.watching.course(self.ticket)
        if course is None:
            return
        found = expire(self.ticket, course, node, visit, timer)
        if isinstance(found, Stopped):
            return
        for data in found:
            self._take_own(self.effects.emit(data, {"timer": timer, "at": at.isoformat(), "node": node}))

    def _take_own(self, data: e.Data) -> None:
        """An event of our own, as far as the watch itself depends on it."""
        self.shares += hands(data, self.now)
        if isinstance(data, e.NodeCompleted):
            self._end_node(data, self.now)
        elif isinstance(data, e.TicketResolved):
            self._end(None, "resolved", self.now)

    def _expect(self) -> None:
        """Work out anew what somebody has to do by when."""
        ticket, wanted = self.ticket, list[Expected]()
        if ticket.is_open:
            for place in self.places():
                wanted += self._of_place(place)
            if self._rule("task", None) is not None:
                wanted += of_tasks(ticket, self.expected)
        self.expected = {(one.what, one.node, one.visit): one for one in wanted}

    def _of_place(self, place: Place) -> list[Expected]:
        ticket, found = self.ticket, list[Expected]()
        if place.assignee is not None and not place.accepted and place.assigned_at is not None:
            known = self.expected.get(("unaccepted", place.node, place.visit))
            if known is not None and known.assignment == place.assignment:
                found.append(known)
            elif (rule := self._rule("unaccepted", place)) is not None:
                left = rule.after.total_seconds() if ticket.status == "pending" else None
                found.append(
                    Expected(
                        "unaccepted", place.assigned_at + rule.after, place.assigned_at, place.assignment, place.node,
                        place.visit, place.assignee, left=left,
                    )
                )  # fmt: skip
        if place.due_at is not None and place.entered_at is not None:
            known = self.expected.get(("node", place.node, place.visit))
            noted = known is not None and known.noted and known.due_at == place.due_at
            one = Expected(
                "node", place.due_at, place.entered_at, place.assignment, place.node, place.visit, place.assignee, noted,
                0.0 if ticket.status == "pending" else None,
            )  # fmt: skip
            found.append(one)
            self._ahead_of_node(one, place, known)
        return found

    def _ahead_of_node(self, one: Expected, place: Place, known: Expected | None) -> None:
        """A chain that has a step before the node is due begins with the visit, and moves with its instant."""
        if known is not None and known.due_at != one.due_at:
            for number, chain in self.chains.items():
                if (chain.cause.kind, chain.cause.node, chain.cause.visit) == ("node", one.node, one.visit):
                    self._command(number, MoveDue(one.due_at, self.now))
        rule = self._rule("node", place) if known is None and one.due_at > self.now else None
        if rule is not None and _has_before(rule.chain):
            self._begin("node", one.due_at, owner=one.owner, due_at=one.due_at, node=one.node, visit=one.visit)

    def _overdue(self) -> None:
        """Stalls: what was expected by now and did not happen, each once."""
        for key, one in list(self.expected.items()):
            if one.left is not None:
                continue
            if one.due_at > self.now:
                self.dues.append(one.due_at)
            elif not one.noted:
                self.expected[key] = replace(one, noted=True)
                self._stall(one)

    def _stall(self, one: Expected) -> None:
        place = self.place(one.node, one.visit) if one.what != "task" else None
        group = place.group if place is not None else self.ticket.group
        shares = divided(self.shares, one, self.now) if one.what != "task" else {}
        self.effects.stalled(one, group, shares)
        self._begin(one.what, one.due_at, owner=one.owner, due_at=one.due_at, node=one.node, visit=one.visit)

    # ---- chains --------------------------------------------------------------------------------------------------------

    def _rule(self, on: str, place: Place | None) -> WatchRule | None:
        found = None
        for rule in self.watching.rules:
            if rule.on == on and (rule.when is None or rule.when(self._facts_at(place))):
                found = rule
                break
        own = self.watching.chains.get(place.chain or "") if on == "node" and place is not None else None
        return found if own is None else WatchRule(on, own, None, timedelta(0))

    def _facts_at(self, place: Place | None) -> dict[str, Any]:
        self.places()  # facts are those of the ticket as it is now
        if place not in self._facts:
            self._facts[place] = facts_at(self.ticket, place)
        return self._facts[place]

    def _begin(
        self, kind: str, at: datetime, *, number: int | None = None, like: Sequence[str] = (), **members: Any
    ) -> bool:
        place = self.place(members.get("node"), members.get("visit")) if kind != "task" else None
        rule = next((found for on in (kind, *like) if (found := self._rule(on, place)) is not None), None)
        if rule is None or not self.ticket.is_open:
            return False
        about = (kind, members.get("metric"), members.get("node"), members.get("visit"))
        for running_number, one in self.chains.items():
            cause = one.cause
            same = (cause.kind, cause.metric, cause.node, cause.visit) == about
            if same and one.status is not Status.ENDED and not self._ending(running_number):
                return True
        group = place.group if place is not None else self.ticket.group
        cause = Cause(kind=kind, stalled_at=at, group=group, **members)
        chosen = min([0, *self.chains]) - 1 if number is None else number
        state = engine.start(chosen, rule.chain, cause, self.view, self.now)
        self.chains[chosen] = replace(state, raised=number is not None)
        self.numbered = max(self.numbered, chosen)
        if self.ticket.status == "pending":
            self._command(chosen, Pause(self.now))
        return True

    def _ending(self, number: int) -> bool:
        return any(isinstance(one, End) for one in self.commands.get(number, ()))

    def _command(self, number: int, command: Command) -> None:
        self.commands.setdefault(number, []).append(command)

    def _tell_all(self, command: Command) -> None:
        for number in self.chains:
            self._command(number, command)

    def _end(self, kind: str | None, why: str, at: datetime) -> None:
        for number, chain in self.chains.items():
            if kind is None or chain.cause.kind == kind:
                self._command(number, End(why, at))

    def _end_metric(self, metric: str, at: datetime) -> None:
        for number, chain in self.chains.items():
            if chain.cause.metric == metric:
                self._command(number, End(f"{metric} is over", at))

    def _end_at(self, kind: str, node: str, visit: int, why: str, at: datetime) -> None:
        for number, chain in self.chains.items():
            if (chain.cause.kind, chain.cause.node, chain.cause.visit) == (kind, node, visit):
                self._command(number, End(why, at))

    def _end_node(self, data: e.NodeCompleted, at: datetime) -> None:
        for kind in ("node", "unaccepted"):
            self._end_at(kind, data.node, data.visit, "node completed", at)

    def _end_task(self, task: int, at: datetime) -> None:
        if all(one.id != task for one in self.ticket.open_tasks):
            self._end_at("task", str(task), 1, "task is over", at)

    def _go_on(self) -> None:
        """Let every chain do what is due."""
        for number, chain in list(self.chains.items()):
            told = self.commands.pop(number, [])
            if chain.status is Status.ENDED:
                continue
            facts = Facts(self._owner(chain.cause))
            decision = engine.decide(chain, told, facts, self.view, self.now)
            state = self._numbered(decision.state)
            self.chains.pop(number)
            self.chains[state.escalation] = state
            for effect in decision.effects:
                for data in self.effects.apply(state, effect):
                    self._take_own(data)
            if decision.due_at is not None:
                self.dues.append(decision.due_at)
            if decision.effects or decision.state is not chain:
                self.effects.row(state, decision.due_at)

    def _numbered(self, state: ChainState) -> ChainState:
        """A chain gets its number when it is raised: one that waits for its instant must not take a number that people see."""
        if state.escalation > 0 or not state.raised:
            return state
        self.numbered = max(self.numbered, self.ticket.escalations) + 1
        return replace(state, escalation=self.numbered)

    def _owner(self, cause: Cause) -> str | None:
        """Who has now what the chain is about."""
        if cause.kind == "task":
            return cause.owner
        place = self.place(cause.node, cause.visit)
        return place.assignee if place is not None else self.ticket.assignee

    # ---- the end -------------------------------------------------------------------------------------------------------

    def outcome(self) -> Outcome:
        out = self.out
        if not self.ticket.is_open:
            return out
        out.mover = mover(self.ticket)
        out.due_at = min([*self.dues, self.now + REVIEW])
        out.state = Watched(
            expected=tuple(self.expected.values()),
            chains=tuple(chain for chain in self.chains.values() if chain.status is not Status.ENDED),
            shares=tuple(self.shares[-SHARES:]),
            numbered=self.numbered,
            cards=tuple(cards(self.ticket, self.places(), self.expected.values())),
        )
        return out


def _has_before(chain: Chain) -> bool:
    return any(step.before is not None for step in chain.steps)
