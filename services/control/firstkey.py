"""The administrator's API key: the one in `SIGNALBOX_ADMIN_KEY`, else one made here when there is none yet."""

from __future__ import annotations

from sqlalchemy import Connection

from shared.access import keys
from shared.runtime.settings import Settings


def ensure(connection: Connection, settings: Settings) -> str | None:
    """See to it that there is one, and commit. Returns a key made just now: the only time that it can be shown."""
    if not settings.admin_key and keys.exists(connection, "admin"):
        connection.rollback()
        return None
    key = keys.create(
        connection,
        name="administrator",
        roles=frozenset({"admin"}),
        act_for=frozenset({"person", "customer", "automation"}),
        key=settings.admin_key,
    )
    connection.commit()
    return None if settings.admin_key else key
