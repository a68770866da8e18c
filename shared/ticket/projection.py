"""A ticket's projection: what each event makes of it.

`evolve` must stay total over the catalogue: an event it does not know changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from shared.contracts import events as e
from shared.contracts.envelope import Recorded
from shared.ticket.flow.state import FlowState
from shared.ticket.state import MAIN, Handover, Member, Node, Task, Ticket


def opened(ticket_id: int, data: e.TicketOpened, at: datetime, playbook: int) -> Ticket:
    """The ticket after its first event (version 1)."""
    return Ticket(
        id=ticket_id,
        version=1,
        status="new",
        opened_at=at,
        updated_at=at,
        source=data.source,
        subject=data.subject[:200],
        lane=data.lane,
        kind=data.kind,
        external_id=data.external_id,
        dedup_key=data.dedup_key,
        requester=data.requester,
        labels={name: e.Label(value) for name, value in data.labels.items()},
        fields=data.fields,
        playbook=playbook,
    )


def evolve(ticket: Ticket, data: e.Data, at: datetime, version: int) -> Ticket:
    """The ticket after one more event, which happened at `at` and has the item's `version`."""
    change = _CHANGES.get(data.type)
    changes = change(ticket, data, at) if change else {}
    return replace(ticket, version=version, updated_at=at, **changes)


def project(recorded: list[Recorded]) -> Ticket:
    """A ticket from its whole stream, version 1 first: what the stored row must equal."""
    first = recorded[0]
    if not isinstance(first.data, e.TicketOpened):
        raise ValueError(f"ticket {first.id} does not begin with ticket.opened but {first.type}")
    ticket = opened(first.id, first.data, first.happened_at, first.playbook)
    for event in recorded[1:]:
        ticket = evolve(ticket, event.data, event.happened_at, event.version)
    return ticket


# ---- one function an event; each returns the members that change -----------------------------------------------------------

_Changes = dict[str, Any]
_NO_OFFER: _Changes = {"offered_to": None, "offered_until": None}


def _classified(t: Ticket, d: e.TicketClassified, _: datetime) -> _Changes:
    return {
        "classified": True,
        "labels": d.labels,
        "priority": d.priority,
        "group": d.group,
        "home_group": d.group,
        "kind": d.kind,
        "lane": d.lane,
        "skills": d.skills,
        "preferred": d.preferred,
        "weight": d.weight,
        "effort_seconds": d.effort_seconds,
        "fields": {**t.fields, **d.fields} if d.fields else t.fields,
    }


def _set(t: Ticket, d: e.TicketSet, _: datetime) -> _Changes:
    priority = d.priority or t.priority
    return {
        "labels": {**t.labels, **{name: e.Label(value) for name, value in d.labels.items()}},
        "fields": {**t.fields, **d.fields},
        "priority": priority,
        "lane": d.lane or t.lane,
    }


def _queued(t: Ticket, d: e.TicketQueued, _: datetime) -> _Changes:
    if not _on_main(t, d):
        return {"nodes": _with(t.nodes, d, group=d.group, **_FREE | {"waiting": d.group})}
    status = "pending" if t.status == "pending" else "new"
    return {
        "group": d.group,
        "status": status,
        "assignee": None,
        "accepted": False,
        **_NO_OFFER,
        "assigned_at": None,
        "nodes": _with_main(t, group=d.group, **_FREE),
    }


def _offered(t: Ticket, d: e.TicketOffered, _: datetime) -> _Changes:
    return {
        "group": d.group,
        "offered_to": d.agent,
        "offered_until": d.expires_at,
        "assignment": d.assignment,
        "assignments": max(t.assignments, d.assignment),
        "nodes": _with_main(t, group=d.group),
    }


def _assigned(t: Ticket, d: e.TicketAssigned, at: datetime) -> _Changes:
    owned = {"group": d.group, "assignee": d.agent, "assignment": d.assignment, "assigned_at": at, "accepted": False}
    count = {"assignments": max(t.assignments, d.assignment)}
    if not _on_main(t, d):
        return {"nodes": _with(t.nodes, d, **owned, waiting=None), **count}
    main = t.visit_of(t.node, t.visit)
    home = {"owner": d.agent, "home_group": d.group} if main is not None and main.home else {}
    return {
        **owned,
        "last_assignee": d.agent,
        **_NO_OFFER,
        "status": "pending" if t.status == "pending" else "assigned",
        "nodes": _with_main(t, **owned),
        **count,
        **home,
    }


def _accepted(t: Ticket, d: e.TicketAccepted, _: datetime) -> _Changes:
    if not _on_main(t, d):
        return {"nodes": _with(t.nodes, d, accepted=True, declined=())}
    return {
        "accepted": True,
        "declined": (),
        "handover": None,
        "status": "pending" if t.status == "pending" else "in_progress",
        "nodes": _with_main(t, accepted=True),
    }


def _declined(t: Ticket, d: e.TicketDeclined, _: datetime) -> _Changes:
    if not _on_main(t, d):
        node = t.visit_of(d.node, d.visit)
        before = node.declined if node is not None else ()
        return {"nodes": _with(t.nodes, d, declined=_once(before, d.agent), **_FREE)}
    return {**_unowned(t), "declined": _once(t.declined, d.agent)}


