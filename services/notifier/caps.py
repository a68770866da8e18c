"""Caps of the playbook: at most so many messages to one recipient on a channel in any window. The rest waits and is bundled.

What is counted is what was sent, in PostgreSQL, under a lock of the recipient that lasts as long as the transaction: two workers
never both use the last place. The first alarm of a ticket goes ahead of the fifth of another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from services.notifier.routing import Wait
from services.notifier.rows import Row, Tables
from shared.ledger.process import Deps
from shared.ledger.unit import Unit
from shared.playbook.messages import ANY_CHANNEL, Cap

BUSY = timedelta(seconds=0.2)


def waits(unit: Unit, deps: Deps, rows: Sequence[Row], tables: Tables) -> dict[int, Wait]:
    """Which of these messages a cap holds back, and until when."""
    if not rows:
        return {}
    caps = deps.playbooks.current(unit.connection).document.messages.caps
    return _waits(unit, caps, rows, tables) if caps else {}


def _waits(unit: Unit, caps: Sequence[Cap], rows: Sequence[Row], tables: Tables) -> dict[int, Wait]:
    """As `waits`, with the caps given."""
    capped = [row for row in rows if row.state != "unknown" and any(_holds(cap, row.channel) for cap in caps)]
    recipients = sorted({row.recipient for row in capped})
    after = unit.now - max(cap.per for cap in caps)
    sent = tables.sent_lately(unit.connection, recipients, after, 2 * max(cap.limit for cap in caps) + 20)
    found: dict[int, Wait] = {}
    for name in recipients:
        mine = [row for row in capped if row.recipient == name]
        if name not in sent:
            found |= {row.id: Wait(unit.now + BUSY, "another worker writes to the same recipient") for row in mine}
            continue
        found |= share(caps, mine, sent[name], unit.now)
    return found


def share(
    caps: Sequence[Cap], rows: Sequence[Row], sent: list[tuple[str, int | None, datetime]], now: datetime
) -> dict[int, Wait]:
    """Give the places that are left to the messages of one recipient, first alarms first; the others wait. Pure."""
    alarms = Counter(ticket for _, ticket, _ in sent)
    found: dict[int, Wait] = {}
    gathered: set[str] = set()
    for row in sorted(rows, key=lambda row: (alarms[row.ticket_id], row.id)):
        if row.gather in gathered:
            continue  # the one that carries it has a place
        until, why = _full(caps, row.channel, sent, now)
        if until is None:
            sent.append((row.channel, row.ticket_id, now))
            alarms[row.ticket_id] += 1
            if row.gather is not None:
                gathered.add(row.gather)
        else:
            found[row.id] = Wait(until, why, row.gather or f"cap|{row.recipient}|{row.channel}")
    return found


def _full(
    caps: Sequence[Cap], channel: str, sent: Sequence[tuple[str, int | None, datetime]], now: datetime
) -> tuple[datetime | None, str]:
    until, why = None, ""
    for cap in caps:
        if not _holds(cap, channel):
            continue
        inside = [at for where, _, at in sent if at > now - cap.per and _holds(cap, where)]
        if len(inside) >= cap.limit:
            free_at = sorted(inside)[-cap.limit] + cap.per
            if until is None or free_at > until:
                until, why = free_at, f"at most {cap.limit} messages in {cap.per}: collected until then"
    return until, why


def _holds(cap: Cap, channel: str) -> bool:
    return channel != "inbox" and cap.channel in (ANY_CHANNEL, channel)
