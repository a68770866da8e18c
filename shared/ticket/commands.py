"""What people may do to a ticket, and what becomes of it: `decide` is pure and runs under the ticket's row lock.

A refusal is a value (`Refused`) with a code and a sentence; the caller answers 409 with the current state. Repeating what already
holds, by the same person, is accepted with no events, so that a retried request is harmless.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shared.contracts import events as e
from shared.contracts.envelope import Actor
from shared.ticket import course as flow
from shared.ticket import tasks
from shared.ticket.actions import (
    Accept,
    Acknowledge,
    AnyCommand,
    Close,
    CloseTask,
    Command,
    CompleteNode,
    CustomerReply,
    Decline,
    EditNote,
    Escalate,
    Jump,
    Merge,
    Note,
    OpenTask,
    Pause,
    Progress,
    Rate,
    Reopen,
    Reply,
    Resolve,
    Resume,
    Set,
    Transfer,
    Unwatch,
    Waive,
    Watch,
)
from shared.ticket.course import Stopped
from shared.ticket.outcomes import Accepted, Outcome, Refused, Surroundings
from shared.ticket.state import MAIN, Handover, Node, Ticket

__all__ = [
    "Accept",
    "Accepted",
    "Acknowledge",
    "AnyCommand",
    "Close",
    "CloseTask",
    "Command",
    "CompleteNode",
    "CustomerReply",
    "Decline",
    "EditNote",
    "Escalate",
    "Jump",
    "Merge",
    "Note",
    "OpenTask",
    "Outcome",
    "Pause",
    "Progress",
    "Rate",
    "Refused",
    "Reopen",
    "Reply",
    "Resolve",
    "Resume",
    "Set",
    "Surroundings",
    "Transfer",
    "Unwatch",
    "Waive",
    "Watch",
    "decide",
    "parse_id",
]


NOTHING_AROUND = Surroundings()


def decide(ticket: Ticket, command: AnyCommand, actor: Actor, around: Surroundings = NOTHING_AROUND) -> Outcome:
    """Decide one command on the ticket as it is now (caller holds its lock)."""
    if command.expected_version is not None and command.expected_version != ticket.version:
        return Refused("version", f"the ticket is at version {ticket.version}, not {command.expected_version}")
    if ticket.status == "merged":
        return Refused("merged", f"the ticket was merged into T-{ticket.merged_into}")
    outcome = _DECIDERS[type(command)](ticket, command, actor, around)
    return _with_tasks(ticket, outcome, around) if isinstance(outcome, Accepted) else outcome


def _with_tasks(t: Ticket, outcome: Accepted, around: Surroundings) -> Outcome:
    """What becomes of open todos and task groups when the ticket ends."""
    over = any(isinstance(one, e.TicketResolved | e.TicketClosed | e.TicketMerged) for one in outcome.events)
    if not over or not t.open_tasks or around.on_end == "keep":
        return outcome
    if around.on_end == "wait":
        names = ", ".join(one.title for one in t.open_tasks)
        return Refused("tasks_open", f"to be done first: {names}")
    closed = (e.TaskClosed(task=one.id, why="the ticket is over") for one in t.open_tasks)
    return Accepted((*closed, *outcome.events))


def _not_open(t: Ticket) -> Refused | None:
    return None if t.is_open else Refused("not_open", f"the ticket is {t.status}")


def _accept(t: Ticket, c: Accept, actor: Actor, around: Surroundings) -> Outcome:
    if refused := _not_open(t):
        return refused
    side = _side(t, c.node, actor.id)
    if isinstance(side, Refused):
        return side
    if side is not None:
        return _accept_side(t, side, actor, around)
    if t.assignee == actor.id:
        accepted = e.TicketAccepted(agent=actor.id, assignment=t.assignment, node=t.node, visit=t.visit)
        return Accepted() if t.accepted else Accepted((accepted,))
    if t.assignee is not None:
        return Refused("not_assignee", f"the ticket is with {t.assignee}")
    if t.offered_to not in (None, actor.id):
        return Refused("not_assignee", f"the ticket is offered to {t.offered_to}")
    if around.agents is not None and actor.id not in around.agents:
        return Refused("not_agent", f"{actor.id} is no agent")
    if _too_late(t, actor, around):
        return Refused("too_late", "the offer is over")
    group = t.group or (around.agents or {}).get(actor.id) or ""
    number = t.next_assignment if t.offered_to is None else t.assignment
    return Accepted(_taken(group, actor.id, number, t.node, t.visit, side=False))


def _accept_side(t: Ticket, node: Node, actor: Actor, around: Surroundings) -> Outcome:
    if node.assignee == actor.id:
        accepted = e.TicketAccepted(
            agent=actor.id, assignment=node.assignment, node=node.name, visit=node.visit, side=True
        )
        return Accepted() if node.accepted else Accepted((accepted,))
    if node.assignee is not None:
        return Refused("not_assignee", f"node {node.name} is with {node.assignee}")
    if around.agents is not None and actor.id not in around.agents:
        return Refused("not_agent", f"{actor.id} is no agent")
    group = node.group or (around.agents or {}).get(actor.id) or ""
    return Accepted(_taken(group, actor.id, t.next_assignment, node.name, node.visit, side=True))


def _taken(group: str, agent: str, number: int, node: str, visit: int, *, side: bool) -> tuple[e.Data, ...]:
    where: dict[str, Any] = {"agent": agent, "assignment": number, "node": node, "visit": visit, "side": side}
    return (e.TicketAssigned(group=group, **where), e.TicketAccepted(**where))


def _side(t: Ticket, name: str | None, person: str | None) -> Node | Refused | None:
    """The open node beside the main path that an action is about; None: the main path. Without a name, the one `person` has."""
    if name is None:
        if person is None or t.assignee == person or t.offered_to == person:
            return None
        return next((one for one in t.sides if one.assignee == person), None)
    if name in (t.node, MAIN):
        return None
    return next((one for one in t.sides if one.name == name), None) or _no_node(name)


def _no_node(name: str) -> Refused:
    return Refused("no_such_node", f"the ticket is not at node {name!r}")


def _too_late(t: Ticket, actor: Actor, around: Surroundings) -> bool:
    """An offer ends with its time, also when the router has not noticed yet; who let it pass, or declined, cannot come back."""
    if t.offered_to is None:
        return actor.id in t.declined
    return around.now is not None and t.offered_until is not None and around.now > t.offered_until


def _decline(t: Ticket, c: Decline, actor: Actor, around: Surroundings) -> Outcome:
    """Not mine: the next one is asked. What was transferred, and is rejected by whom it was sent to, goes back instead."""
    if refused := _not_open(t):
        return refused
    side = _side(t, c.node, actor.id)
    if isinstance(side, Refused):
        return side
    if side is not None:
        if side.assignee != actor.id:
            return Refused("not_assignee", f"node {side.name} is not with {actor.id}")
        return Accepted((_declined(side.name, side.visit, side.assignment, actor, c.reason),))
    mine = actor.id in (t.assignee, t.offered_to)
    head = actor.id in around.heads.get(t.group or "", frozenset())
    if not mine and not (head and t.handover is not None):
        return Refused("not_assignee", f"the ticket is not with {actor.id}")
    declined = _declined(t.node, t.visit, t.assignment, actor, c.reason)
    if t.handover is None or not (head or t.handover.to_agent == actor.id):
        return Accepted((declined,))
    return Accepted((declined, *_sent_back(t, t.handover, c.reason)) if mine else _sent_back(t, t.handover, c.reason))


def _declined(node: str, visit: int, number: int, actor: Actor, reason: str) -> e.TicketDeclined:
    return e.TicketDeclined(agent=actor.id, assignment=number, reason=reason, node=node, visit=visit)


def _sent_back(t: Ticket, handover: Handover, reason: str) -> tuple[e.Data, ...]:
    back = e.TicketTransferred(
        group=handover.group or t.group or "",
        agent=handover.agent,
        from_group=t.group,
        from_agent=t.assignee,
        reason=f"rejected: {reason}" if reason else "rejected",
        returned=True,
        node=t.node,
        visit=t.visit,
    )
    if handover.agent is None:
        return (back,)
    given = e.TicketAssigned(
        group=back.group, agent=handover.agent, assignment=t.next_assignment, node=t.node, visit=t.visit
    )
    return back, given


def _transfer(t: Ticket, c: Transfer, actor: Actor, around: Surroundings) -> Outcome:
    if refused := _not_open(t):
        return refused
    if (c.group is None) == (c.agent is None):
        return Refused("invalid", "name either a group or an agent")
    side = _side(t, c.node, None)
    if isinstance(side, Refused):
        return side
    where = side or Node(t.node, t.visit, t.opened_at, t.group, t.assignee)
    if c.agent is not None:
        return _transfer_to_agent(t, c, around, where, side=side is not None)
    if around.groups and c.group not in around.groups:
        return Refused("unknown_group", f"there is no group {c.group!r}")
    if where.group == c.group and where.assignee is None:
        return Accepted()
    return Accepted((_moved(where, str(c.group), None, c.reason),))


def _transfer_to_agent(t: Ticket, c: Transfer, around: Surroundings, where: Node, *, side: bool) -> Outcome:
    agent = str(c.agent)
    if around.agents is not None and agent not in around.agents:
        return Refused("unknown_agent", f"there is no agent {agent!r}")
    if where.assignee == agent:
        return Accepted()
    group = (around.agents or {}).get(agent) or where.group or ""
    given = e.TicketAssigned(
        group=group, agent=agent, assignment=t.next_assignment, node=where.name, visit=where.visit, side=side
    )
    return Accepted((_moved(where, group, agent, c.reason), given))


def _moved(where: Node, group: str, agent: str | None, reason: str) -> e.TicketTransferred:
    return e.TicketTransferred(
        group=group, agent=agent, from_group=where.group, from_agent=where.assignee, reason=reason, node=where.name,
        visit=where.visit,
    )  # fmt: skip


def _reply(t: Ticket, c: Reply, actor: Actor, around: Surroundings) -> Outcome:
    if t.status == "closed":
        return Refused("not_open", "the ticket is closed")
    automated = actor.kind in ("automation", "service")
    return Accepted((e.TicketReplied(author="agent", text=c.text, automated=automated),))


def _customer_reply(t: Ticket, c: CustomerReply, actor: Actor, around: Surroundings) -> Outcome:
    automated = c.automated or actor.kind == "automation"
    said = e.TicketReplied(author="customer", text=c.text, automated=automated)
    if t.status == "closed" and not automated:
        return Refused("not_open", "the ticket is closed; reopen it or open a new one")
    if automated:  # automated senders never reopen, never resume, never count as contact
        return Accepted((said,))
    if t.status == "pending":
        return Accepted((said, _resumed(t, around)))
    if t.status == "resolved":
        return Accepted((said, *_reopened(t, "customer replied", around)))
    return Accepted((said,))


def _watch(t: Ticket, c: Watch | Unwatch, actor: Actor, around: Surroundings) -> Outcome:
    who = c.person or actor.id
    if around.agents is not None and who not in around.agents:
        return Refused("unknown_agent", f"there is nobody called {who!r}")
    if isinstance(c, Watch) == (who in t.watchers):
        return Accepted()
    return Accepted((e.TicketWatched(people=(who,)) if isinstance(c, Watch) else e.TicketUnwatched(people=(who,)),))


def _rate(t: Ticket, c: Rate, actor: Actor, around: Surroundings) -> Outcome:
    if not 0 <= c.score <= 10:
        return Refused("invalid", "a score is 0 to 10")
    if t.is_open:
        return Refused("not_done", "an open ticket cannot be rated yet")
    return Accepted() if t.score == c.score else Accepted((e.TicketRated(score=c.score, comment=c.comment),))


def _set(t: Ticket, c: Set, actor: Actor, around: Surroundings) -> Outcome:
    if refused := _not_open(t):
        return refused
    labels = {name: value for name, value in c.labels.items() if name not in t.labels or t.labels[name].value != value}
    given = {**c.fields, **_longer(t, c.append)}
    fields = {name: value for name, value in given.items() if name not in t.fields or t.fields[name] != value}
    priority = c.priority if c.priority != t.priority else None
    if priority is not None and around.priorities and priority not in around.priorities:
        return Refused("unknown_priority", f"there is no priority {priority!r}")
    if (wrong := around.fields(fields)) is not None:
        return Refused("invalid", wrong)
    if not labels and not fields and priority is None:
        return Accepted()
    lane = None if priority is None else around.lanes(priority, t.lane)
    return Accepted((e.TicketSet(labels=labels, fields=fields, priority=priority, lane=lane),))


def _longer(t: Ticket, append: dict[str, list[Any]]) -> dict[str, Any]:
    """List fields with further entries."""
    found: dict[str, Any] = {}
    for name, entries in append.items():
        known = t.fields.get(name)
        found[name] = [*(known if isinstance(known, list) else []), *entries]
    return found


def _pause(t: Ticket, c: Pause, actor: Actor, around: Surroundings) -> Outcome:
    if refused := _not_open(t):
        return refused
    return Accepted() if t.status == "pending" else Accepted((e.TicketPaused(reason=c.reason),))


def _resume(t: Ticket, c: Resume, actor: Actor, around: Surroundings) -> Outcome:
    if refused := _not_open(t):
        return refused
    return Accepted((_resumed(t, around),)) if t.status == "pending" else Accepted()


def _resumed(t: Ticket, around: Surroundings) -> e.TicketResumed:
    return e.TicketResumed(nodes=() if around.course is None else flow.instants(t, around.course))


def _acknowledge(t: Ticket, c: Acknowledge, actor: Actor, around: Surroundings) -> Outcome:
    wanted = t.escalation if c.escalation is None else c.escalation
    if wanted is None or wanted not in t.running or wanted in t.held:
        if t.held and actor.id in t.holders:
            return Accepted()
        return Refused("nothing_to_acknowledge", "no escalation is open on this ticket")
    return Accepted((e.EscalationAcknowledged(escalation=wanted, by=actor.id),))


def _escalate(t: Ticket, c: Escalate, actor: Actor, around: Surroundings) -> Outcome:
    """The next step now: of the escalation that runs, else of a new one."""
    if refused := _not_open(t):
        return refused
    number = t.escalation if t.escalation is not None else max(t.running, default=t.escalations + 1)
    return Accepted((e.EscalationRaised(escalation=number, chain="", cause="manual", owner=t.assignee),))


def _resolve(t: Ticket, c: Resolve, actor: Actor, around: Surroundings) -> Outcome:
    if t.status == "resolved":
        return Accepted()
    if refused := _not_open(t):
        return refused
    if t.in_flow:
        names = tuple(one.name for one in t.nodes)
        return Refused("flow_open", f"the flow is still at {', '.join(names)}; complete it, jump, or close the ticket")
    return Accepted((e.TicketResolved(resolution=c.resolution),))


def _reopen(t: Ticket, c: Reopen, actor: Actor, around: Surroundings) -> Outcome:
    if t.is_open:
        return Accepted() if t.reopened else Refused("open", "the ticket is open")
    return Accepted(_reopened(t, c.reason, around))


def _reopened(t: Ticket, reason: str, around: Surroundings) -> tuple[e.Data, ...]:
    """A ticket of a flow goes through it again."""
    again = flow.begin(t, around.course) if around.course is not None else ()
    return (e.TicketReopened(reason=reason), *(() if isinstance(again, Stopped) else again))


def _close(t: Ticket, c: Close, actor: Actor, around: Surroundings) -> Outcome:
    return Accepted() if t.status == "closed" else Accepted((*flow.end(t, c.reason), e.TicketClosed(reason=c.reason)))


def _merge(t: Ticket, c: Merge, actor: Actor, around: Surroundings) -> Outcome:
    if refused := _not_open(t):
        return refused
    into = parse_id(c.into)
    if into is None or into == t.id:
        return Refused("invalid", f"cannot merge into {c.into!r}")
    return Accepted((*flow.end(t, "merged"), e.TicketMerged(into=into)))


def _complete(t: Ticket, c: CompleteNode, actor: Actor, around: Surroundings) -> Outcome:
    course = around.course
    if course is None or t.flow is None or c.node not in course.program.nodes:
        return _not_open(t) or _no_node(c.node)
    if not t.is_open and t.flow.completed_by.get(c.node) != actor.id:
        return Refused("not_open", f"the ticket is {t.status}")
    fields = {**c.fields, **_longer(t, c.append)}
    if (wrong := around.fields(fields)) is not None:
        return Refused("invalid", wrong)
    return _stepped(
        flow.complete(
            t, course, c.node, by=actor.id, visit=c.visit, material=c.material, fields=fields, outcome=c.outcome
        )
    )


def _waive(t: Ticket, c: Waive, actor: Actor, around: Surroundings) -> Outcome:
    if refused := _not_open(t):
        return refused
    if around.course is None or c.node not in around.course.program.nodes:
        return _no_node(c.node)
    if not c.reason.strip():
        return Refused("invalid", "say why the material is waived")
    return _stepped(flow.waive(t, around.course, c.node, c.material, c.reason))


def _jump(t: Ticket, c: Jump, actor: Actor, around: Surroundings) -> Outcome:
    if refused := _not_open(t):
        return refused
    if around.course is None or c.node not in around.course.program.nodes:
        return _no_node(c.node)
    if c.siblings not in (None, "keep", "cancel"):
        return Refused("invalid", "siblings are kept or cancelled: keep, cancel")
    return _stepped(
        flow.jump(
            t,
            around.course,
            c.node,
            c.to,
            by=actor.id,
            visit=c.visit,
            siblings=c.siblings,
            free=c.free,
            reason=c.reason,
        )
    )


def _stepped(found: flow.Events | Stopped) -> Outcome:
    if isinstance(found, Stopped):
        return Refused(found.code, found.reason, found.missing)
    return Accepted(found)


def parse_id(text: str) -> int | None:
    """`T-1042` or `1042` as an id, else None."""
    digits = text.removeprefix("T-")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else None


_DECIDERS: dict[type, Callable[..., Outcome]] = {
    Accept: _accept,
    Decline: _decline,
    Transfer: _transfer,
    Note: tasks.note,
    EditNote: tasks.edit_note,
    OpenTask: tasks.open_task,
    Progress: tasks.progress,
    CloseTask: tasks.close_task,
    Reply: _reply,
    CustomerReply: _customer_reply,
    Rate: _rate,
    Set: _set,
    Pause: _pause,
    Resume: _resume,
    CompleteNode: _complete,
    Waive: _waive,
    Jump: _jump,
    Acknowledge: _acknowledge,
    Escalate: _escalate,
    Resolve: _resolve,
    Reopen: _reopen,
    Close: _close,
    Merge: _merge,
    Watch: _watch,
    Unwatch: _watch,
}