def _transferred(t: Ticket, d: e.TicketTransferred, at: datetime) -> _Changes:
    if not _on_main(t, d):
        return {"nodes": _with(t.nodes, d, group=d.group, declined=(), **_FREE)}
    asked: _Changes = (
        {} if d.group == t.group else {"skills": {}, "preferred": {}}
    )  # a person knows better than the rules
    handover = None if d.returned else Handover(d.from_group, d.from_agent, at, d.agent)
    moved: _Changes = {"group": d.group, "declined": (), "handover": handover}
    return {**_unowned(t), **moved, **asked, "nodes": _with_main(t, group=d.group, **_FREE)}


def _replied(t: Ticket, d: e.TicketReplied, _: datetime) -> _Changes:
    return {"replied": True} if d.author == "agent" and not d.automated else {}


def _paused(t: Ticket, d: e.TicketPaused, at: datetime) -> _Changes:
    return {"status": "pending", "pause_reason": d.reason, "paused_at": at}


def _resumed(t: Ticket, d: e.TicketResumed, _: datetime) -> _Changes:
    over: _Changes = {"pause_reason": None, "paused_at": None}
    return {"status": _working(t.assignee, t.accepted), **over, "nodes": _due(t.nodes, d.nodes)}


def _resolved(t: Ticket, _d: e.TicketResolved, at: datetime) -> _Changes:
    over: _Changes = {"pause_reason": None, "paused_at": None, "handover": None, **_NO_OFFER}
    return {"status": "resolved", "resolved_at": at, **over}


def _reopened(t: Ticket, _d: e.TicketReopened, _: datetime) -> _Changes:
    return {
        **_unowned(t),
        "resolved_at": None,
        "closed_at": None,
        "reopened": t.reopened + 1,
        "declined": (),
        "pause_reason": None,
        "paused_at": None,
    }


def _closed(t: Ticket, _d: e.TicketClosed, at: datetime) -> _Changes:
    return {
        "status": "closed",
        "handover": None,
        "closed_at": at,
        "resolved_at": t.resolved_at or at,
        "pause_reason": None,
        "paused_at": None,
        **_NO_OFFER,
    }


def _merged(t: Ticket, d: e.TicketMerged, at: datetime) -> _Changes:
    return {"status": "merged", "merged_into": d.into, "closed_at": at, **_NO_OFFER}


def _watched(t: Ticket, d: e.TicketWatched, _: datetime) -> _Changes:
    return {"watchers": (*t.watchers, *(one for one in d.people if one not in t.watchers))}


def _unwatched(t: Ticket, d: e.TicketUnwatched, _: datetime) -> _Changes:
    return {"watchers": tuple(one for one in t.watchers if one not in d.people)}


def _rated(t: Ticket, d: e.TicketRated, _: datetime) -> _Changes:
    return {"score": d.score}


def _repinned(t: Ticket, d: e.TicketRepinned, _: datetime) -> _Changes:
    return {"playbook": d.version, "moved_from": None if d.undoes is not None else t.playbook}


def _flow_moved(t: Ticket, d: e.FlowMoved, _: datetime) -> _Changes:
    flow, nodes = msgspec.convert(d.state, FlowState), _due(t.nodes, d.nodes)
    return {"flow": flow, "nodes": nodes, **_main(t, nodes, flow)}


def _node_entered(t: Ticket, d: e.NodeEntered, at: datetime) -> _Changes:
    node = Node(
        d.node, d.visit, at, d.group, None, d.due_at, home=d.home, stage=d.stage, chain=d.chain,
        expected_seconds=d.expected_seconds, wall=d.wall, timers=d.timers,
    )  # fmt: skip
    nodes = (*t.nodes, node)
    return {"nodes": nodes, **_main(t, nodes, t.flow)}


def _node_completed(t: Ticket, d: e.NodeCompleted, _: datetime) -> _Changes:
    nodes = tuple(n for n in t.nodes if (n.name, n.visit) != (d.node, d.visit))
    return {"nodes": nodes, **_main(t, nodes, t.flow)}


def _main(t: Ticket, nodes: tuple[Node, ...], flow: FlowState | None) -> _Changes:
    """The main path as the case has it, as soon as its visit is there: the ticket takes over that visit's group and owner."""
    token = flow.main if flow is not None else None
    if token is None or (token.node, token.visit) == (t.node, t.visit):
        return {}
    node = next((one for one in nodes if (one.name, one.visit) == (token.node, token.visit)), None)
    if node is None:
        return {}
    return {
        "node": node.name,
        "visit": node.visit,
        "group": node.group or t.group,
        "assignee": node.assignee,
        "last_assignee": node.assignee or t.last_assignee,
        "accepted": node.accepted,
        "assignment": node.assignment,
        "assigned_at": node.assigned_at,
        "declined": node.declined,
        "handover": None,
        **_NO_OFFER,
        "status": _working(node.assignee, node.accepted) if t.is_open and t.status != "pending" else t.status,
    }


