"""Locks between processes that share a home; the kernel frees them when a holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.runtime.embedded.process import EmbeddedServerError, wait_until


def _try(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def exclusive(path: Path, *, timeout_seconds: float = 120.0) -> Iterator[None]:
    """Hold the lock file alone; raise `EmbeddedServerError` when others keep it for longer than the time-out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not wait_until(lambda: _try(descriptor, fcntl.LOCK_EX), timeout_seconds):
            raise EmbeddedServerError(f"{path}: another process has held this lock for {timeout_seconds:g} s")
        yield
    finally:
        os.close(descriptor)


class Lease:
    """One process's share in something that the last one to leave puts out. Freed by the kernel when the process dies."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        # Shared locks meet an exclusive one only for the moment in which somebody asks whether he is the last.
        if not wait_until(lambda: _try(self._descriptor, fcntl.LOCK_SH), 120.0):
            os.close(self._descriptor)
            raise EmbeddedServerError(f"{path}: another process holds this lock for itself")

    def leave(self) -> bool:
        """Give the share back; True when nobody else holds one. Call it under a lock that newcomers take too."""
        last = _try(self._descriptor, fcntl.LOCK_EX)
        os.close(self._descriptor)
        return last
