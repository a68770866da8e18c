"""What became of messages, written down: outcomes of calls, receipts, and what follows from them. One transaction a batch.

A message that was read is read everywhere it was shown; one that failed lets the next step of its plan come now, and an address
that a provider calls useless is not tried again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog
from sqlalchemy import Engine

from services.notifier import metrics, receipt_store, store
from services.notifier.channels.base import Kind, Outcome, ReceiptMode
from services.notifier.channels.registry import driver_type
from services.notifier.noting import Notes
from services.notifier.outcomes import LOOKED, Answer, Verdict, judge, judge_look
from services.notifier.polling import next_poll
from services.notifier.receipts import Kept, fold, match
from services.notifier.rows import Accepted, Row, Tables, Written
from shared.contracts import events as e
from shared.contracts.envelope import Actor, New
from shared.ledger import business
from shared.ledger.process import Deps
from shared.ledger.unit import Result, Unit, Work
from shared.runtime.crash import crash_point

log = structlog.get_logger()

NOTIFIER = Actor(kind="service", id="notifier")
_OVER = frozenset(("sent", "delivered", "read", "failed", "unknown"))
ALIKE = 8
"""Messages that a provider took with the same words are written together from so many on."""
AGAIN_AFTER = timedelta(seconds=10)
"""A message that its provider took and failed at is sent once more after this."""
FOLLOW_SECONDS = 2.0
"""A failed message looks so often whether the next step of its plan was taken up."""

_EVENTS: dict[str, type[Any]] = {
    "sent": e.DeliverySent,
    "delivered": e.DeliveryDelivered,
    "read": e.DeliveryRead,
    "failed": e.DeliveryFailed,
    "unknown": e.DeliveryUnknown,
    "suppressed": e.DeliverySuppressed,
}


@dataclass(slots=True)
class Changes:
    """What a batch writes, gathered: message rows, and messages whose fate means something for others."""

    tables: Tables = store
    rows: list[Written] = field(default_factory=list)
    read: list[Row] = field(default_factory=list)
    failed: list[Row] = field(default_factory=list)
    buried: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(channel, provider, outcome): shown once it is committed."""
    seconds: Counter[tuple[str, timedelta]] = field(default_factory=Counter)
    """(channel, how long a message took): the same."""

    def write(self, unit: Unit) -> None:
        """Write the rows, and what follows from them."""
        if self.buried:
            receipt_store.bury(unit.connection, self.buried)
        if self.failed:
            unit.rouse("notifier", receipt_store.hurry(unit.connection, self.failed, unit.now))
        if self.read:
            written = {one.id for one in self.rows}
            others = receipt_store.elsewhere(unit.connection, self.read)
            for row in (one for one in others if one.id not in written):
                detail = f"read on {self.read[0].channel}"
                version = unit.append("delivery", row.id, row.version, [New(event("read", row, row.provider, detail))])
                self.rows.append(changed(row, version, "read", detail, unit.now))
        if self.rows:
            self.tables.record(unit.connection, self.rows)
        unit.after_commit.append(self._show)

    def _show(self) -> None:
        for labels, count in self.counts.items():
            metrics.DELIVERIES.labels(*labels).inc(count)
        for (channel, took), count in self.seconds.items():
            metrics.DELIVERY_SECONDS.labels(channel).observe_many(took.total_seconds(), count)


def event(verb: str, row: Row, provider: str, detail: str, provider_id: str | None = None, attempt: int = 0) -> e.Data:
    """`delivery.<verb>` of a message."""
    made: e.Data = _EVENTS[verb](
        ticket=row.ticket_id, recipient=row.recipient, channel=row.channel, provider=provider,
        attempt=attempt or len(row.attempts), provider_id=provider_id or row.provider_id, detail=detail[:200],
    )  # fmt: skip
    return made


def changed(row: Row, version: int, state: str, reason: str | None, now: datetime) -> Written:
    """What becomes of a message without an attempt."""
    return Written(row.id, version, state, reason, row.failures, None, row.provider, None, now)


