"""A batch of messages: claimed and marked `sending` in one transaction, called outside of any, recorded in another.

The lease is the agenda's own instant: a message in state `sending` that comes due again lost its sender, which is an outcome
(`unknown`) and decided as one. Every mark raises the epoch; a recorder whose epoch is not the row's any more writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

import structlog
from sqlalchemy import Engine

from services.notifier import metrics, store
from services.notifier.channels.base import Kind, Message, Outcome
from services.notifier.errors import TemplateError
from services.notifier.facts import NO_LINKS, facts
from services.notifier.handlers import compiled
from services.notifier.outcomes import judge, lost
from services.notifier.planning import choose
from services.notifier.store import Row
from shared.access import links
from shared.contracts import events as e
from shared.contracts.envelope import Actor, New
from shared.contracts.providers.inbound import CALLBACK_SECRETS
from shared.directory.people import Person
from shared.ledger import business
from shared.ledger.process import Deps
from shared.ledger.unit import Result, Unit, Work
from shared.playbook.messages import Provider
from shared.runtime import chance
from shared.runtime.crash import crash_point
from shared.ticket.state import MAIN, Ticket

log = structlog.get_logger()

LEASE_SLACK = timedelta(seconds=10)
"""Beyond the provider's own time-out, before a message in `sending` counts as lost."""
NOTIFIER = Actor(kind="service", id="notifier")

_EVENTS: dict[
    str, type[e.DeliverySent] | type[e.DeliveryFailed] | type[e.DeliveryUnknown] | type[e.DeliverySuppressed]
] = {
    "sent": e.DeliverySent,
    "failed": e.DeliveryFailed,
    "unknown": e.DeliveryUnknown,
    "suppressed": e.DeliverySuppressed,
}


@dataclass(frozen=True, slots=True)
class Job:
    """One message on its way: what was committed as `sending`, and what is to be called."""

    row: Row
    epoch: int
    provider: Provider
    message: Message


class Sender(Protocol):
    """Takes jobs whose `sending` is committed; answers by calling `record` with their outcomes."""

    def take(self, jobs: Sequence[Job]) -> None:
        """Send, in its own time."""


