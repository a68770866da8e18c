"""Hold rules: tickets that are acted on only from N of their kind in M minutes.

A held ticket is not classified yet, so it has no clocks, no messages and takes nobody's capacity. Each ticket of the
kind, and each repeat that was noted on one, is an occurrence; with enough of them inside the window all held tickets of
the kind go on at once. One that the window leaves behind is closed, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.router import hold_store as store
from services.router.cases import Case
from services.router.domain.classify import Classified
from shared.contracts import events as e
from shared.contracts.envelope import Recorded
from shared.ledger.unit import Unit
from shared.playbook.routing import Hold

Found = tuple[Case, Classified, Mapping[str, Any], Sequence[Recorded]]
"""A ticket, what it was found to be, its facts and its whole stream."""


def release(unit: Unit, found: Sequence[Found]) -> set[int]:
    """Ids of the tickets that are acted on now; the others are held (or given up), and say so."""
    acting = {case.work.id for case, *_ in found}
    held, seen = [], []
    for case, said, facts, stream in found:
        hold = said.hold
        key = None if hold is None else _key(hold, case, facts)
        if hold is not None and key is not None:
            held.append((case, hold, key))
            seen += _occurrences(stream, hold, key)
    if not held:
        return acting
    known = store.holds(unit.connection, [case.work.id for case, _, _ in held], sorted({key for _, _, key in held}))
    store.note_occurrences(unit.connection, seen)
    windows = {key: unit.now - hold.within for _, hold, key in held}
    counts = store.count_occurrences(unit.connection, windows)
    rows, done, enough = [], [], set()
    for case, hold, key in held:
        count, last = counts.get(key, (0, None))
        row = known.get(case.work.id)
        until = last + hold.within if last is not None else row.until if row is not None else unit.now
        if count >= hold.at_least or (row is not None and row.released):
            enough.add(key)
            done.append(case.work.id)
            continue
        acting.discard(case.work.id)
        if unit.now >= until:
            done.append(case.work.id)
            why = f"fewer than {hold.at_least} within {hold.within}"
            case.append(e.TicketClosed(reason=why), unit.now, {"why": why, "hold": key})
            continue
        if row is None:
            data = e.TicketHeld(
                key=key, at_least=hold.at_least, within_seconds=hold.within.total_seconds(), until=until
            )
            case.append(data, unit.now, {"why": f"{count} of {hold.at_least} within {hold.within}", "hold": key})
        rows.append({"ticket_id": case.work.id, "key": key, "until": until})
        case.wake_at(until)
    store.keep_holds(unit.connection, rows)
    roused = store.release_holds(unit.connection, sorted(enough), done)
    unit.rouse("router", [one for one in roused if one not in acting])
    return acting


def _key(hold: Hold, case: Case, facts: Mapping[str, Any]) -> str | None:
    """What the ticket is counted under; None when it is not to be held: people have acted on it, or it has no such fact."""
    ticket, value = case.ticket, facts.get(hold.per)
    if value is None or ticket.status != "new" or ticket.assignee is not None or ticket.group is not None:
        return None
    return f"{hold.per}={value}"


def _occurrences(stream: Sequence[Recorded], hold: Hold, key: str) -> list[dict[str, Any]]:
    """The ticket itself and every repeat noted on it; those noted before are left as they are."""
    found = []
    for event in stream:
        repeat = isinstance(event.data, e.TicketNoted) and event.data.repeat is not None
        if repeat or event.version == 1:
            row = {"key": key, "at": event.happened_at, "ticket_id": event.id, "version": event.version}
            found.append(row | {"expires_at": event.happened_at + hold.within})
    return found