def judged(
    work: Work, row: Row, provider: str, outcome: Outcome, now: datetime, jitter: float, changes: Changes, *,
    can_look: bool = False, polls: bool = False,
) -> Result:  # fmt: skip
    """Gather what an outcome makes of a message; the result is for the ledger."""
    verdict = judge(row, outcome, now, jitter, can_look=can_look)
    if outcome.kind is Kind.ACCEPTED:
        changes.seconds[row.channel, now - row.created_at] += 1
    elif outcome.kind is Kind.BAD_RECIPIENT:
        changes.buried.append(_grave(row, provider, verdict.reason or "", now))
    kept = _kept(work, row, provider, verdict, outcome, str(outcome.kind), now, changes)
    if polls and verdict.state == "sent" and outcome.provider_id is not None:
        return Result(work, kept.events, next_poll(now, now))
    return kept


def _looked(
    work: Work, row: Row, provider: str, found: Outcome | None, now: datetime, jitter: float, changes: Changes
) -> Result:
    verdict = judge_look(row, found, now, jitter)
    said = LOOKED + ("nothing" if found is None else str(found.kind))
    return _kept(work, row, provider, verdict, found or Outcome(Kind.UNKNOWN), said, now, changes)


def _kept(
    work: Work, row: Row, provider: str, verdict: Verdict, outcome: Outcome, said: str, now: datetime, changes: Changes
) -> Result:
    events: tuple[New, ...] = ()
    if verdict.event is not None:
        attempt = len(row.attempts) + 1
        events = (New(event(verdict.event, row, provider, verdict.reason or "", outcome.provider_id, attempt)),)
    changes.counts[row.channel, provider, said] += 1
    tried = _tried(row, provider, outcome, said, now)
    changes.rows.append(
        Written(
            row.id, work.version + len(events), verdict.state, verdict.reason, verdict.failures,
            tried.get("provider_id"), provider, tried, now,
        )
    )  # fmt: skip
    due_at = verdict.retry_at
    if verdict.state == "failed" and row.event_version is not None:
        changes.failed.append(row)
        due_at = now + timedelta(seconds=FOLLOW_SECONDS)
    elif verdict.state == "read":
        changes.read.append(row)
    return Result(work, events, due_at)


def _tried(row: Row, provider: str, outcome: Outcome, said: str, now: datetime) -> dict[str, Any]:
    """An attempt as it is kept."""
    tried: dict[str, Any] = {"at": now, "provider": provider, "outcome": said}
    if outcome.code:
        tried["code"] = outcome.code
    if outcome.detail:
        tried["detail"] = outcome.detail
    # a provider that has no ids of its own gives ours back: nothing to remember, and no index to write
    if outcome.provider_id and outcome.provider_id != f"sb-{row.id}":
        tried["provider_id"] = outcome.provider_id
    if outcome.resend_safe:
        tried["safe"] = True
    return tried


def _grave(row: Row, provider: str, reason: str, now: datetime) -> dict[str, Any]:
    return {"channel": row.channel, "address": row.address, "since": now, "reason": f"{provider}: {reason}"[:300]}


def record(
    engine: Engine, deps: Deps, answers: Sequence[Answer], jitter: Callable[[], float], notes: Notes | None = None
) -> set[tuple[str, str]]:
    """Record outcomes of a batch in one transaction; those whose epoch is stale are left alone. Returns what to ring.

    `notes` gathers what was seen of providers, for their health.
    """
    with engine.connect() as connection:
        unit = Unit(connection, business.now(connection), NOTIFIER, deps.playbook_number(connection))
        record_on(unit, answers, jitter)
        if notes is not None:
            notes.write(unit, ((job.called, outcome) for job, outcome in answers if not job.look))
        unit.flush()
        connection.commit()
    unit.committed()
    crash_point("delivery.recorded")
    return unit.woken


