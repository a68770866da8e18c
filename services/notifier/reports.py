"""Reports of providers: kept, matched to messages, applied. An item of kind `job` for each provider carries them here.

The gateway verifies a report and appends it; nothing about messages is decided there. What finds no message is kept for three days
and looked at again at growing distances: a receipt may come before the answer to the call, or before a slow transaction commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

import structlog
from sqlalchemy import Engine

from services.notifier import receipt_store
from services.notifier.health import LATE_RECEIPT, Seen
from services.notifier.noting import noted
from services.notifier.polling import sent_at
from services.notifier.receipts import KEPT, Kept, look_again, match
from services.notifier.recording import Changes, changed, event, receipted
from services.notifier.rows import Row
from shared.contracts.envelope import Actor, New
from shared.contracts.events import InboxRead, ProviderReported, Report
from shared.contracts.providers.receipts import Receipt, ReceiptState
from shared.ledger import business, items
from shared.ledger.process import Deps
from shared.ledger.unit import Result, Unit, Work

log = structlog.get_logger()

AGAIN = timedelta(seconds=0.5)
PATIENCE = timedelta(minutes=1)
"""After a lag of so much a message that is still busy is taken for gone."""
OURS = "sb-"
"""Begins the stable id of a message, as providers return it."""


def message_number(text: str | None) -> int | None:
    """`sb-1042` as the message's id."""
    if text is None or not text.startswith(OURS):
        return None
    digits = text[len(OURS) :]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else None


def report(deps: Deps, engine: Engine, provider: str, receipts: Sequence[Receipt]) -> set[tuple[str, str]]:
    """Append receipts that came over a driver's own connection to where the gateway appends the others; commits."""
    told = tuple(map(Report.of, receipts))
    with engine.connect() as connection:
        item, version, _ = items.locked(connection, deps.ids, "job", f"receipts:{provider}")
        actor = Actor(kind="automation", id=provider)
        unit = Unit(connection, business.now(connection), actor, deps.playbook_number(connection), given=True)
        unit.bump(
            "job", item, unit.append("job", item, version, [New(ProviderReported(provider=provider, receipts=told))])
        )
        unit.wake("notifier", "job", item, "normal")
        unit.flush()
        connection.commit()
    return unit.woken


class ApplyReports:
    """The handler of jobs `receipts:PROVIDER` and `inbox:PERSON`."""

    service = "notifier"
    kind = "job"

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def handle(self, unit: Unit, batch: Sequence[Work]) -> list[Result]:
        """Apply what was reported since, and what waited for its message."""
        return [self._read(unit, work) if _of_inbox(work) else self._receipts(unit, work) for work in batch]

    def _timely(self, unit: Unit, found: Iterable[tuple[Row, Sequence[Kept]]]) -> None:
        """Note how many first receipts came late: a provider whose messages arrive late is given fewer."""
        counted: dict[str, list[int]] = {}
        for row, theirs in found:
            accepted_at = sent_at(row)
            came = [one.received_at for one in theirs if one.state is not ReceiptState.READ]
            if row.state not in ("sent", "unknown") or accepted_at is None or not came:
                continue
            count = counted.setdefault(row.provider, [0, 0])
            count[0] += 1
            count[1] += min(came) - accepted_at > LATE_RECEIPT
        seen = {provider: Seen(receipts=count, late=late) for provider, (count, late) in counted.items()}
        if seen:
            noted(unit, seen)

    def _read(self, unit: Unit, work: Work) -> Result:
        """A person's read marks. Messages that are busy at the moment are kept in the item's state for the next look."""
        given = [one.data for one in work.events if isinstance(one.data, InboxRead)]
        person = given[0].person if given else str(work.item["person"])
        left = [*(work.item or {}).get("left", ()), *(number for data in given for number in data.messages)]
        changes = Changes()
        rows = receipt_store.of_ids(unit.connection, left)
        for row in rows:
            if row.state in ("sent", "delivered") and row.recipient == person:
                version = unit.append("delivery", row.id, row.version, [New(event("read", row, row.provider, ""))])
                changes.rows.append(changed(row, version, "read", None, unit.now))
                changes.read.append(row)
        changes.write(unit)
        busy = sorted(set(left) - {row.id for row in rows}) if unit.now - work.due_at < PATIENCE else []
        due_at = unit.now + AGAIN if busy else None
        return Result(work, (), due_at, {"person": person, "left": busy})

    def _receipts(self, unit: Unit, work: Work) -> Result:
        reported = [one.data for one in work.events if isinstance(one.data, ProviderReported)]
        provider = reported[0].provider if reported else str((work.item or {}).get("provider", ""))
        fresh = self._fresh(unit, reported)
        waiting = receipt_store.waiting(unit.connection, provider)
        changes = Changes()
        applied = self._apply(unit, provider, [*waiting, *fresh], changes)
        changes.write(unit)
        receipt_store.drop(unit.connection, [one.id for one in waiting if one.id in applied])
        receipt_store.keep(unit.connection, [one for one in fresh if one.id not in applied])
        left = [one for one in (*waiting, *fresh) if one.id not in applied]
        due_at = look_again(min(one.received_at for one in left), unit.now) if left else None
        return Result(work, (), due_at, {"provider": provider})

    def _fresh(self, unit: Unit, reported: Iterable[ProviderReported]) -> list[Kept]:
        pairs = [(data.provider, receipt) for data in reported for receipt in data.receipts]
        ids = self._deps.ids.take(unit.connection, len(pairs)) if pairs else []
        return [_kept(number, provider, one, unit) for number, (provider, one) in zip(ids, pairs, strict=True)]

    def _apply(self, unit: Unit, provider: str, receipts: Sequence[Kept], changes: Changes) -> set[int]:
        """Ids of receipts that are done with: applied, told nothing new, or too old."""
        connection = unit.connection
        ours = receipt_store.of_ids(connection, [one.message_id for one in receipts if one.message_id is not None])
        by_id = {row.id: row for row in ours}
        named = {one.id: by_id[one.message_id] for one in receipts if one.message_id in by_id}
        wanted = {name for one in receipts if one.id not in named for name in (one.provider_id, *one.other_ids)}
        by_provider_id: dict[str, list[Row]] = {}
        for known in receipt_store.of_provider_ids(connection, provider, sorted(wanted)) if wanted else ():
            by_provider_id.setdefault(str(known.provider_id), []).append(known)
        found: dict[int, tuple[Row, list[Kept]]] = {}
        done: set[int] = set()
        for one in receipts:
            names = (one.provider_id, *one.other_ids)
            row = named.get(one.id) or next(filter(None, (match(one, by_provider_id.get(n, ())) for n in names)), None)
            if row is not None:
                found.setdefault(row.id, (row, []))[1].append(one)
            elif unit.now - one.received_at > KEPT:
                log.warning("receipt_without_message", provider=provider, provider_id=one.provider_id)
                done.add(one.id)
        self._timely(unit, found.values())
        for message, theirs in found.values():
            if receipted(unit, message, message.state, message.version, theirs, changes):
                done.update(one.id for one in theirs)
        return done


def _of_inbox(work: Work) -> bool:
    return "person" in (work.item or {}) or any(isinstance(one.data, InboxRead) for one in work.events)


def _kept(number: int, provider: str, report: Report, unit: Unit) -> Kept:
    return Kept(
        number, provider, report.provider_id, report.other_ids,
        message_number(report.message_id) or message_number(report.provider_id), report.address,
        ReceiptState(report.state), report.at, report.detail, report.bad_recipient, unit.now, report.again,
    )  # fmt: skip
