"""What chains do to the ticket and say to the world: effects of the engine as events and rows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from services.escalation.domain.chain.state import (
    Acknowledged,
    ChainState,
    Done,
    Effect,
    Ended,
    Exhausted,
    Raised,
    Status,
    Stepped,
)
from services.escalation.domain.chain.view import View
from services.escalation.places import Place, place_of
from services.escalation.watched import Expected, Outcome, Watching
from shared.contracts import events as e
from shared.contracts.envelope import New
from shared.ticket.projection import evolve
from shared.ticket.state import Ticket


class Effects:
    """Events and rows of one decision, and the ticket as it is after them."""

    def __init__(self, ticket: Ticket, watching: Watching, view: View, now: datetime, out: Outcome) -> None:
        self.ticket, self.watching, self.view, self.now, self.out = ticket, watching, view, now, out

    def emit(self, data: e.Data, reason: dict[str, Any] | None = None) -> e.Data:
        """Add an event."""
        self.out.events.append(New(data, reason))
        self.ticket = evolve(self.ticket, data, self.now, self.ticket.version + 1)
        return data

    def stalled(self, one: Expected, group: str | None, shares: dict[str, float]) -> None:
        """A stall: on the ticket's record, and in the table that performance records are made from."""
        dwell = (self.now - one.since).total_seconds()
        self.emit(
            e.NodeStalled(
                node=one.node, visit=one.visit, due_at=one.due_at, owner=one.owner, group=group, dwell_seconds=dwell,
                shares=shares, cause=one.what,
            ),
            {"expected": one.what, "since": one.since.isoformat()},
        )  # fmt: skip
        self.out.stalls.append(
            {
                "ticket_id": self.ticket.id,
                "node": one.node,
                "visit": one.visit,
                "assignment": one.assignment,
                "due_at": one.due_at,
                "stalled_at": self.now,
                "owner": one.owner,
                "group_name": group,
                "dwell_seconds": dwell,
                "shares": shares,
            }
        )

    def apply(self, state: ChainState, effect: Effect) -> list[e.Data]:
        """One effect of a chain; the events that change the ticket itself."""
        number, chain, cause = state.escalation, state.chain.name, state.cause
        match effect:
            case Raised():
                raised = e.EscalationRaised(
                    escalation=number, chain=chain, cause=cause.kind, owner=cause.owner, metric=cause.metric
                )
                self.emit(raised, {"chain": chain, "since": cause.stalled_at.isoformat()})
            case Stepped():
                return self._stepped(state, effect)
            case Exhausted(fallback=fallback, why=why):
                self.emit(e.EscalationExhausted(escalation=number, chain=chain, fallback=fallback), {"why": why})
            case Ended(why=why):
                if state.raised:
                    self.emit(e.EscalationEnded(escalation=number, why=why), {"why": why})
            case Acknowledged(complete=True, expires_at=expires_at):
                held = e.EscalationHeld(escalation=number, by=state.acknowledged_by, expires_at=expires_at)
                self.emit(held, {"acknowledged_by": list(state.acknowledged_by)})
            case Acknowledged():
                pass  # the person's own event says so; others still have to
        return []

    def _stepped(self, state: ChainState, step: Stepped) -> list[e.Data]:
        number, chain = state.escalation, state.chain.name
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
            urged=step.urged,
            reminded=step.reminded,
            webhooks=tuple(done.to for done in step.actions if done.do == "webhook" and done.to is not None),
        )
        self.emit(data, {"again": step.again})
        cause = state.cause
        if cause.node is not None and cause.due_at is not None:
            self.out.levels.append(
                {
                    "ticket_id": self.ticket.id, "node": cause.node, "visit": cause.visit, "due_at": cause.due_at,
                    "level": step.level,
                }
            )  # fmt: skip
        return [data for done in step.actions for data in self._act(state, done, step)]

    def _act(self, state: ChainState, done: Done, step: Stepped) -> list[e.Data]:
        if not self.ticket.is_open:
            return []
        if done.do == "reassign":
            place = place_of(self.ticket, state.cause.node if state.cause.kind != "task" else None, state.cause.visit)
            return [] if place is None else self._reassign(done.to, step, place)
        if done.do == "raise_priority":
            return self._raise_priority(done.to, step)
        if done.do == "task_group":
            return self._task_group(state, done.to, step)
        return []

    def _reassign(self, to: str | None, step: Stepped, place: Place) -> list[e.Data]:
        person = to if to is not None and self.view.is_active(to) else None
        group = (to if to is not None and person is None else place.group) or ""
        if person is not None and person == place.assignee:
            return []
        moved = e.TicketTransferred(
            group=group, agent=person, from_group=place.group, from_agent=place.assignee, reason="escalation",
            node=place.node, visit=place.visit,
        )  # fmt: skip
        told = [self.emit(moved, {"step": step.step})]
        if person is not None:
            side = (place.node, place.visit) != (self.ticket.node, self.ticket.visit)
            given = e.TicketAssigned(
                group=group, agent=person, assignment=self.ticket.next_assignment, node=place.node, visit=place.visit,
                side=side,
            )  # fmt: skip
            told.append(self.emit(given, {"step": step.step}))
        return told

    def _raise_priority(self, to: str | None, step: Stepped) -> list[e.Data]:
        raised = to or _one_up(self.ticket.priority, self.watching.priorities)
        if raised is None or raised == self.ticket.priority:
            return []
        lane = self.watching.lanes(raised, self.ticket.lane)
        return [self.emit(e.TicketSet(priority=raised, lane=lane), {"step": step.step})]

    def _task_group(self, state: ChainState, title: str | None, step: Stepped) -> list[e.Data]:
        """One joint task group for each chain: whoever is told later joins nothing, the first step's people work together."""
        if not step.targets or any(one.escalation == state.escalation for one in self.ticket.tasks):
            return []
        opened = e.TaskOpened(
            task=len(self.ticket.tasks) + 1, title=title or state.chain.name, owner=step.targets[0],
            members=step.targets[1:], escalation=state.escalation,
        )  # fmt: skip
        return [self.emit(opened, {"step": step.step})]

    def row(self, state: ChainState, due_at: datetime | None) -> None:
        """The escalation as people are shown it."""
        over = state.status in (Status.ENDED, Status.EXHAUSTED)
        if not state.raised:
            return
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


def _one_up(priority: str | None, priorities: Sequence[str]) -> str | None:
    if priority is None or priority not in priorities:
        return None
    place = list(priorities).index(priority)
    return priorities[place - 1] if place > 0 else None