def _raised(t: Ticket, d: e.EscalationRaised, _: datetime) -> _Changes:
    running = t.running if d.escalation in t.running else (*t.running, d.escalation)
    return {**_awaiting(running, t.held), "escalations": max(t.escalations, d.escalation)}


def _stepped(t: Ticket, d: e.EscalationStepped, _: datetime) -> _Changes:
    if d.escalation not in t.held:
        return {}
    return _awaiting(t.running, tuple(one for one in t.held if one != d.escalation))


def _held(t: Ticket, d: e.EscalationHeld, _: datetime) -> _Changes:
    if d.escalation not in t.running:
        return {}
    return {**_awaiting(t.running, (*t.held, d.escalation)), "holders": d.by}


def _escalation_over(t: Ticket, d: e.EscalationEnded | e.EscalationExhausted, _: datetime) -> _Changes:
    running = tuple(one for one in t.running if one != d.escalation)
    return _awaiting(running, tuple(one for one in t.held if one != d.escalation))


def _awaiting(running: tuple[int, ...], held: tuple[int, ...]) -> _Changes:
    latest = max((one for one in running if one not in held), default=None)
    return {"running": running, "held": held, "escalation": latest}


def _task_opened(t: Ticket, d: e.TaskOpened, at: datetime) -> _Changes:
    members = tuple(Member(one) for one in dict.fromkeys((d.owner, *d.members)))
    task = Task(d.task, d.title, d.owner, at, members, d.due_at, note=d.note, escalation=d.escalation)
    return {"tasks": (*t.tasks, task)}


def _task_progressed(t: Ticket, d: e.TaskProgressed, at: datetime) -> _Changes:
    tasks = []
    for one in t.tasks:
        if one.id == d.task:
            members = tuple(replace(m, progress=d.progress) if m.person == d.person else m for m in one.members)
            done = all(m.progress == 100 for m in members)
            one = replace(one, members=members, state="done" if done else "open", closed_at=at if done else None)
        tasks.append(one)
    return {"tasks": tuple(tasks)}


def _task_closed(t: Ticket, d: e.TaskClosed, at: datetime) -> _Changes:
    state = "done" if d.done else "closed"
    return {"tasks": tuple(replace(o, state=state, closed_at=at) if o.id == d.task else o for o in t.tasks)}


_FREE: _Changes = {"assignee": None, "accepted": False, "assigned_at": None, "waiting": None}


def _unowned(t: Ticket) -> _Changes:
    return {
        "status": "new",
        "assignee": None,
        "accepted": False,
        **_NO_OFFER,
        "assigned_at": None,
        "nodes": _with_main(t, **_FREE),
    }


def _working(assignee: str | None, accepted: bool) -> str:
    return "new" if assignee is None else "in_progress" if accepted else "assigned"


def _once(people: tuple[str, ...], person: str) -> tuple[str, ...]:
    return (*(one for one in people if one != person), person)


def _on_main(t: Ticket, d: Any) -> bool:
    """Whether an event is about the main path; one that names no node is."""
    return d.node == MAIN or (d.node, d.visit) == (t.node, t.visit)


def _with(nodes: tuple[Node, ...], where: Any, **changes: Any) -> tuple[Node, ...]:
    """The open visits, the one that `where` names changed."""
    return tuple(replace(n, **changes) if (n.name, n.visit) == (where.node, where.visit) else n for n in nodes)


def _due(nodes: tuple[Node, ...], instants: tuple[e.NodeDue, ...]) -> tuple[Node, ...]:
    """The open visits with these instants."""
    for one in instants:
        nodes = _with(nodes, one, due_at=one.due_at, timers=one.timers)
    return nodes


def _with_main(t: Ticket, **changes: Any) -> tuple[Node, ...]:
    return _with(t.nodes, t, **changes) if t.nodes else t.nodes


_CHANGES: dict[str, Callable[[Ticket, Any, datetime], _Changes]] = {
    "ticket.classified": _classified,
    "ticket.set": _set,
    "ticket.queued": _queued,
    "ticket.offered": _offered,
    "ticket.assigned": _assigned,
    "ticket.accepted": _accepted,
    "ticket.declined": _declined,
    "ticket.transferred": _transferred,
    "ticket.replied": _replied,
    "ticket.paused": _paused,
    "ticket.resumed": _resumed,
    "ticket.resolved": _resolved,
    "ticket.reopened": _reopened,
    "ticket.closed": _closed,
    "ticket.merged": _merged,
    "ticket.rated": _rated,
    "ticket.watched": _watched,
    "ticket.unwatched": _unwatched,
    "ticket.repinned": _repinned,
    "flow.moved": _flow_moved,
    "node.entered": _node_entered,
    "node.completed": _node_completed,
    "escalation.raised": _raised,
    "escalation.stepped": _stepped,
    "escalation.held": _held,
    "task.opened": _task_opened,
    "task.progressed": _task_progressed,
    "task.closed": _task_closed,
    "escalation.ended": _escalation_over,
    "escalation.exhausted": _escalation_over,
}
