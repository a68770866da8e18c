"""What one round of a subscription reads, calls and writes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import msgspec
import structlog
from sqlalchemy import Connection

from services.notifier import metrics
from services.notifier.channels.base import Kind, Net, Options, Outcome, failed
from services.notifier.channels.webhook import WebhookDriver
from services.notifier.errors import BadReply, ForbiddenTarget, NoAnswer, NotWritten
from services.notifier.topics import backlog
from services.notifier.topics.backlog import Changes, Cursor, Waiting
from services.notifier.topics.webhook import PROBE, SICK_AFTER, Status, Subscription, Verdict, judge, wants
from shared.access.present import Masks, present
from shared.access.principals import Principal
from shared.contracts import events as e
from shared.contracts.envelope import Actor, New
from shared.contracts.topics import Show, Stored, cloud_event, encode
from shared.ledger import business, reader
from shared.ledger.process import Deps
from shared.ledger.unit import Result, Unit, Work

log = structlog.get_logger()

NEW_EVENTS, RETRIES = 400, 100
TIMEOUT_SECONDS = 10.0
CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
LOOPBACK = ("127.0.0.0/8", "::1/128")
"""May be reached in test mode only."""
NOTIFIER = Actor(kind="service", id="notifier")


@dataclass(frozen=True, slots=True)
class Parcel:
    """One event on its way to one endpoint: `attempts` were made before this one; `kept`: it has a row in the backlog."""

    position: int
    subject: str
    event_id: str
    body: bytes
    attempts: int = 0
    kept: bool = False


@dataclass(slots=True)
class Plan:
    """What a round sends: groups go side by side, the parcels of a group one after the other.

    `fresh`: positions of new events in `groups`; `upto`: where the cursor stands when all of them are dealt with.
    `blocked`: new events behind an undelivered one of their subject.
    """

    groups: list[list[Parcel]] = field(default_factory=list)
    fresh: list[int] = field(default_factory=list)
    upto: int = 0
    failing: int = 0
    allow: tuple[str, ...] = ()
    blocked: list[Parcel] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """What came of a round."""

    failing: int = 0
    gone: str = ""
    delivered: list[Parcel] = field(default_factory=list)
    failed: list[tuple[Parcel, Verdict, timedelta | None, str]] = field(default_factory=list)
    blocked: list[Parcel] = field(default_factory=list)

    def note(self, parcel: Parcel, outcome: Outcome, jitter: float) -> bool:
        """Note an outcome; whether it was delivered."""
        metrics.DELIVERIES.labels("webhook", "subscription", str(outcome.kind)).inc()
        verdict, wait = judge(outcome, parcel.attempts + 1, jitter)
        if verdict is Verdict.DELIVERED:
            self.failing = 0
            self.delivered.append(parcel)
            return True
        self.failing += 1
        if verdict is Verdict.GONE:
            self.gone = "the endpoint answered 410"
            return False
        self.failed.append((parcel, verdict, wait, f"{outcome.kind} {outcome.code} {outcome.detail}".strip()))
        return False

    @property
    def dealt_with(self) -> set[int]:
        """Positions that are delivered or kept in the backlog."""
        kept = {parcel.position for parcel, *_ in self.failed} | {parcel.position for parcel in self.blocked}
        return kept | {parcel.position for parcel in self.delivered}


# ---- before -----------------------------------------------------------------------------------------------------------------


def plan_round(
    deps: Deps, connection: Connection, tail: reader.Tail, cursor: Cursor, subscription: Subscription
) -> Plan:
    """Read what is to be sent. Nothing is locked."""
    playbook = deps.playbooks.current(connection)
    masks: Masks = playbook.document.access.masks
    reads = Principal(-4, frozenset(subscription.roles), name="webhook")
    show: Show | None = (lambda data: present(data, reads, masks)) if masks else None
    allow = tuple(net for one in playbook.document.channels if one.driver == "webhook" for net in one.allow)
    plan = Plan(
        upto=cursor.position, failing=cursor.failing, allow=allow + (LOOPBACK if deps.settings.test_mode else ())
    )
    now, sick = business.now(connection), cursor.failing >= SICK_AFTER
    retries = backlog.due(connection, cursor.id, now, 1 if sick else RETRIES, probe=sick)
    rows = {row.position: row for row in reader.read_positions(connection, [one.position for one in retries])}
    plan.groups = [
        [replace(_parcel(rows[one.position], show), attempts=one.attempts, kept=True)]
        for one in retries
        if one.position in rows
    ]
    if not sick or not retries:
        _plan_new(connection, tail, cursor, subscription, show, plan, 1 if sick else NEW_EVENTS)
    return plan


def _plan_new(
    connection: Connection, tail: reader.Tail, cursor: Cursor, subscription: Subscription, show: Show | None, plan: Plan,
    limit: int,
) -> None:  # fmt: skip
    rows, plan.upto = reader.read_stored(connection, cursor.position, tail.look(connection), limit, subscription.types)
    held = backlog.held(connection, cursor.id, [row.position for row in rows]) if rows else set()
    parcels = [_parcel(row, show) for row in rows if row.position not in held]
    if subscription.filter:
        parcels = [one for one in parcels if wants(subscription.filter, msgspec.json.decode(one.body))]
    plan.fresh = [one.position for one in parcels]
    if not subscription.ordered:
        plan.groups += [[one] for one in parcels]
        return
    waiting = backlog.blocked_subjects(connection, cursor.id, [one.subject for one in parcels]) if parcels else set()
    groups: dict[str, list[Parcel]] = {}
    for one in parcels:
        if one.subject in waiting:
            plan.blocked.append(one)
        else:
            groups.setdefault(one.subject, []).append(one)
    plan.groups += groups.values()


def _parcel(row: Stored, show: Show | None) -> Parcel:
    event = cloud_event(row, show)
    return Parcel(row.position, event.subject, event.id, encode(event))


# ---- the call ---------------------------------------------------------------------------------------------------------------


class Courier:
    """Delivers parcels; lives in the sender's loop."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self._drivers: dict[tuple[str, ...], WebhookDriver] = {}

    async def deliver(self, subscription: Subscription, allow: tuple[str, ...], parcel: Parcel) -> Outcome:
        """One attempt, signed with every secret of the subscription."""
        driver = self._drivers.get(allow)
        if driver is None:
            options = Options(
                "subscription", settings={"content_type": CONTENT_TYPE}, timeout_seconds=TIMEOUT_SECONDS, allow=allow
            )
            driver = self._drivers[allow] = WebhookDriver(options, self._net)
        try:
            return await driver.deliver(subscription.url, parcel.event_id, parcel.body, subscription.secrets)
        except NotWritten as error:
            return failed(Kind.TRANSIENT, "not_written", str(error))
        except (NoAnswer, BadReply) as error:
            return failed(Kind.UNKNOWN, "no_answer", str(error))
        except ForbiddenTarget as error:
            return failed(Kind.TRANSIENT, "forbidden_target", str(error))


