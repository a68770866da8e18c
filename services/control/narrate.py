"""A ticket's story in plain sentences, for people who run operations and not the system."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from services.control import telling
from services.sla.domain.clock import Clock
from shared.contracts import events as e
from shared.contracts.envelope import Recorded


def sentence(event: Recorded) -> str | None:
    """One event as a sentence, or None for one that says nothing to a reader."""
    tell = _TELL.get(event.type)
    return None if tell is None else tell(event.data, event)


def narrate(ticket: dict[str, Any], story: dict[str, Any]) -> str:
    """`signalbox explain`: what the ticket is, why it is where it is, its clocks, escalations and messages."""
    lines = [f"{ticket['number']} ({ticket['status']}): {ticket['subject']}"]
    for one in story["held"]:
        until = telling.moment(one["data"]["until"])
        lines.append(
            f"Held back at {telling.moment(one['at'])}: {one['reason']['why']} of {one['data']['key']}; "
            f"closed at {until} unless more come."
        )
    for one in story["classification"]:
        lines.append(f"Classified under playbook version {one['playbook_version']}:")
        lines += telling.classification(one["reason"])
    for one in story["assignment"]:
        lines.append(telling.headline(one["type"], one["data"], one["reason"]) + f" ({telling.moment(one['at'])})")
        lines += telling.candidates(one["reason"])
    for one in story["assignments"]:
        if one["over_capacity"]:
            lines.append(f"Given to {one['agent']} by hand, beyond their capacity.")
    lines += [telling.ended(one) for one in story["ended"]]
    for one in story["waiting"]:
        lines.append(f"It waits in {one['group_name']} since {telling.moment(one['queued_at'])} ({one['cause']}).")
    if len(story["ownership"]) > 1:
        lines.append("Whose it was, one group after the other:")
        lines += [telling.owned(one) for one in story["ownership"]]
    lines += [telling.clock(one) for one in story["sla"]["clocks"]]
    lines += [telling.moved(one) for one in story["sla"]["decisions"] if one["type"] == "sla.moved"]
    if story["attribution"]["seconds"] >= 1:
        lines.append(telling.shares(story["attribution"]))
    for one in story["escalation"]["escalations"]:
        told = ", ".join(one["targets"])
        lines.append(
            f"Escalation {one['escalation']} by chain {one['chain']} ({one['cause']}): {one['state']}, told {told}."
        )
    for one in story["deliveries"]:
        why = f" ({one['reason']})" if one["reason"] else ""
        lines.append(
            f"Message to {one['recipient']} by {one['channel']}: {one['state']}{why}, {len(one['attempts'])} attempts."
        )
    return "\n".join(lines)


def change_of_clock(metric: str, before: Clock | None, after: Clock | None) -> str:
    """One clock before and after a change, on one line: `resolution#1: due A -> B, target 7200 -> 3600 s`."""
    one = after or before
    assert one is not None
    name = f"{metric}#{one.cycle}"
    if before is None:
        return f"{name}: starts, {_due(one)}"
    if after is None:
        return f"{name}: ends"
    parts = [
        f"{what} {old} -> {new}"
        for what, old, new in (
            ("", _due(before), _due(after)),
            ("", before.state.value, after.state.value),
            ("target", _seconds(before.target), _seconds(after.target)),
            ("policy", before.span.policy, after.span.policy),
            ("calendar", before.calendar or "always", after.calendar or "always"),
        )
        if old != new
    ]
    return f"{name}: {', '.join(part.strip() for part in parts)}"


def _due(clock: Clock) -> str:
    return "no due instant" if clock.due_at is None else f"due {clock.due_at.isoformat()}"


def _seconds(length: timedelta | None) -> str:
    return "none" if length is None else f"{length.total_seconds():.0f} s"


def _opened(d: e.TicketOpened, event: Recorded) -> str:
    return f"{d.requester.name or 'Somebody'} reports by {d.source}: “{d.subject}”."


def _classified(d: e.TicketClassified, event: Recorded) -> str:
    what = d.labels["business_type"].value if "business_type" in d.labels else d.kind
    return f"Recognised as {what}, priority {d.priority}; it goes to the group {d.group}."


def _assigned(d: e.TicketAssigned, event: Recorded) -> str:
    return f"{d.agent} gets it, and is told in the app and by SMS."


def _started(d: e.SlaStarted, event: Recorded) -> str:
    promises = ", ".join(
        f"{one.metric.replace('_', ' ')} within {(one.target_seconds or 0) / 60:.0f} min" for one in d.clocks
    )
    return f"The clocks start: {promises} (policy {d.clocks[0].policy})."


def by_link(event: Recorded) -> bool:
    """Whether somebody did this by the one-click link of a message."""
    return (event.actor.via or "").startswith("link-")


def _accepted(d: e.TicketAccepted, event: Recorded) -> str:
    return f"{d.agent} accepts it{' by the link in the message' if by_link(event) else ''}."


def _replied(d: e.TicketReplied, event: Recorded) -> str:
    return f"{event.actor.id} answers the requester." if d.author == "agent" else "The requester writes again."


def _stepped(d: e.EscalationStepped, event: Recorded) -> str:
    return f"Escalation, step {d.level}: {', '.join(d.targets) or 'nobody'} is told."


_TELL: dict[str, Callable[[Any, Recorded], str]] = {
    "ticket.opened": _opened,
    "ticket.classified": _classified,
    "ticket.assigned": _assigned,
    "ticket.queued": lambda d, _: f"Nobody in {d.group} is free ({d.why}); it waits, and the lead is told.",
    "ticket.accepted": _accepted,
    "ticket.replied": _replied,
    "ticket.paused": lambda d, _: f"It waits: {d.reason}. The clocks stand still as the policy says.",
    "ticket.resumed": lambda d, _: "It goes on.",
    "ticket.transferred": lambda d, event: f"{event.actor.id} hands it to the group {d.group}: {d.reason}.",
    "ticket.resolved": lambda d, event: f"{event.actor.id} resolves it.",
    "sla.started": _started,
    "sla.warned": lambda d, _: (
        f"Warning: {d.metric.replace('_', ' ')} is due in {d.remaining_seconds / 60:.0f} minutes."
    ),
    "sla.breached": lambda d, _: f"The deadline for the {d.metric.replace('_', ' ')} is missed.",
    "sla.met": lambda d, _: f"{d.metric.replace('_', ' ').capitalize()} {'late' if d.breached else 'in time'}.",
    "node.stalled": lambda d, _: f"{d.owner or 'Nobody'} has not moved for {d.dwell_seconds / 60:.0f} minutes.",
    "escalation.stepped": _stepped,
    "escalation.ended": lambda d, _: f"The escalation ends: {d.why}.",
    "escalation.exhausted": lambda d, _: f"Nobody answered the escalation; {d.fallback or 'nobody'} has it now.",
}