def record_on(unit: Unit, answers: Sequence[Answer], jitter: Callable[[], float], tables: Tables = store) -> None:
    """The same inside the caller's transaction; the caller flushes and commits."""
    changes = Changes(tables)
    by_id = {job.row.id: (job, outcome) for job, outcome in _accept(unit, answers, changes)}
    accepted: dict[str, dict[str, list[Row]]] = {}
    carriers: list[int] = []
    for number, version, state, epoch in tables.locked(unit.connection, list(by_id)) if by_id else ():
        job, outcome = by_id[number]
        row = job.row  # as it was marked: nobody else writes a message that is being sent
        if state != "sending" or epoch != job.epoch:
            log.warning(
                "stale_outcome", message=row.id, ticket=str(row.ticket_id), correlation=f"ticket-{row.ticket_id}",
                epoch=job.epoch, now=epoch, outcome="nothing" if outcome is None else str(outcome.kind),
            )  # fmt: skip
            continue
        work = Work("delivery", row.id, row.urgency, version, version, 0, 0, unit.now, None)
        if outcome is None or job.look:
            result = _looked(work, row, job.called, outcome, unit.now, jitter(), changes)
        else:
            result = judged(
                work, row, job.called, outcome, unit.now, jitter(), changes, can_look=job.can_look, polls=job.polls
            )
        unit.settle("notifier", result)
        if job.carries and changes.rows[-1].state in _OVER:
            carriers.append(row.id)
        if outcome is not None and outcome.provider_id is not None and outcome.kind in (Kind.ACCEPTED, Kind.UNKNOWN):
            accepted.setdefault(job.called, {}).setdefault(outcome.provider_id, []).append(row)
    for provider, known in accepted.items():
        _catch_up(unit, provider, known, changes)
    carry(unit, carriers, changes)
    changes.write(unit)


def _accept(unit: Unit, answers: Sequence[Answer], changes: Changes) -> Sequence[Answer]:
    """Record what providers took, all messages of the same answer in one statement; returns the answers that are left."""
    groups: dict[tuple[Any, ...], list[Answer]] = {}
    left: list[Answer] = []
    for answer in answers:
        job, outcome = answer
        if outcome is None or outcome.kind is not Kind.ACCEPTED or job.look or job.carries:
            left.append(answer)
        else:
            own = outcome.provider_id == f"sb-{job.row.id}"
            key = (job.called, job.epoch, own or outcome.provider_id, outcome.code, outcome.detail)
            groups.setdefault(key, []).append(answer)
    for alike in groups.values():
        left += alike if len(alike) < ALIKE else _alike(unit, alike, changes)
    return left


def _alike(unit: Unit, answers: Sequence[Answer], changes: Changes) -> list[Answer]:
    """The same for one group; returns those that are not being sent any more, or not under this epoch."""
    known = {answer[0].row.id: answer for answer in answers}
    first, outcome = answers[0]
    assert outcome is not None
    now, called, said = unit.now, first.called, str(outcome.kind)
    tried = _tried(first.row, called, outcome, said, now)
    wanted = Accepted(list(known), first.epoch, tried.get("provider_id"), tried, now)
    due_at = next_poll(now, now) if first.polls and outcome.provider_id is not None else None
    versions: dict[int, int] = {}
    taken: list[tuple[str, datetime]] = []
    reported: dict[str, list[Row]] = {}
    reports = driver_type(first.provider.driver).receipts is not ReceiptMode.NONE
    for number, version in changes.tables.accepted(unit.connection, wanted):
        job, answer = known.pop(number)
        row, provider_id = job.row, None if answer is None else answer.provider_id
        new = New(event("sent", row, called, "", provider_id, len(row.attempts) + 1))
        work = Work("delivery", number, row.urgency, version - 1, version - 1, 0, 0, now, None)
        unit.settle("notifier", Result(work, (new,), due_at))
        taken.append((row.channel, row.created_at))
        if reports and provider_id is not None:
            versions[number] = version
            reported.setdefault(provider_id, []).append(row)
    for (channel, created_at), count in Counter(taken).items():
        changes.counts[channel, called, said] += count
        changes.seconds[channel, now - created_at] += count
    if reported:
        _catch_up(unit, called, reported, changes, versions)
    return list(known.values())


