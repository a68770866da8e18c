"""The claim: due items of one lane, with what each has not seen yet. Never waits for a lock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection

from shared.contracts.envelope import Recorded
from shared.ledger import sql
from shared.ledger.kinds import KINDS
from shared.ledger.unit import Work, decode_ticket, dumps, recorded

Who = Literal["sound", "suspects", "alone"]
_CRASHES: dict[Who, str] = {
    "sound": "= 0",
    "suspects": "= 1 and a.crashes > 0",
    "alone": "> 1 and a.crashes > 0",
}
"""`> 0` names the index of suspects (`agenda_suspects`): else all that is due would be read for those few."""


def claim(
    connection: Connection, service: str, kind: str, lane: str, limit: int, who: Who = "sound"
) -> tuple[list[Work], datetime | None]:
    """Lock up to `limit` due items of a lane and their agenda rows; items that others hold are passed over.

    `suspects` were in a batch whose worker died, and are claimed a few at a time; who was among a few is claimed `alone`.
    Returns the work, earliest due first and without its events yet, and business now (None when there is none).
    """
    statement = _statement(sql.CLAIM, kind, crashes=_CRASHES[who])
    rows = connection.exec_driver_sql(statement, {"service": service, "kind": kind, "lane": lane, "limit": limit}).all()
    return [_work(kind, row) for row in rows], rows[0].now if rows else None


def claim_ids(
    connection: Connection, service: str, kind: str, ids: Sequence[int]
) -> tuple[list[Work], datetime | None]:
    """The same for named items, as far as they are still due and free."""
    statement = _statement(sql.CLAIM_IDS, kind)
    rows = connection.exec_driver_sql(statement, {"service": service, "kind": kind, "ids": list(ids)}).all()
    return [_work(kind, row) for row in rows], rows[0].now if rows else None


def with_events(connection: Connection, work: Sequence[Work]) -> list[Work]:
    """The claimed items with the events after `seen`. A statement of its own: after the lock, or a wake-up could be lost."""
    if not work:
        return []
    kind = work[0].kind
    behind = [{"id": one.id, "v": one.seen} for one in work if one.seen < one.version]
    if not behind:
        return list(work)
    by_id = events_after(connection, kind, {row["id"]: row["v"] for row in behind})
    return [_with(one, tuple(by_id.get(one.id, ()))) for one in work]


def events_after(connection: Connection, kind: str, seen: dict[int, int]) -> dict[int, list[Recorded]]:
    """Events of each item after the given version, in version order."""
    rows = connection.exec_driver_sql(
        sql.EVENTS_SINCE, {"seen": dumps([{"id": i, "seen": v} for i, v in seen.items()]), "kind": kind}
    )
    by_id: dict[int, list[Recorded]] = {}
    for row in rows:
        by_id.setdefault(row.id, []).append(recorded(kind, row))
    return by_id


def _with(work: Work, events: tuple[Recorded, ...]) -> Work:
    """The same work with its events."""
    return Work(
        work.kind,
        work.id,
        work.lane,
        work.version,
        work.seen,
        work.failures,
        work.crashes,
        work.due_at,
        work.item,
        events,
    )


def _statement(template: str, kind: str, **parts: str) -> str:
    known = KINDS[kind]
    return template.format(table=known.table, state="i.state::text" if known.stateful else "null::text", **parts)


def _work(kind: str, row: Any) -> Work:
    item = (
        None if row.state is None else decode_ticket(row.state) if kind == "ticket" else msgspec.json.decode(row.state)
    )
    return Work(kind, row.id, row.lane, row.version, row.seen_version, row.failures, row.crashes, row.due_at, item)
