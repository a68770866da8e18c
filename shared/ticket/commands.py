"""What people may do to a ticket, and what becomes of it: `decide` is pure and runs under the ticket's row lock.

A refusal is a value (`Refused`) with a code and a sentence; the caller answers 409 with the current state. Repeating what already
holds, by the same person, is accepted with no events, so that a retried request is harmless.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from shared.contracts import events as e
from shared.contracts.envelope import Actor
from shared.ticket.state import Handover, Ticket


class ActorIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For whom a key acts."""

    kind: Literal["person", "customer", "automation"]
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    address: Annotated[str, msgspec.Meta(max_length=200)] | None = None


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="action"):
    """Base of all actions. `expected_version` makes it conditional; `actor` needs a key with the right `act_for`."""

    expected_version: int | None = None
    actor: ActorIn | None = None


class Accept(Command, frozen=True, kw_only=True, tag="accept"):
    pass


class Decline(Command, frozen=True, kw_only=True, tag="decline"):
    reason: str = ""


class Transfer(Command, frozen=True, kw_only=True, tag="transfer"):
    group: str | None = None
    agent: str | None = None
    reason: str = ""


class Note(Command, frozen=True, kw_only=True, tag="note"):
    text: str
    mentions: tuple[str, ...] = ()


class Reply(Command, frozen=True, kw_only=True, tag="reply"):
    text: str


class CustomerReply(Command, frozen=True, kw_only=True, tag="customer_reply"):
    text: str = ""
    automated: bool = False


class Rate(Command, frozen=True, kw_only=True, tag="rate"):
    score: int
    comment: str = ""


class Set(Command, frozen=True, kw_only=True, tag="set"):
    labels: dict[str, str] = {}
    fields: dict[str, Any] = {}
    priority: str | None = None


class Pause(Command, frozen=True, kw_only=True, tag="pause"):
    reason: str = ""


class Resume(Command, frozen=True, kw_only=True, tag="resume"):
    pass


class CompleteNode(Command, frozen=True, kw_only=True, tag="complete_node"):
    node: str
    material: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    outcome: str | None = None


class Waive(Command, frozen=True, kw_only=True, tag="waive"):
    node: str
    material: str
    reason: str


class Acknowledge(Command, frozen=True, kw_only=True, tag="acknowledge"):
    pass


class Escalate(Command, frozen=True, kw_only=True, tag="escalate"):
    reason: str = ""


class Resolve(Command, frozen=True, kw_only=True, tag="resolve"):
    resolution: str = ""


class Reopen(Command, frozen=True, kw_only=True, tag="reopen"):
    reason: str = ""


class Close(Command, frozen=True, kw_only=True, tag="close"):
    reason: str = ""


class Merge(Command, frozen=True, kw_only=True, tag="merge"):
    into: str


