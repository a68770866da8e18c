"""The read-only SQL views that services publish for people's questions; only gateway and control read them.

Each view's columns are the members of its struct, in any order, and nothing else; a test holds the two together. Instants are
`timestamptz`, durations seconds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class ClockRow(msgspec.Struct, frozen=True, kw_only=True):
    """`sla.v_clock`: one clock. `elapsed_seconds` is as of `as_of`; a running clock goes on from there in open time.

    `breach_probability`: what the forecast says of a running clock; null when no model is published or it is over.
    """

    ticket_id: int
    metric: str
    cycle: int
    state: str
    paused: bool
    started_at: datetime
    due_at: datetime | None
    target_seconds: float | None
    elapsed_seconds: float
    paused_seconds: float
    as_of: datetime
    warned_at: list[datetime]
    breached_at: datetime | None
    stopped_at: datetime | None
    policy: str
    policy_version: int
    calendar: str | None
    calendar_version: int
    breach_probability: float | None


class AttributionRow(msgspec.Struct, frozen=True, kw_only=True):
    """`sla.v_attribution`: whose a stretch of a ticket's life is, from its creation on without gap or overlap.

    `kind`: queue, person, customer, closed. `ended_at` null: it goes on.
    """

    ticket_id: int
    started_at: datetime
    ended_at: datetime | None
    kind: str
    team: str | None
    person: str | None
    node: str | None


class AssignmentRow(msgspec.Struct, frozen=True, kw_only=True):
    """`router.v_assignment`: who has or had a ticket. `ended_at` null: open."""

    ticket_id: int
    node: str
    visit: int
    assignment: int
    group_name: str
    agent: str
    weight: float
    assigned_at: datetime
    ended_at: datetime | None
    over_capacity: bool


class LoadRow(msgspec.Struct, frozen=True, kw_only=True):
    """`router.v_load`: what each agent carries."""

    agent: str
    load: float
    open_count: int
    last_assigned_at: datetime | None


class WaitingRow(msgspec.Struct, frozen=True, kw_only=True):
    """`router.v_waiting`: a ticket that nobody could take yet. `demand`: what it asks of whoever takes it."""

    ticket_id: int
    group_name: str
    rank: int
    queued_at: datetime
    cause: str
    demand: dict[str, Any]
    failed: bool


class OwnershipRow(msgspec.Struct, frozen=True, kw_only=True):
    """`router.v_ownership`: one span in which a group had a ticket. `to_at` null: it still has.

    `how`: routed, transferred, returned (rejected by the other side), flow (it came to a node of that group), overflow, reopened.
    """

    ticket_id: int
    span: int
    group_name: str
    from_group: str | None
    how: str
    reason: str | None
    from_at: datetime
    to_at: datetime | None


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """`router.v_model`: a published classifier. `figures`: what was measured when it was trained."""

    name: str
    version: int
    figures: dict[str, Any]
    current: bool
    published_at: datetime
    published_by: str


class EscalationRow(msgspec.Struct, frozen=True, kw_only=True):
    """`escalation.v_escalation`: one escalation. `state`: running, acknowledged, ended, exhausted."""

    ticket_id: int
    escalation: int
    chain: str
    cause: str
    state: str
    step: int
    round: int
    started_at: datetime
    next_at: datetime | None
    ended_at: datetime | None
    targets: list[str]


class MoverRow(msgspec.Struct, frozen=True, kw_only=True):
    """`escalation.v_mover`: who is to move an open ticket (a person, `group:NAME`, `requester`, `router`), looked at when."""

    ticket_id: int
    mover: str | None
    next_at: datetime | None


class BoardRow(msgspec.Struct, frozen=True, kw_only=True):
    """`escalation.v_board`: an open node visit of an open ticket; without a flow, `stage` is the ticket's status.

    `order_at` is `due_at`, or the end of the year 9999 without one.
    """

    ticket_id: int
    node: str
    visit: int
    stage: str
    group_name: str | None
    owner: str | None
    entered_at: datetime
    due_at: datetime | None
    order_at: datetime
    stalled: bool
    unaccepted: bool
    escalation: int | None
    paused: bool


class StallRow(msgspec.Struct, frozen=True, kw_only=True):
    """`escalation.v_stall`: something expected that did not happen in time. `shares`: seconds of the visit by owner.

    `level`: how far its chain went (0: nobody was told yet).
    """

    ticket_id: int
    node: str
    visit: int
    assignment: int
    due_at: datetime
    stalled_at: datetime
    owner: str | None
    group_name: str | None
    level: int
    dwell_seconds: float
    shares: dict[str, float]


class DeliveryRow(msgspec.Struct, frozen=True, kw_only=True):
    """`notifier.v_delivery`: one notification and the message that carries it. `attempts`: every call, oldest first.

    `state`: planned, held, sending, sent, delivered, read, unknown, failed, suppressed, cancelled.
    """

    id: int
    message_id: int | None
    ticket_id: int | None
    event: str
    rule: str
    recipient: str
    channel: str
    address: str | None
    provider: str | None
    state: str
    reason: str | None
    due_at: datetime | None
    created_at: datetime
    updated_at: datetime
    attempts: list[dict[str, Any]]


class ProviderRow(msgspec.Struct, frozen=True, kw_only=True):
    """`notifier.v_provider`: how well a provider does. `share`: the part of its weight that it gets; `open`: its circuit lets only
    probes through, since `open_since`. `history`: the last changes, newest first, each with `at`, `share`, `open` and `reason`.
    """

    provider: str
    share: float
    open: bool
    open_since: datetime | None
    probed_at: datetime | None
    in_a_row: int
    history: list[dict[str, Any]]


class WebhookRow(msgspec.Struct, frozen=True, kw_only=True):
    """`notifier.v_webhook`: one event that an endpoint did not take yet. `state`: retry, blocked, parked."""

    subscription_id: int
    position: int
    subject: str
    attempts: int
    state: str
    due_at: datetime | None
    error: str
    first_at: datetime


class SubscriptionRow(msgspec.Struct, frozen=True, kw_only=True):
    """`notifier.v_subscription`: how far a webhook subscription has come, and what it could not deliver."""

    id: int
    position: int
    failing: int
    updated_at: datetime
    waiting: int
    blocked: int
    parked: int


class InboxRow(msgspec.Struct, frozen=True, kw_only=True):
    """`notifier.v_inbox`: one message of a person's inbox. `content`: title, text, url, actions."""

    id: int
    recipient: str
    ticket_id: int | None
    event: str
    rule: str
    urgency: str
    content: dict[str, Any]
    state: str
    read: bool
    created_at: datetime
    updated_at: datetime


VIEWS: dict[str, type[msgspec.Struct]] = {
    "sla.v_clock": ClockRow,
    "sla.v_attribution": AttributionRow,
    "router.v_assignment": AssignmentRow,
    "router.v_load": LoadRow,
    "router.v_waiting": WaitingRow,
    "router.v_ownership": OwnershipRow,
    "router.v_model": ModelRow,
    "escalation.v_escalation": EscalationRow,
    "escalation.v_mover": MoverRow,
    "escalation.v_board": BoardRow,
    "escalation.v_stall": StallRow,
    "notifier.v_delivery": DeliveryRow,
    "notifier.v_provider": ProviderRow,
    "notifier.v_webhook": WebhookRow,
    "notifier.v_subscription": SubscriptionRow,
    "notifier.v_inbox": InboxRow,
}
