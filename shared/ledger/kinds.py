"""The one registry of item kinds: the row that is locked, and the services each event wakes.

A new kind is a row here; a new subscriber of an event is a name in `WAKES`. Order in `WAKES` has no meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

SERVICES = ("router", "sla", "escalation", "notifier")
URGENT = "urgent"
LANES = (URGENT, "normal", "bulk")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of item: `table` holds its row (`id`, `version`, and `state` where `stateful`).

    The row of a kind that is not stateful belongs to a service, which writes its version itself.
    """

    name: str
    table: str
    stateful: bool
    leaves: bool = False
    """Whether a service that has nothing to wait for forgets its agenda row; who wakes it again makes a new one. For kinds with
    many items that are done once and for all, whose handler does not go by `seen_version`."""


TICKET = Kind("ticket", "ledger.ticket", stateful=True)
DELIVERY = Kind("delivery", "notifier.message", stateful=False, leaves=True)

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        TICKET,
        DELIVERY,
        *(
            Kind(name, "ledger.item", stateful=True)
            for name in ("agent", "group", "digest", "subscription", "schedule", "playbook", "job")
        ),
    )
}

_EVERY_DECIDER = ("router", "sla", "escalation", "notifier")

WAKES: dict[str, tuple[str, ...]] = {
    "ticket.opened": ("router",),
    "ticket.held": (),
    "ticket.classified": ("sla", "escalation"),
    "ticket.set": ("router", "sla", "escalation"),
    "ticket.queued": ("sla", "escalation", "notifier"),
    "ticket.offered": ("router", "escalation", "notifier"),
    "ticket.assigned": ("router", "sla", "escalation", "notifier"),
    "ticket.accepted": ("router", "sla", "escalation", "notifier"),
    "ticket.declined": ("router", "sla", "escalation", "notifier"),
    "ticket.transferred": ("router", "sla", "escalation", "notifier"),
    "ticket.replied": ("sla", "escalation", "notifier"),
    "ticket.noted": ("notifier",),
    "ticket.attached": (),
    "ticket.mentioned": ("notifier",),
    "ticket.note_edited": (),
    "task.opened": ("escalation", "notifier"),
    "task.progressed": (),
    "task.closed": ("escalation", "notifier"),
    "ticket.paused": ("router", "sla", "escalation", "notifier"),
    "ticket.resumed": ("router", "sla", "escalation", "notifier"),
    "ticket.resolved": _EVERY_DECIDER,
    "ticket.reopened": _EVERY_DECIDER,
    "ticket.closed": _EVERY_DECIDER,
    "ticket.merged": _EVERY_DECIDER,
    "ticket.repinned": ("sla",),
    "ticket.rated": (),
    "ticket.watched": (),
    "ticket.unwatched": (),
    "ticket.assignment_failed": ("escalation", "notifier"),
    "agent.changed": ("router",),
    "schedule.changed": (),
    "playbook.published": (),
    "sla.started": ("escalation",),
    "sla.moved": ("escalation",),
    "sla.at_risk": ("escalation", "notifier"),
    "sla.warned": ("escalation", "notifier"),
    "sla.breached": ("escalation", "notifier"),
    "sla.met": ("escalation", "notifier"),
    "sla.cancelled": ("escalation", "notifier"),
    "flow.moved": (),
    "node.entered": ("router", "sla", "escalation", "notifier"),
    "node.completed": ("router", "sla", "escalation", "notifier"),
    "node.stalled": ("notifier",),
    "escalation.raised": ("escalation", "notifier"),
    "escalation.stepped": ("notifier",),
    "escalation.acknowledged": ("escalation", "notifier"),
    "escalation.held": ("notifier",),
    "escalation.ended": ("notifier",),
    "escalation.exhausted": ("notifier",),
    "delivery.sent": (),
    "delivery.delivered": (),
    "delivery.read": (),
    "delivery.failed": (),
    "delivery.unknown": (),
    "delivery.suppressed": (),
    "subscription.changed": ("notifier",),
    "subscription.redriven": ("notifier",),
    "subscription.rewound": ("notifier",),
    "provider.reported": ("notifier",),
    "inbox.read": ("notifier",),
}