AnyCommand = (
    Accept | Decline | Transfer | Note | Reply | CustomerReply | Rate | Set | Pause | Resume | CompleteNode | Waive
    | Acknowledge | Escalate | Resolve | Reopen | Close | Merge
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Accepted:
    """The command holds; `events` is empty when it already held."""

    events: tuple[e.Data, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The command does not apply. `code` is stable, `reason` is a sentence, `missing` lists material that is not there."""

    code: str
    reason: str
    missing: tuple[str, ...] = ()


Outcome = Accepted | Refused


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a decision may know besides the ticket: names that exist, and the group a person works in."""

    groups: frozenset[str] = frozenset()
    agents: dict[str, str] | None = None
    """Agent id -> home group."""
    heads: dict[str, frozenset[str]] = field(default_factory=dict)
    """Group -> its lead and its interface person: they may reject what is transferred to the group."""
    now: datetime | None = None
    """Business now: an offer is taken late from its end on."""
    lanes: Callable[[str, str], str] = lambda priority, lane: lane
    """(priority, present lane) -> lane, as the playbook says."""
    priorities: frozenset[str] = frozenset()


def decide(ticket: Ticket, command: AnyCommand, actor: Actor, around: Surroundings = Surroundings()) -> Outcome:
    """Decide one command on the ticket as it is now (caller holds its lock)."""
    if command.expected_version is not None and command.expected_version != ticket.version:
        return Refused("version", f"the ticket is at version {ticket.version}, not {command.expected_version}")
    if ticket.status == "merged":
        return Refused("merged", f"the ticket was merged into T-{ticket.merged_into}")
    return _DECIDERS[type(command)](ticket, command, actor, around)


def _not_open(t: Ticket) -> Refused | None:
    return None if t.is_open else Refused("not_open", f"the ticket is {t.status}")


def _accept(t: Ticket, c: Accept, actor: Actor, around: Surroundings) -> Outcome:
    if refused := _not_open(t):
        return refused
    if t.assignee == actor.id:
        return (
            Accepted()
            if t.accepted
            else Accepted((e.TicketAccepted(agent=actor.id, assignment=t.assignment, node=t.node),))
        )
    if t.assignee is not None:
        return Refused("not_assignee", f"the ticket is with {t.assignee}")
    if t.offered_to not in (None, actor.id):
        return Refused("not_assignee", f"the ticket is offered to {t.offered_to}")
    if around.agents is not None and actor.id not in around.agents:
        return Refused("not_agent", f"{actor.id} is no agent")
    if _too_late(t, actor, around):
        return Refused("too_late", "the offer is over")
    home = (around.agents or {}).get(actor.id)
    number = t.assignment + (t.offered_to is None)
    return Accepted(
        (
            e.TicketAssigned(group=t.group or home or "", agent=actor.id, assignment=number, node=t.node),
            e.TicketAccepted(agent=actor.id, assignment=number, node=t.node),
        )
    )


def _too_late(t: Ticket, actor: Actor, around: Surroundings) -> bool:
    """An offer ends with its time, also when the router has not noticed yet; who let it pass, or declined, cannot come back."""
    if t.offered_to is None:
        return actor.id in t.declined
    return around.now is not None and t.offered_until is not None and around.now > t.offered_until


def _decline(t: Ticket, c: Decline, actor: Actor, around: Surroundings) -> Outcome:
    """Not mine: the next one is asked. What was transferred, and is rejected by whom it was sent to, goes back instead."""
    if refused := _not_open(t):
        return refused
    mine = actor.id in (t.assignee, t.offered_to)
    head = actor.id in around.heads.get(t.group or "", frozenset())
    if not mine and not (head and t.handover is not None):
        return Refused("not_assignee", f"the ticket is not with {actor.id}")
    declined = e.TicketDeclined(agent=actor.id, assignment=t.assignment, reason=c.reason)
    if t.handover is None or not (head or t.handover.to_agent == actor.id):
        return Accepted((declined,))
    return Accepted((declined, *_sent_back(t, t.handover, c.reason)) if mine else _sent_back(t, t.handover, c.reason))


def _sent_back(t: Ticket, handover: Handover, reason: str) -> tuple[e.Data, ...]:
    back = e.TicketTransferred(
        group=handover.group or t.group or "",
        agent=handover.agent,
        from_group=t.group,
        from_agent=t.assignee,
        reason=f"rejected: {reason}" if reason else "rejected",
        returned=True,
    )
    if handover.agent is None:
        return (back,)
    return back, e.TicketAssigned(group=back.group, agent=handover.agent, assignment=t.assignment + 1, node=t.node)


def _transfer(t: Ticket, c: Transfer, actor: Actor, around: Surroundings) -> Outcome:
    if refused := _not_open(t):
        return refused
    if (c.group is None) == (c.agent is None):
        return Refused("invalid", "name either a group or an agent")
    if c.agent is not None:
        return _transfer_to_agent(t, c, around)
    if around.groups and c.group not in around.groups:
        return Refused("unknown_group", f"there is no group {c.group!r}")
    if t.group == c.group and t.assignee is None:
        return Accepted()
    return Accepted(
        (e.TicketTransferred(group=str(c.group), from_group=t.group, from_agent=t.assignee, reason=c.reason),)
    )


def _transfer_to_agent(t: Ticket, c: Transfer, around: Surroundings) -> Outcome:
    agent = str(c.agent)
    if around.agents is not None and agent not in around.agents:
        return Refused("unknown_agent", f"there is no agent {agent!r}")
    if t.assignee == agent:
        return Accepted()
    group = (around.agents or {}).get(agent) or t.group or ""
    moved = e.TicketTransferred(group=group, agent=agent, from_group=t.group, from_agent=t.assignee, reason=c.reason)
    return Accepted((moved, e.TicketAssigned(group=group, agent=agent, assignment=t.assignment + 1, node=t.node)))


def _note(t: Ticket, c: Note, actor: Actor, around: Surroundings) -> Outcome:
    said: tuple[e.Data, ...] = (e.TicketNoted(text=c.text),)
    return Accepted((*said, e.TicketMentioned(people=c.mentions, text=c.text)) if c.mentions else said)


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
        return Accepted((said, e.TicketResumed()))
    if t.status == "resolved":
        return Accepted((said, e.TicketReopened(reason="customer replied")))
    return Accepted((said,))


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
    fields = {name: value for name, value in c.fields.items() if name not in t.fields or t.fields[name] != value}
    priority = c.priority if c.priority != t.priority else None
    if priority is not None and around.priorities and priority not in around.priorities:
        return Refused("unknown_priority", f"there is no priority {priority!r}")
    if not labels and not fields and priority is None:
        return Accepted()
    lane = None if priority is None else around.lanes(priority, t.lane)
    return Accepted((e.TicketSet(labels=labels, fields=fields, priority=priority, lane=lane),))


def _pause(t: Ticket, c: Pause, actor: Actor, around: Surroundings) -> Outcome:
    if refused := _not_open(t):
        return refused
    return Accepted() if t.status == "pending" else Accepted((e.TicketPaused(reason=c.reason),))


def _resume(t: Ticket, c: Resume, actor: Actor, around: Surroundings) -> Outcome:
    if refused := _not_open(t):
        return refused
    return Accepted((e.TicketResumed(),)) if t.status == "pending" else Accepted()


def _acknowledge(t: Ticket, c: Acknowledge, actor: Actor, around: Surroundings) -> Outcome:
    if t.escalation is None:
        return Refused("nothing_to_acknowledge", "no escalation is open on this ticket")
    return Accepted((e.EscalationAcknowledged(escalation=t.escalation, by=actor.id),))


def _escalate(t: Ticket, c: Escalate, actor: Actor, around: Surroundings) -> Outcome:
    if refused := _not_open(t):
        return refused
    number = t.escalations + 1 if t.escalation is None else t.escalation
    return Accepted((e.EscalationRaised(escalation=number, chain="", cause="manual", owner=t.assignee),))


def _resolve(t: Ticket, c: Resolve, actor: Actor, around: Surroundings) -> Outcome:
    if t.status == "resolved":
        return Accepted()
    return _not_open(t) or Accepted((e.TicketResolved(resolution=c.resolution),))


def _reopen(t: Ticket, c: Reopen, actor: Actor, around: Surroundings) -> Outcome:
    if t.is_open:
        return Accepted() if t.reopened else Refused("open", "the ticket is open")
    if actor.kind in ("automation", "service"):
        return Refused("automated", "an automated sender does not reopen a ticket")
    return Accepted((e.TicketReopened(reason=c.reason),))


def _close(t: Ticket, c: Close, actor: Actor, around: Surroundings) -> Outcome:
    return Accepted() if t.status == "closed" else Accepted((e.TicketClosed(reason=c.reason),))


def _merge(t: Ticket, c: Merge, actor: Actor, around: Surroundings) -> Outcome:
    if refused := _not_open(t):
        return refused
    into = parse_id(c.into)
    if into is None or into == t.id:
        return Refused("invalid", f"cannot merge into {c.into!r}")
    return Accepted((e.TicketMerged(into=into),))


def _no_flow(t: Ticket, c: CompleteNode | Waive, actor: Actor, around: Surroundings) -> Outcome:
    return _not_open(t) or Refused("no_such_node", f"the ticket is not at node {c.node!r}")


def parse_id(text: str) -> int | None:
    """`T-1042` or `1042` as an id, else None."""
    digits = text.removeprefix("T-")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else None


_DECIDERS: dict[type, Callable[..., Outcome]] = {
    Accept: _accept,
    Decline: _decline,
    Transfer: _transfer,
    Note: _note,
    Reply: _reply,
    CustomerReply: _customer_reply,
    Rate: _rate,
    Set: _set,
    Pause: _pause,
    Resume: _resume,
    CompleteNode: _no_flow,
    Waive: _no_flow,
    Acknowledge: _acknowledge,
    Escalate: _escalate,
    Resolve: _resolve,
    Reopen: _reopen,
    Close: _close,
    Merge: _merge,
}
