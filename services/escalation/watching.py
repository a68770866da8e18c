"""What is watched on a ticket, and which chains begin, go on and end. Pure.

`watch` in the playbook says what starts a chain: `unaccepted` (an assignment that nobody accepts within `after`), `node` (a node
past its due instant), `sla.warned`, `sla.breached`, `assignment_failed`, `manual`. The first entry whose condition holds counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from services.escalation.domain.chain import engine
from services.escalation.domain.chain.state import (
    Acknowledge,
    Acknowledged,
    Cause,
    ChainState,
    Command,
    End,
    Ended,
    EscalateNow,
    Exhausted,
    Facts,
    Pause,
    Raised,
    Resume,
    Status,
    Stepped,
)
from services.escalation.domain.chain.view import View
from shared.contracts import events as e
from shared.contracts.envelope import New, Recorded
from shared.playbook.escalation import Chain
from shared.playbook.livefacts import live_facts
from shared.ticket.state import MAIN, Ticket


class Expected(msgspec.Struct, frozen=True, omit_defaults=True):
    """Somebody is expected to have moved by `due_at`; `assignment` says which assignment this was about."""

    what: str
    due_at: datetime
    since: datetime
    assignment: int = 0
    node: str = MAIN
    visit: int = 1
    owner: str | None = None


class Share(msgspec.Struct, frozen=True, array_like=True):
    """Who had the ticket at this node since when."""

    owner: str
    since: datetime


class Watched(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What escalation keeps of one ticket."""

    expected: tuple[Expected, ...] = ()
    chains: tuple[ChainState, ...] = ()
    shares: tuple[Share, ...] = ()
    numbered: int = 0


@dataclass(frozen=True, slots=True)
class WatchRule:
    """A compiled entry of `watch`."""

    on: str
    chain: Chain
    when: Callable[[Mapping[str, Any]], bool]
    after: timedelta


@dataclass(slots=True)
class Outcome:
    """What became of a ticket's watch: state to keep (None: nothing is watched any more), events, rows, next instant."""

    state: Watched | None
    events: list[New] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    stalls: list[dict[str, Any]] = field(default_factory=list)
    due_at: datetime | None = None


def decide(
    state: Watched | None,
    ticket: Ticket,
    events: Sequence[Recorded],
    rules: Sequence[WatchRule],
    view: View,
    now: datetime,
    priorities: Sequence[str] = (),
) -> Outcome:
    """What is watched now, and what the chains do. Running it again without events and before `due_at` changes nothing."""
    run = _Run(state or Watched(), ticket, rules, view, now, priorities)
    for event in events:
        run.take(event)
    run.expect()
    run.overdue()
    run.go_on()
    return run.outcome()


