"""Ids: item ids in blocks from the database's sequence, random tokens, worker numbers."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import uuid

from sqlalchemy import Connection

BLOCK = 100
"""Width of one step of `ledger.id_seq`; migrations/versions/0001_ledger.py has the same number."""


class ItemIds:
    """Hands out item ids from blocks of `BLOCK`, so that most need no round trip. Threads may share one.

    A process that stops leaves a gap; ids are unique and grow roughly with time, and nothing relies on more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0
        self._end = 0

    def take(self, connection: Connection, count: int) -> list[int]:
        """The next `count` ids; asks `connection`'s database for blocks when the present one runs out."""
        with self._lock:
            taken = list(range(self._next, min(self._next + count, self._end)))
            self._next += len(taken)
            missing = count - len(taken)
            if missing:
                blocks = -(-missing // BLOCK)
                rows = connection.exec_driver_sql(
                    "select nextval('ledger.id_seq') from generate_series(1, %s)", (blocks,)
                ).all()
                fresh = [number for (start,) in rows for number in range(start, start + BLOCK)]
                taken += fresh[:missing]
                self._next, self._end = fresh[missing - 1] + 1, fresh[-1] + 1
            return taken


def random_token(size: int = 32) -> str:
    """An unguessable URL-safe token of `size` random bytes."""
    return secrets.token_urlsafe(size)


def random_bytes(size: int) -> bytes:
    """So many unguessable bytes."""
    return secrets.token_bytes(size)


def correlation_id() -> str:
    """A fresh id that ties together all that one request sets off."""
    return uuid.uuid4().hex


def process_name() -> str:
    """Host and process id: names a consumer of a Redis stream."""
    return f"{socket.gethostname()}-{os.getpid()}"
