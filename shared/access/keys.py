"""API keys: made once, shown once, kept as SHA-256 hashes (256 random bits need no slow hash)."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row

from shared.access.principals import Principal
from shared.runtime.clock import monotonic
from shared.runtime.ids import random_token

CACHE_SECONDS = 2.0
"""How long a revoked key may still be believed."""


def hash_key(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def create(
    connection: Connection,
    *,
    name: str,
    roles: frozenset[str],
    person: str | None = None,
    act_for: frozenset[str] = frozenset(),
    key: str | None = None,
) -> str:
    """Store a new key (made here unless given) and return it; this is the only time it can be read. Repeats are no-ops."""
    key = key or f"sb_{random_token()}"
    connection.exec_driver_sql(
        """insert into access.api_key (hash, name, roles, person, act_for) values (%s, %s, %s, %s, %s)
        on conflict (hash) do update set name = excluded.name, roles = excluded.roles, person = excluded.person,
        act_for = excluded.act_for, revoked_at = null""",
        (hash_key(key), name, sorted(roles), person, sorted(act_for)),
    )
    return key


def exists(connection: Connection, role: str) -> bool:
    """Whether any key with this role is in force."""
    return bool(
        connection.exec_driver_sql(
            "select exists (select from access.api_key where %s = any(roles) and revoked_at is null)", (role,)
        ).scalar_one()
    )


def listed(connection: Connection) -> Sequence[Row[Any]]:
    """Every key, also revoked ones, as `id, name, roles, person, act_for, revoked_at` (UTC)."""
    return connection.exec_driver_sql(
        "select id, name, roles, person, act_for, revoked_at at time zone 'UTC' as revoked_at from access.api_key order by id"
    ).all()


def revoke(connection: Connection, key_id: int) -> bool:
    """Refuse a key from now on; whoever remembers it does so for `CACHE_SECONDS`. False: there is none in force."""
    done = connection.exec_driver_sql(
        "update access.api_key set revoked_at = clock_timestamp() where id = %s and revoked_at is null", (key_id,)
    )
    return done.rowcount == 1


@dataclass(slots=True)
class KeyCache:
    """Looks keys up, remembering answers for a moment. Threads may share one."""

    _known: dict[bytes, tuple[float, Principal | None]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def remembered(self, key: str) -> tuple[bool, Principal | None]:
        """(known, principal) without asking the database."""
        at = monotonic()
        known = self._known.get(hash_key(key))
        return (False, None) if known is None or at - known[0] > CACHE_SECONDS else (True, known[1])

    def look_up(self, connection: Connection, key: str) -> Principal | None:
        """The principal of a key, or None for an unknown or revoked one."""
        hashed = hash_key(key)
        row = connection.exec_driver_sql(
            "select id, name, roles, person, act_for from access.api_key where hash = %s and revoked_at is null",
            (hashed,),
        ).one_or_none()
        found = (
            None
            if row is None
            else Principal(row.id, frozenset(row.roles), row.person, frozenset(row.act_for), name=row.name)
        )
        with self._lock:
            if len(self._known) > 10_000:
                self._known.clear()
            self._known[hashed] = (monotonic(), found)
        return found