class _Run:
    def __init__(
        self,
        state: Watched,
        ticket: Ticket,
        rules: Sequence[WatchRule],
        view: View,
        now: datetime,
        priorities: Sequence[str],
    ) -> None:
        self.state, self.ticket, self.rules, self.view, self.now = state, ticket, rules, view, now
        self.priorities = priorities
        self.chains: dict[int, ChainState] = {one.escalation: one for one in state.chains}
        self.commands: dict[int, list[Command]] = {}
        self.expected = {(one.what, one.node, one.visit): one for one in state.expected}
        self.shares = list(state.shares)
        self.numbered = max(state.numbered, ticket.escalations)
        self.out = Outcome(None)
        self.dues: list[datetime] = []

    # ---- events ------------------------------------------------------------------------------------------------------

    def take(self, event: Recorded) -> None:
        at, data = event.happened_at, event.data
        match data:
            case e.TicketAssigned():
                self.shares.append(Share(data.agent, at))
                self._end("unaccepted", "assigned to somebody else", at)
            case e.TicketAccepted():
                self._end("unaccepted", "accepted", at)
                self._end("assignment_failed", "accepted", at)
            case e.TicketResolved() | e.TicketClosed() | e.TicketMerged():
                self._end(None, event.type.removeprefix("ticket."), at)
            case e.TicketPaused():
                self._tell_all(Pause(at))
            case e.TicketResumed():
                self._tell_all(Resume(at))
            case e.TicketAssignmentFailed():
                self._begin("assignment_failed", at, owner=None)
            case e.SlaWarned() | e.SlaBreached():
                self._begin(event.type, at, owner=self.ticket.assignee, metric=data.metric, due_at=data.due_at)
            case e.SlaMet() | e.SlaCancelled():
                self._end_metric(data.metric, at)
            case e.NodeCompleted():
                self._end_node(data.node, data.visit, at)
            case e.EscalationRaised() if event.given:
                self._by_hand(data, event)
            case e.EscalationAcknowledged() if event.given:
                self._tell_all(Acknowledge(data.by, at))
            case _:
                pass

    def _by_hand(self, data: e.EscalationRaised, event: Recorded) -> None:
        running = self.chains.get(data.escalation)
        if running is not None and running.status is not Status.ENDED:
            self._command(data.escalation, EscalateNow(event.actor.id, event.happened_at))
            return
        self.numbered = max(self.numbered, data.escalation - 1)
        self._begin("manual", event.happened_at, owner=self.ticket.assignee, number=data.escalation)

    # ---- what is expected ----------------------------------------------------------------------------------------------

    def expect(self) -> None:
        """Work out anew what somebody has to do by when."""
        ticket, wanted = self.ticket, dict[tuple[str, str, int], Expected]()
        if ticket.status == "assigned" and ticket.assigned_at is not None:
            rule = self._rule("unaccepted")
            if rule is not None:
                key = ("unaccepted", ticket.node, 1)
                known = self.expected.get(key)
                if known is not None and known.assignment == ticket.assignment:
                    wanted[key] = known
                else:
                    wanted[key] = Expected(
                        "unaccepted", ticket.assigned_at + rule.after, ticket.assigned_at, ticket.assignment,
                        ticket.node, 1, ticket.assignee,
                    )  # fmt: skip
        if ticket.is_open and ticket.status != "pending":
            for node in ticket.nodes:
                if node.due_at is not None:
                    key = ("node", node.name, node.visit)
                    wanted[key] = Expected(
                        "node", node.due_at, node.entered_at, ticket.assignment, node.name, node.visit,
                        node.assignee or ticket.assignee,
                    )  # fmt: skip
        self.expected = wanted

    def overdue(self) -> None:
        """Stalls: what was expected by now and did not happen, each once."""
        for one in list(self.expected.values()):
            if one.due_at > self.now:
                self.dues.append(one.due_at)
                continue
            if self._stalled(one):
                continue
            self._stall(one)

    def _stalled(self, one: Expected) -> bool:
        """Whether a chain runs (or ran) for just this."""
        return any(
            chain.cause.kind == one.what
            and chain.cause.stalled_at == one.due_at
            and (chain.cause.node, chain.cause.visit) == (one.node, one.visit)
            for chain in self.chains.values()
        )

    def _stall(self, one: Expected) -> None:
        shares = self._shares(one.since)
        dwell = (self.now - one.since).total_seconds()
        data = e.NodeStalled(
            node=one.node,
            visit=one.visit,
            due_at=one.due_at,
            owner=one.owner,
            group=self.ticket.group,
            dwell_seconds=dwell,
            shares=shares,
            cause=one.what,
        )
        self.out.events.append(New(data, {"expected": one.what, "since": one.since.isoformat()}))
        self.out.stalls.append(
            {
                "ticket_id": self.ticket.id,
                "node": one.node,
                "visit": one.visit,
                "assignment": one.assignment,
                "due_at": one.due_at,
                "stalled_at": self.now,
                "owner": one.owner,
                "group_name": self.ticket.group,
                "dwell_seconds": dwell,
                "shares": shares,
            }
        )
        self._begin(one.what, one.due_at, owner=one.owner, due_at=one.due_at, node=one.node, visit=one.visit)

    def _shares(self, since: datetime) -> dict[str, float]:
        spans: dict[str, float] = {}
        owners = [*self.shares, None]
        for one, after in zip(self.shares, owners[1:], strict=True):
            start, end = max(one.since, since), self.now if after is None else after.since
            if end > start:
                spans[one.owner] = spans.get(one.owner, 0.0) + (end - start).total_seconds()
        return spans

    # ---- chains --------------------------------------------------------------------------------------------------------

    def _rule(self, on: str) -> WatchRule | None:
        facts = live_facts(self.ticket)
        return next((rule for rule in self.rules if rule.on == on and rule.when(facts)), None)

    def _begin(self, kind: str, at: datetime, *, number: int | None = None, **members: Any) -> None:
        rule = self._rule(kind)
        if rule is None or not self.ticket.is_open:
            return
        running = (one for one in self.chains.values() if one.status is not Status.ENDED)
        if any((one.cause.kind, one.cause.metric) == (kind, members.get("metric")) for one in running):
            return
        self.numbered = max(self.numbered, (number or 0) - 1) + 1
        cause = Cause(kind=kind, stalled_at=at, group=self.ticket.group, **members)
        state = engine.start(self.numbered, rule.chain, cause, self.view, self.now)
        self.chains[state.escalation] = replace(state, raised=number is not None)

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

    def _end_node(self, node: str, visit: int, at: datetime) -> None:
        for number, chain in self.chains.items():
            if chain.cause.kind == "node" and (chain.cause.node, chain.cause.visit) == (node, visit):
                self._command(number, End("node completed", at))

    def go_on(self) -> None:
        """Let every chain do what is due."""
        for number, chain in list(self.chains.items()):
            if chain.status is Status.ENDED and number not in self.commands:
                continue
            facts = Facts(self.ticket.assignee)
            decision = engine.decide(chain, self.commands.get(number, []), facts, self.view, self.now)
            self.chains[number] = decision.state
            for effect in decision.effects:
                self._effect(decision.state, effect)
            if decision.due_at is not None:
                self.dues.append(decision.due_at)
            if decision.effects or decision.state is not chain:
                self._row(decision.state, decision.due_at)

    def _effect(self, state: ChainState, effect: Any) -> None:
        number, chain = state.escalation, state.chain.name
        match effect:
            case Raised(at=at):
                data: e.Data = e.EscalationRaised(
                    escalation=number,
                    chain=chain,
                    cause=state.cause.kind,
                    owner=state.cause.owner,
                    metric=state.cause.metric,
                )
                self.out.events.append(New(data, {"chain": chain, "since": state.cause.stalled_at.isoformat()}, at))
            case Stepped():
                self._stepped(number, chain, effect)
            case Exhausted(at=at, fallback=fallback, why=why):
                data = e.EscalationExhausted(escalation=number, chain=chain, fallback=fallback)
                self.out.events.append(New(data, {"why": why}, at))
            case Ended(at=_, why=why):
                self.out.events.append(New(e.EscalationEnded(escalation=number, why=why), {"why": why}))
            case Acknowledged():
                pass  # the person's own event says so

    def _stepped(self, number: int, chain: str, step: Stepped) -> None:
        urged = ("urge",) if step.urged else ()
        data = e.EscalationStepped(
            escalation=number,
            chain=chain,
            step=step.step,
            level=step.level,
            round=step.round,
            targets=step.targets,
            copies=step.copies,
            actions=(*urged, *(done.do for done in step.actions)),
            skipped=dict(step.skipped),
        )
        self.out.events.append(New(data, {"urged": step.urged, "reminded": list(step.reminded), "again": step.again}))
        for done in step.actions:
            self._act(done.do, done.to, step)

    def _act(self, do: str, to: str | None, step: Stepped) -> None:
        ticket = self.ticket
        if do == "reassign" and ticket.is_open:
            group = to if to is not None and not self.view.is_active(to) else ticket.group or ""
            person = (
                to
                if to is not None and self.view.is_active(to)
                else step.targets[0]
                if to is None and step.targets
                else None
            )
            moved = e.TicketTransferred(
                group=group, agent=person, from_group=ticket.group, from_agent=ticket.assignee, reason="escalation",
                node=ticket.node, visit=ticket.visit,
            )  # fmt: skip
            self.out.events.append(New(moved, {"step": step.step}))
            if person is not None:
                given = e.TicketAssigned(
                    group=group, agent=person, assignment=ticket.next_assignment, node=ticket.node, visit=ticket.visit
                )
                self.out.events.append(New(given, {"step": step.step}))
        elif do == "raise_priority":
            raised = to or _one_up(ticket.priority, self.priorities)
            if raised is not None and raised != ticket.priority:
                self.out.events.append(New(e.TicketSet(priority=raised), {"step": step.step}))

    def _row(self, state: ChainState, due_at: datetime | None) -> None:
        over = state.status in (Status.ENDED, Status.EXHAUSTED)
        self.out.rows.append(
            {
                "ticket_id": self.ticket.id,
                "escalation": state.escalation,
                "chain": state.chain.name,
                "cause": state.cause.kind,
                "state": "running" if state.status is Status.ACTIVE else str(state.status),
                "step": state.step,
                "round": state.round,
                "started_at": state.cause.stalled_at,
                "next_at": due_at,
                "ended_at": self.now if over else None,
                "targets": [told.person for told in state.told],
            }
        )

    # ---- the end -------------------------------------------------------------------------------------------------------

    def outcome(self) -> Outcome:
        out = self.out
        # an ended chain is kept while what it was about still stands, so that it does not begin again for the same instant
        live = tuple(
            chain for chain in self.chains.values() if chain.status is not Status.ENDED or self._still_expected(chain)
        )
        if not self.ticket.is_open:
            return out
        out.due_at = min(self.dues, default=None)
        out.state = Watched(
            expected=tuple(self.expected.values()), chains=live, shares=tuple(self.shares[-50:]), numbered=self.numbered
        )
        return out

    def _still_expected(self, chain: ChainState) -> bool:
        return any(
            one.what == chain.cause.kind and one.due_at == chain.cause.stalled_at for one in self.expected.values()
        )


def _one_up(priority: str | None, priorities: Sequence[str]) -> str | None:
    if priority is None or priority not in priorities:
        return None
    place = list(priorities).index(priority)
    return priorities[place - 1] if place > 0 else None