class SendMessages:
    """The handler of deliveries: marks and hands over."""

    service = "notifier"
    kind = "delivery"

    def __init__(
        self,
        deps: Deps,
        sender: Sender,
        *,
        available: Callable[[str], bool] = lambda _: True,
        tables: store.Tables = store,
    ) -> None:
        self._deps, self._tables = deps, tables
        self._sender = sender
        self._available = available
        self._key = b""

    def handle(self, unit: Unit, batch: Sequence[Work]) -> list[Result]:
        """Mark what can be sent, record what was lost, hold what its provider cannot take now."""
        rows = {row.id: row for row in self._tables.rows(unit.connection, [work.id for work in batch])}
        tickets = self._tables.tickets(
            unit.connection, [row.ticket_id for row in rows.values() if row.ticket_id is not None]
        )
        directory = self._deps.directory.get(unit.connection)
        jobs: list[Job] = []
        linked: list[dict[str, Any]] = []
        marked: list[dict[str, Any]] = []
        recorded: list[dict[str, Any]] = []
        results: list[Result] = []
        for work in batch:
            row = rows[work.id]
            done = self._over(unit, work, row)
            if done is not None:
                results.append(done[0])
                recorded.append(done[1])
                continue
            ticket = tickets.get(row.ticket_id or 0)
            job = self._job(unit, row, ticket, directory.person(row.recipient), linked)
            if isinstance(job, Outcome):
                result, record = _judged(work, row, row.provider, job, unit, 0.5)
                results.append(result)
                recorded.append(record)
                continue
            jobs.append(job)
            marked.append({"id": row.id, "epoch": job.epoch, "provider": job.provider.name, "at": unit.now})
            lease = timedelta(seconds=job.provider.timeout.total_seconds()) + LEASE_SLACK
            results.append(Result(work, (), unit.now + lease))
        if marked:
            self._tables.sending(unit.connection, marked)
            self._tables.keep_links(unit.connection, linked)
            unit.after_commit.append(lambda: self._hand_over(jobs))
        if recorded:
            self._tables.record(unit.connection, recorded)
        return results

    def _hand_over(self, jobs: list[Job]) -> None:
        crash_point("delivery.claimed")
        self._sender.take(jobs)

    def _over(self, unit: Unit, work: Work, row: Row) -> tuple[Result, dict[str, Any]] | None:
        now = unit.now
        if row.state == "sending":
            return _judged(work, row, row.provider, lost(row), unit, 0.5)
        if row.valid_until is not None and now > row.valid_until:
            gone = e.DeliverySuppressed(
                ticket=row.ticket_id, recipient=row.recipient, channel=row.channel, provider=row.provider,
                attempt=len(row.attempts), detail="no longer of use",
            )  # fmt: skip
            unit.after_commit.append(metrics.DELIVERIES.labels(row.channel, row.provider, "suppressed").inc)
            return Result(work, (New(gone),)), _row(row, work.version + 1, "suppressed", "no longer of use", now)
        return None

    def _job(
        self, unit: Unit, row: Row, ticket: Ticket | None, person: Person | None, linked: list[dict[str, Any]]
    ) -> Job | Outcome:
        playbook = self._deps.playbooks.get(unit.connection, row.playbook)
        known = compiled(playbook)
        candidates = known.providers.get(row.channel, ())
        sick = frozenset(one.name for one in candidates if not self._available(one.name))
        provider = choose(candidates, row.id, sick | _tried(row))
        if provider is None:
            return Outcome(Kind.BAD_MESSAGE, code="no_provider", detail=f"no provider serves {row.channel}")
        if provider.name in sick:
            return Outcome(Kind.THROTTLED, code="circuit_open", after=timedelta(seconds=5))
        given = facts(ticket, row.event_type, row.event, _shown(row, person), playbook.document.access.masks)
        try:
            template = known.catalogue.find(row.rule, row.channel, row.locale)
            if template.linked:
                given |= self._links(row, ticket, person, template.actions, provider, unit.now, linked)
            content = template.render(given, provider.name)
        except TemplateError as error:
            return Outcome(Kind.BAD_MESSAGE, code="template", detail=str(error)[:200])
        message = Message(
            message_id=f"sb-{row.id}",
            address=row.address,
            content=content,
            urgency=row.urgency,
            valid_until=row.valid_until,
            thread="" if ticket is None else ticket.number,
            provider_id=row.provider_id,
        )
        return Job(row, row.epoch + 1, provider, message)

    def _links(
        self,
        row: Row,
        ticket: Ticket | None,
        person: Person | None,
        actions: Sequence[str],
        provider: Provider,
        now: datetime,
        linked: list[dict[str, Any]],
    ) -> dict[str, Any]:
        """One-click links of a message to a person about a ticket, gathered for the same commit that marks it `sending`."""
        if ticket is None or person is None:
            return NO_LINKS
        settings = self._deps.settings
        if not self._key:
            self._key = (settings.link_key or chance.kept_secret(settings.home, "link.key")).encode()
        node, escalation = row.event.get("node"), row.event.get("escalation", ticket.escalation)
        made = links.make(
            self._key, row.id, actions, ticket_id=ticket.id, person=person.id,
            assignment=row.event.get("assignment", ticket.assignment), escalation=escalation,
            node=None if node == MAIN else node, expires_at=now + links.LIFETIME,
        )  # fmt: skip
        linked.append(made.row)
        urls = {action: f"{settings.public}/a/{token}" for action, token in made.tokens.items()}
        wanted = CALLBACK_SECRETS.get(provider.driver)
        calls_back = wanted is not None and all(name in provider.secrets for name in wanted)
        return {
            "links": urls,
            "code": made.code,
            "action_values": made.tokens,
            "action_urls": {} if calls_back else urls,
        }


