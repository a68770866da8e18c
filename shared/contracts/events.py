"""The event catalogue: one struct for the data of each event type, and the registry of them.

An event's *type* is `<noun>.<past verb>`; on topics it is written `io.signalbox.<noun>.<past verb>.v1`. The envelope (item,
version, instants, actor, reason) belongs to the ledger; what is here is `data` alone. Members may be added with a default;
none is ever removed or given another meaning. Instants in data are aware UTC; durations are seconds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

import msgspec

from shared.contracts.providers.receipts import Receipt


class Data(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all event data."""

    type: ClassVar[str] = ""


class Label(msgspec.Struct, frozen=True, omit_defaults=True, rename={"origin": "from"}):
    """A label's value and where it came from: `given`, `rule` (then named), `model` or `default`."""

    value: str
    origin: str = "given"
    rule: str | None = None


class Requester(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who asks: the customer or system a ticket came from."""

    id: str | None = None
    name: str | None = None
    email: str | None = None
    phone: str | None = None
    tier: str | None = None
    automated: bool = False


# ---- ticket -------------------------------------------------------------------------------------------------------------


class TicketOpened(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "ticket.opened"
    subject: str
    body: str = ""
    source: str = "api"
    external_id: str | None = None
    dedup_key: str | None = None
    kind: str | None = None
    labels: dict[str, str] = {}
    requester: Requester = Requester()
    fields: dict[str, Any] = {}
    lane: str = "normal"


class TicketClassified(Data, frozen=True, kw_only=True):
    """Labels, priority and queue as the router decided them; `kind` names the flow.

    What it asks of whoever takes it: `skills` at least at these levels, `preferred` ones as long as it has not waited long,
    `weight` of their capacity (None: as the playbook's `work` says), `effort_seconds` of their shift.
    """

    type: ClassVar[str] = "ticket.classified"
    labels: dict[str, Label]
    priority: str
    group: str
    kind: str
    lane: str
    skills: dict[str, int] = {}
    preferred: dict[str, int] = {}
    weight: float | None = None
    effort_seconds: float = 0.0
    fields: dict[str, Any] = {}


class TicketHeld(Data, frozen=True, kw_only=True):
    """Not acted on yet: a rule acts only from `at_least` of its kind (`key`) within `within_seconds`; given up at `until`."""

    type: ClassVar[str] = "ticket.held"
    key: str
    at_least: int
    within_seconds: float
    until: datetime


class TicketSet(Data, frozen=True, kw_only=True):
    """A person changed labels, fields or the priority; only what changed is named."""

    type: ClassVar[str] = "ticket.set"
    labels: dict[str, str] = {}
    fields: dict[str, Any] = {}
    priority: str | None = None
    lane: str | None = None


class TicketQueued(Data, frozen=True, kw_only=True):
    """The ticket waits in a group's queue; `why` is said once for each wait."""

    type: ClassVar[str] = "ticket.queued"
    group: str
    why: str
    node: str = "main"
    visit: int = 1


class TicketOffered(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "ticket.offered"
    group: str
    agent: str
    assignment: int
    expires_at: datetime
    node: str = "main"
    visit: int = 1


class TicketAssigned(Data, frozen=True, kw_only=True):
    """`assignment` numbers the ticket's assignments; a stale accept or timer names an older one. `side`: beside the main path."""

    type: ClassVar[str] = "ticket.assigned"
    group: str
    agent: str
    assignment: int
    weight: float = 1.0
    over_capacity: bool = False
    node: str = "main"
    visit: int = 1
    side: bool = False


class TicketAccepted(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "ticket.accepted"
    agent: str
    assignment: int
    node: str = "main"
    visit: int = 1
    side: bool = False


class TicketDeclined(Data, frozen=True, kw_only=True):
    """An offer or assignment was refused (`timed_out`: by silence)."""

    type: ClassVar[str] = "ticket.declined"
    agent: str
    assignment: int
    reason: str = ""
    timed_out: bool = False
    node: str = "main"
    visit: int = 1


class TicketTransferred(Data, frozen=True, kw_only=True):
    """To a group (the router then assigns) or to an agent (`TicketAssigned` follows in the same append).

    `returned`: the receiving side rejected it, and it goes back to where it came from.
    """

    type: ClassVar[str] = "ticket.transferred"
    group: str
    agent: str | None = None
    from_group: str | None = None
    from_agent: str | None = None
    reason: str = ""
    returned: bool = False
    node: str = "main"
    visit: int = 1


class TicketReplied(Data, frozen=True, kw_only=True):
    """A public message: by an agent (`author` agent) or from the customer (`author` customer)."""

    type: ClassVar[str] = "ticket.replied"
    author: str
    text: str = ""
    automated: bool = False


class TicketNoted(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "ticket.noted"
    text: str
    repeat: dict[str, Any] | None = None


class TicketAttached(Data, frozen=True, kw_only=True):
    """A file was attached: its id, what its bytes are, `size` in bytes, `sha256` in hexadecimal. Its name is with the file."""

    type: ClassVar[str] = "ticket.attached"
    attachment: str
    media_type: str
    size: int
    sha256: str


class TicketMentioned(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "ticket.mentioned"
    people: tuple[str, ...]
    text: str = ""


class TicketNoteEdited(Data, frozen=True, kw_only=True):
    """`note` is the version of the `ticket.noted` that says something else now."""

    type: ClassVar[str] = "ticket.note_edited"
    note: int
    text: str


class TaskOpened(Data, frozen=True, kw_only=True):
    """Somebody has something to do beside the ticket itself: a todo (one owner), or a joint task group (`members`, one owner).

    `note`: the version of the note whose mention made it; `escalation`: the chain whose step opened it.
    """

    type: ClassVar[str] = "task.opened"
    task: int
    title: str
    owner: str
    members: tuple[str, ...] = ()
    due_at: datetime | None = None
    note: int | None = None
    escalation: int | None = None


class TaskProgressed(Data, frozen=True, kw_only=True):
    """What one member has done of it, in percent; the task is done when everybody has done all."""

    type: ClassVar[str] = "task.progressed"
    task: int
    person: str
    progress: int
    text: str = ""


class TaskClosed(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "task.closed"
    task: int
    why: str
    done: bool = False


class TicketPaused(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "ticket.paused"
    reason: str = ""


class NodeDue(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The instants of one open node visit: when it is due, and when each of its timers fires."""

    node: str
    visit: int
    due_at: datetime | None = None
    timers: tuple[datetime, ...] = ()


class TicketResumed(Data, frozen=True, kw_only=True):
    """`nodes`: the instants of open node visits, moved by the open (or wall) time lost in the pause."""

    type: ClassVar[str] = "ticket.resumed"
    nodes: tuple[NodeDue, ...] = ()


class TicketResolved(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "ticket.resolved"
    resolution: str = ""


class TicketReopened(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "ticket.reopened"
    reason: str = ""


class TicketClosed(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "ticket.closed"
    reason: str = ""


class TicketMerged(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "ticket.merged"
    into: int


class TicketRepinned(Data, frozen=True, kw_only=True):
    """From here on the ticket runs under playbook version `version` instead of `from_version`.

    `mode`: `from-now` keeps what its clocks counted, `whole` counts anew from the start, `undo` takes back the move to version
    `undoes` as if it had never been.
    """

    type: ClassVar[str] = "ticket.repinned"
    version: int
    from_version: int
    mode: str = "from-now"
    undoes: int | None = None


class TicketWatched(Data, frozen=True, kw_only=True):
    """People want to hear of a ticket that is not theirs."""

    type: ClassVar[str] = "ticket.watched"
    people: tuple[str, ...]


class TicketUnwatched(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "ticket.unwatched"
    people: tuple[str, ...]


class TicketRated(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "ticket.rated"
    score: int
    comment: str = ""


class TicketAssignmentFailed(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "ticket.assignment_failed"
    group: str
    why: str
    declined: tuple[str, ...] = ()


# ---- people, playbook -----------------------------------------------------------------------------------------------------


class AgentChanged(Data, frozen=True, kw_only=True):
    """Presence, leave, skills or the record itself changed; only what changed is named."""

    type: ClassVar[str] = "agent.changed"
    agent: str
    presence: str | None = None
    leave: list[dict[str, Any]] | None = None
    skills: dict[str, int] | None = None
    record: dict[str, Any] | None = None
    active: bool | None = None


class ScheduleChanged(Data, frozen=True, kw_only=True):
    """An override or temporary schedule was added, or taken back."""

    type: ClassVar[str] = "schedule.changed"
    schedule: str
    change: str
    kind: str
    start: datetime
    end: datetime
    add: str | None = None
    remove: str | None = None
    shifts: tuple[dict[str, Any], ...] = ()
    taken_back: bool = False


class PlaybookPublished(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "playbook.published"
    name: str
    number: int
    checksum: str
    running: str = "keep"
    undoes: int | None = None


# ---- sla ------------------------------------------------------------------------------------------------------------------


class ClockRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One clock as an event names it."""

    metric: str
    cycle: int = 1
    generation: int = 1
    policy: str = ""
    target_seconds: float | None = None
    due_at: datetime | None = None


class SlaStarted(Data, frozen=True, kw_only=True):
    """All clocks that began at this instant."""

    type: ClassVar[str] = "sla.started"
    clocks: tuple[ClockRef, ...]


class SlaMoved(Data, frozen=True, kw_only=True):
    """Due instants changed: pause, resume, another priority, policy or calendar (`cause`)."""

    type: ClassVar[str] = "sla.moved"
    clocks: tuple[ClockRef, ...]
    cause: str = ""


class SlaWarned(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "sla.warned"
    metric: str
    threshold: str
    due_at: datetime
    cycle: int = 1
    generation: int = 1
    policy: str = ""
    remaining_seconds: float = 0.0
    late: bool = False
    recipients: tuple[str, ...] = ()


class SlaAtRisk(Data, frozen=True, kw_only=True):
    """The forecast says that a promise will probably be broken; once for each generation of a clock."""

    type: ClassVar[str] = "sla.at_risk"
    metric: str
    probability: float
    due_at: datetime | None = None
    cycle: int = 1
    generation: int = 1
    policy: str = ""


class SlaBreached(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "sla.breached"
    metric: str
    due_at: datetime
    breached_at: datetime
    cycle: int = 1
    generation: int = 1
    policy: str = ""
    priority: str = ""
    cause: str = "time"
    late: bool = False


class SlaMet(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "sla.met"
    metric: str
    stopped_at: datetime
    cycle: int = 1
    elapsed_seconds: float = 0.0
    breached: bool = False


class SlaCancelled(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "sla.cancelled"
    metric: str
    cycle: int = 1
    cause: str = ""


# ---- flow and escalation --------------------------------------------------------------------------------------------------


class FlowMoved(Data, frozen=True, kw_only=True):
    """The case took a step in its flow; `state` is the case after it. What the step opened and closed follows in the same append.

    `step`: started, completed, waived (then `material` and `reason`), jumped, expired, migrated, ended. `nodes`: of visits that a
    migration kept, the instants at which their timers fire from here on.
    """

    type: ClassVar[str] = "flow.moved"
    flow: str
    version: int
    step: str
    state: dict[str, Any]
    node: str = ""
    visit: int = 0
    material: str | None = None
    reason: str = ""
    nodes: tuple[NodeDue, ...] = ()


class NodeEntered(Data, frozen=True, kw_only=True):
    """A visit began. `group` (or `role:NAME`) works it; `agent` is the one person meant, if any; `home`: the ticket's own owner.

    `expected_seconds` is in open time of the flow's calendar, or of the wall clock when `wall`; `timers` are their instants.
    """

    type: ClassVar[str] = "node.entered"
    node: str
    visit: int
    group: str | None = None
    role: str | None = None
    due_at: datetime | None = None
    agent: str | None = None
    home: bool = False
    stage: str | None = None
    chain: str | None = None
    expected_seconds: float | None = None
    wall: bool = False
    timers: tuple[datetime, ...] = ()


class NodeCompleted(Data, frozen=True, kw_only=True):
    """`cancelled`: the visit ended because a sibling or a jump ended it."""

    type: ClassVar[str] = "node.completed"
    node: str
    visit: int
    outcome: str | None = None
    cancelled: bool = False
    material: dict[str, Any] = {}
    waived: tuple[str, ...] = ()


class NodeStalled(Data, frozen=True, kw_only=True):
    """A node's or assignment's expected instant passed with nobody moving it."""

    type: ClassVar[str] = "node.stalled"
    node: str
    visit: int
    due_at: datetime
    owner: str | None = None
    group: str | None = None
    level: int = 1
    dwell_seconds: float = 0.0
    shares: dict[str, float] = {}
    cause: str = "node"


class EscalationRaised(Data, frozen=True, kw_only=True):
    """A chain started; `cause` says what for (`unaccepted`, `node`, `sla`, `manual`)."""

    type: ClassVar[str] = "escalation.raised"
    escalation: int
    chain: str
    cause: str
    owner: str | None = None
    metric: str | None = None


class EscalationStepped(Data, frozen=True, kw_only=True):
    """A step was taken: `targets` are told, `skipped` says why others were not.

    `urged` is the overdue owner who is reminded; `reminded` had acknowledged this same step, and that has expired; `webhooks` are
    endpoints of the playbook that are called.
    """

    type: ClassVar[str] = "escalation.stepped"
    escalation: int
    chain: str
    step: int
    level: int
    round: int = 1
    targets: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    skipped: dict[str, str] = {}
    urged: str | None = None
    reminded: tuple[str, ...] = ()
    webhooks: tuple[str, ...] = ()


class EscalationAcknowledged(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "escalation.acknowledged"
    escalation: int
    by: str
    expires_at: datetime | None = None


class EscalationHeld(Data, frozen=True, kw_only=True):
    """The acknowledgements that the step needs are there: the chain rests until they expire (`expires_at` null: for good)."""

    type: ClassVar[str] = "escalation.held"
    escalation: int
    by: tuple[str, ...]
    expires_at: datetime | None = None


class EscalationEnded(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "escalation.ended"
    escalation: int
    why: str


class EscalationExhausted(Data, frozen=True, kw_only=True):
    type: ClassVar[str] = "escalation.exhausted"
    escalation: int
    chain: str
    fallback: str | None = None


# ---- deliveries -----------------------------------------------------------------------------------------------------------


class _Delivery(Data, frozen=True, kw_only=True):
    ticket: int | None = None
    recipient: str = ""
    channel: str = ""
    provider: str = ""
    attempt: int = 0
    provider_id: str | None = None
    detail: str = ""


class DeliverySent(_Delivery, frozen=True, kw_only=True):
    type: ClassVar[str] = "delivery.sent"


class DeliveryDelivered(_Delivery, frozen=True, kw_only=True):
    type: ClassVar[str] = "delivery.delivered"


class DeliveryRead(_Delivery, frozen=True, kw_only=True):
    type: ClassVar[str] = "delivery.read"


class DeliveryFailed(_Delivery, frozen=True, kw_only=True):
    type: ClassVar[str] = "delivery.failed"


class DeliveryUnknown(_Delivery, frozen=True, kw_only=True):
    type: ClassVar[str] = "delivery.unknown"


class DeliverySuppressed(_Delivery, frozen=True, kw_only=True):
    type: ClassVar[str] = "delivery.suppressed"


# ---- subscriptions --------------------------------------------------------------------------------------------------------


class SubscriptionChanged(Data, frozen=True, kw_only=True):
    """A webhook subscription was made, changed by hand, or disabled by its endpoint (`why`); secrets are never told."""

    type: ClassVar[str] = "subscription.changed"
    subscription: str
    url: str
    status: str = "active"
    why: str = ""


class SubscriptionRedriven(Data, frozen=True, kw_only=True):
    """Parked deliveries are to be tried anew: all, or those at these positions."""

    type: ClassVar[str] = "subscription.redriven"
    subscription: str
    positions: tuple[int, ...] | None = None


class SubscriptionRewound(Data, frozen=True, kw_only=True):
    """Deliver again everything after a position of the log."""

    type: ClassVar[str] = "subscription.rewound"
    subscription: str
    after: int


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One receipt as a provider reported it: `state` is delivered, read or failed."""

    provider_id: str
    state: str
    other_ids: tuple[str, ...] = ()
    address: str | None = None
    at: datetime | None = None
    detail: str = ""
    message_id: str | None = None
    bad_recipient: bool = False
    again: bool = False

    @classmethod
    def of(cls, receipt: Receipt) -> Report:
        """A verified receipt as it is recorded."""
        return cls(
            provider_id=receipt.provider_id, state=str(receipt.state), other_ids=receipt.also, address=receipt.address,
            at=receipt.at, detail=receipt.detail, message_id=receipt.message_id, bad_recipient=receipt.bad_recipient,
            again=receipt.again,
        )  # fmt: skip


class ProviderReported(Data, frozen=True, kw_only=True):
    """A provider reported what became of messages (verified; not yet matched to them)."""

    type: ClassVar[str] = "provider.reported"
    provider: str
    receipts: tuple[Report, ...]


class InboxRead(Data, frozen=True, kw_only=True):
    """A person has read messages of their inbox."""

    type: ClassVar[str] = "inbox.read"
    person: str
    messages: tuple[int, ...]


CATALOGUE: dict[str, type[Data]] = {
    struct.type: struct
    for struct in (
        TicketOpened, TicketHeld, TicketClassified, TicketSet, TicketQueued, TicketOffered, TicketAssigned, TicketAccepted,
        TicketDeclined, TicketTransferred, TicketReplied, TicketNoted, TicketMentioned, TicketPaused, TicketResumed, TicketResolved,
        TicketNoteEdited, TicketAttached, TaskOpened, TaskProgressed, TaskClosed,
        TicketReopened, TicketClosed, TicketMerged, TicketRated, TicketRepinned,
        TicketAssignmentFailed, AgentChanged, ScheduleChanged, PlaybookPublished,
        SlaStarted, SlaMoved, SlaAtRisk, SlaWarned, SlaBreached, SlaMet, SlaCancelled,
        FlowMoved, NodeEntered, NodeCompleted, NodeStalled,
        EscalationRaised, EscalationStepped, EscalationAcknowledged, EscalationHeld, EscalationEnded, EscalationExhausted,
        DeliverySent, DeliveryDelivered, DeliveryRead, DeliveryFailed, DeliveryUnknown, DeliverySuppressed,
        SubscriptionChanged, SubscriptionRedriven, SubscriptionRewound,


        ProviderReported, InboxRead, TicketWatched, TicketUnwatched,
    )
}  # fmt: skip


def topic_type(event_type: str) -> str:
    """`ticket.opened` -> `io.signalbox.ticket.opened.v1`."""
    return f"io.signalbox.{event_type}.v1"


def decode(event_type: str, data: Any) -> Data:
    """Data of a stored event as its struct. Unknown members are ignored: an older reader meets a newer writer's additions.

    Raises `KeyError` for a type outside the catalogue and `msgspec.ValidationError` for a wrong shape.
    """
    return msgspec.convert(data, CATALOGUE[event_type], strict=False)


def schema() -> dict[str, Any]:
    """JSON Schema of every event's data, by topic type."""
    schemas, components = msgspec.json.schema_components(list(CATALOGUE.values()), ref_template="#/$defs/{name}")
    by_type = {topic_type(kind): one for kind, one in zip(CATALOGUE, schemas, strict=True)}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "types": by_type, "$defs": components}
