"""Single items outside a claim: found by key and locked, or let out of quarantine. For commands of people and operators."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from shared.ledger.kinds import KINDS
from shared.runtime.ids import ItemIds


def locked(connection: Connection, ids: ItemIds, kind: str, key: str) -> tuple[int, int, dict[str, Any]]:
    """Id, version and state of a generic item by its key, locked; made when it is not there yet (version 0).

    Waits for the lock: callers lock several items in the order of their keys.
    """
    connection.exec_driver_sql(
        "insert into ledger.item (id, kind, key) values (%s, %s, %s) on conflict (kind, key) do nothing",
        (ids.take(connection, 1)[0], kind, key),
    )
    row = connection.exec_driver_sql(
        "select id, version, state from ledger.item where kind = %s and key = %s for update", (kind, key)
    ).one()
    return row.id, row.version, row.state


def release(connection: Connection, service: str, kind: str, item_id: int) -> str | None:
    """Let an item out of a service's quarantine: due now, counts at zero. Returns its lane; None when it was not in quarantine.

    Takes the item's lock first, as everybody does who writes its agenda. The caller commits, then rings (service, lane).
    """
    connection.exec_driver_sql(f"select id from {KINDS[kind].table} where id = %s for update", (item_id,))
    row = connection.exec_driver_sql(
        """update ledger.agenda set quarantined_at = null, failures = 0, crashes = 0, error = null, due_at = ledger.now()
        where service = %s and kind = %s and id = %s and quarantined_at is not null returning lane""",
        (service, kind, item_id),
    ).one_or_none()
    return None if row is None else str(row.lane)