def record(
    engine: Engine, deps: Deps, answers: Sequence[tuple[Job, Outcome]], jitter: Callable[[], float]
) -> set[tuple[str, str]]:
    """Record outcomes of a batch in one transaction; those whose epoch is stale are left alone. Returns what to ring."""
    with engine.connect() as connection:
        unit = Unit(connection, business.now(connection), NOTIFIER, deps.playbook_number(connection))
        record_on(unit, answers, jitter)
        unit.flush()
        connection.commit()
    unit.committed()
    crash_point("delivery.recorded")
    return unit.woken


def record_on(
    unit: Unit,
    answers: Sequence[tuple[Job, Outcome]],
    jitter: Callable[[], float],
    tables: store.Tables = store,
) -> None:
    """The same inside the caller's transaction; the caller flushes and commits."""
    by_id = {job.row.id: (job, outcome) for job, outcome in answers}
    recorded: list[dict[str, Any]] = []
    for row in tables.rows(unit.connection, list(by_id), lock=True):
        job, outcome = by_id[row.id]
        if row.state != "sending" or row.epoch != job.epoch:
            log.warning(
                "stale_outcome", message=row.id, ticket=str(row.ticket_id), correlation=f"ticket-{row.ticket_id}",
                epoch=job.epoch, now=row.epoch, outcome=str(outcome.kind),
            )  # fmt: skip
            continue
        work = Work("delivery", row.id, row.urgency, row.version, row.version, 0, 0, unit.now, None)
        result, kept = _judged(work, row, job.provider.name, outcome, unit, jitter())
        unit.settle("notifier", result)
        recorded.append(kept)
    if recorded:
        tables.record(unit.connection, recorded)


def _judged(
    work: Work, row: Row, provider: str, outcome: Outcome, unit: Unit, jitter: float
) -> tuple[Result, dict[str, Any]]:
    now = unit.now
    verdict = judge(row, outcome, now, jitter)
    number = len(row.attempts) + 1
    events: tuple[New, ...] = ()
    if verdict.event is not None:
        data = _EVENTS[verdict.event](
            ticket=row.ticket_id, recipient=row.recipient, channel=row.channel, provider=provider, attempt=number,
            provider_id=outcome.provider_id, detail=(verdict.reason or "")[:200],
        )  # fmt: skip
        events = (New(data),)
    attempt = {
        "at": now,
        "provider": provider,
        "outcome": str(outcome.kind),
        "code": outcome.code,
        "detail": outcome.detail,
        "provider_id": outcome.provider_id,
    }
    unit.after_commit.append(metrics.DELIVERIES.labels(row.channel, provider, str(outcome.kind)).inc)
    if outcome.kind is Kind.ACCEPTED:
        took = (now - row.created_at).total_seconds()
        unit.after_commit.append(partial(metrics.DELIVERY_SECONDS.labels(row.channel).observe, took))
    kept = _row(row, work.version + len(events), verdict.state, verdict.reason, now) | {
        "failures": verdict.failures,
        "provider_id": outcome.provider_id,
        "provider": provider,
        "attempt": attempt,
    }
    return Result(work, events, verdict.retry_at), kept


def _shown(row: Row, person: Person | None) -> dict[str, Any]:
    """The recipient as templates name them."""
    name, zone = ("", None) if person is None else (person.name, person.zone)
    return {"id": row.recipient, "name": name, "locale": row.locale, "zone": zone or "UTC"}


def _row(row: Row, version: int, state: str, reason: str | None, now: datetime) -> dict[str, Any]:
    return {
        "id": row.id,
        "version": version,
        "state": state,
        "reason": reason,
        "failures": row.failures,
        "provider_id": None,
        "provider": row.provider,
        "attempt": None,
        "at": now,
    }


def _tried(row: Row) -> frozenset[str]:
    """Providers that refused our account for this message."""
    return frozenset(str(one["provider"]) for one in row.attempts if one.get("outcome") == str(Kind.BAD_ACCOUNT))