# ---- after ------------------------------------------------------------------------------------------------------------------


def record_round(
    deps: Deps, connection: Connection, tail: reader.Tail, cursor: Cursor, plan: Plan, report: Report
) -> set[tuple[str, str]]:
    """Keep what came of a round and say when to look again; nothing when the lease was lost. Returns what to ring."""
    item = connection.exec_driver_sql(
        "select id, key, version, state from ledger.item where id = %s for update", (cursor.id,)
    ).one()
    present_cursor = backlog.cursors(connection, [cursor.id]).get(cursor.id)
    if present_cursor is None or present_cursor.epoch != cursor.epoch:
        log.warning("webhook_lease_lost", subscription=item.key, epoch=cursor.epoch)
        connection.rollback()
        return set()
    unit = Unit(connection, business.now(connection), NOTIFIER, deps.playbook_number(connection))
    subscription = msgspec.convert(item.state, Subscription)
    backlog.write(connection, cursor.id, _changes(plan, report, unit.now), unit.now)
    if subscription.ordered:
        backlog.unblock(connection, cursor.id, [one.subject for one in report.delivered if one.kept], unit.now)
    if cursor.failing >= SICK_AFTER and report.delivered:
        backlog.heal(connection, cursor.id, unit.now)
    cursor = replace(cursor, position=_position(plan, report, cursor), failing=report.failing, leased=False)
    backlog.save_cursor(connection, cursor, unit.now)
    events: tuple[New, ...] = ()
    if report.gone and subscription.status is Status.ACTIVE:
        subscription = msgspec.structs.replace(subscription, status=Status.DISABLED, why=report.gone)
        events = (New(e.SubscriptionChanged(
            subscription=item.key, url=subscription.url, status="disabled", why=report.gone
        )),)  # fmt: skip
    work = Work("subscription", cursor.id, "normal", item.version, item.version, 0, 0, unit.now, item.state)
    due_at = _due_at(connection, tail, cursor, subscription, unit.now)
    unit.settle("notifier", Result(work, events, due_at, msgspec.to_builtins(subscription) if events else None))
    unit.flush()
    connection.commit()
    return unit.woken


def _changes(plan: Plan, report: Report, now: datetime) -> Changes:
    changes = Changes(done=[one.position for one in report.delivered if one.kept])
    for parcel, verdict, wait, error in report.failed:
        due_at = None if wait is None else now + wait
        changes.kept.append(
            Waiting(parcel.position, parcel.subject, parcel.attempts + 1, str(verdict), due_at, error[:300])
        )
    for parcel in (*report.blocked, *plan.blocked):
        changes.kept.append(
            Waiting(parcel.position, parcel.subject, parcel.attempts, "blocked", None, "behind another")
        )
    return changes


def _position(plan: Plan, report: Report, cursor: Cursor) -> int:
    """How far the cursor may go: up to the first new event that is neither delivered nor kept."""
    done = report.dealt_with | {parcel.position for parcel in plan.blocked}
    left = [position for position in plan.fresh if position not in done]
    return max(cursor.position, (min(left) - 1) if left else plan.upto)


def _due_at(
    connection: Connection, tail: reader.Tail, cursor: Cursor, subscription: Subscription, now: datetime
) -> datetime | None:
    if subscription.status is not Status.ACTIVE:
        return None
    if cursor.failing >= SICK_AFTER:
        return now + PROBE
    if cursor.position < tail.look(connection):
        return now
    return backlog.next_due(connection, cursor.id)