def carry(unit: Unit, carriers: Sequence[int], changes: Changes) -> None:
    """What became of a message becomes of those that it carries."""
    if not carriers:
        return
    states = {row.id: row for row in changes.rows}
    for row in changes.tables.carried(unit.connection, carriers):
        lead = states[row.bundle or 0]
        if row.state == lead.state or lead.state not in _EVENTS:
            continue
        told = f"in message {row.bundle}"
        data = event(lead.state, row, lead.provider, told, lead.provider_id)
        version = unit.append("delivery", row.id, row.version, [New(data)])
        changes.counts[row.channel, lead.provider, f"carried {lead.state}"] += 1
        kept = changed(row, version, lead.state, told, unit.now)
        kept.provider, kept.attempt = lead.provider, lead.attempt
        changes.rows.append(kept)


def _catch_up(
    unit: Unit, provider: str, known: dict[str, list[Row]], changes: Changes, sent: Mapping[int, int] | None = None
) -> None:
    """Receipts that came before the answer did; `sent`: versions of messages that are written as sent already."""
    early = changes.tables.early(unit.connection, provider, list(known))
    if not early:
        return
    written = {row.id: row for row in changes.rows}
    for receipt in early:
        row = match(receipt, known[receipt.provider_id])
        if row is None:
            continue
        kept = written.get(row.id)
        if kept is None:
            known_as = msgspec.structs.replace(row, provider=provider)
            receipted(unit, known_as, "sent", (sent or {})[row.id], [receipt], changes)
            written |= {one.id: one for one in changes.rows[-1:]}
        else:
            receipted(unit, row, kept.state, kept.version, [receipt], changes, kept)
        receipt_store.drop(unit.connection, [receipt.id])


def receipted(
    unit: Unit,
    row: Row,
    state: str,
    version: int,
    receipts: Sequence[Kept],
    changes: Changes,
    kept: Written | None = None,
) -> bool:
    """Gather what receipts make of a locked message in `state`; False when it is too early to say.

    `kept` is the row that the same transaction writes anyway.
    """
    new = fold(state, [one.state for one in receipts])
    if new is None:
        return False
    last = receipts[-1]
    _bury(row, receipts, unit.now, changes)
    if new == state:
        return True
    if new == "failed" and kept is None and all(one.again for one in receipts) and _first_failure(row):
        _once_more(unit, row, version, last, changes)
        return True
    data = event(new, row, last.provider, last.detail or "reported by the provider", last.provider_id)
    version = unit.append("delivery", row.id, version, [New(data)])
    changes.counts[row.channel, last.provider, new] += 1
    if kept is None:
        kept = changed(row, version, new, last.detail or None, unit.now)
        kept.attempt = _told(last, new)
        changes.rows.append(kept)
    else:
        kept.version, kept.state, kept.reason = version, new, last.detail or None
    if new == "read":
        changes.read.append(row)
    elif new == "failed":
        changes.failed.append(row)
    return True


def _told(receipt: Kept, state: str) -> dict[str, Any]:
    """A receipt among the attempts."""
    return {
        "at": receipt.at or receipt.received_at, "provider": receipt.provider, "outcome": f"receipt {state}",
        "detail": receipt.detail, "provider_id": receipt.provider_id,
    }  # fmt: skip


def _first_failure(row: Row) -> bool:
    return not any(one.get("outcome") == "receipt failed" for one in row.attempts)


def _once_more(unit: Unit, row: Row, version: int, receipt: Kept, changes: Changes) -> None:
    """The provider took a message and failed at it, and may not the next time: it is sent once more."""
    reason = f"the provider failed at it, sent once more: {receipt.detail}"
    kept = changed(row, version, "held", reason[:200], unit.now)
    kept.failures, kept.attempt = row.failures + 1, _told(receipt, "failed")
    changes.counts[row.channel, receipt.provider, "failed once"] += 1
    changes.rows.append(kept)
    unit.wake("notifier", "delivery", row.id, row.urgency, unit.now + AGAIN_AFTER)


def _bury(row: Row, receipts: Iterable[Kept], now: datetime, changes: Changes) -> None:
    for one in receipts:
        if one.bad_recipient:
            changes.buried.append(_grave(row, one.provider, one.detail, now))
