"""Errors that say something about retrying.

LedgerError
  Transient    may succeed later: tried again, not counted towards quarantine
  Permanent    will not succeed: quarantined at once
(anything else is a bug: few retries, then quarantine, and it alerts)
"""

from __future__ import annotations

from datetime import timedelta


class LedgerError(Exception):
    """Base of the errors a handler may raise on purpose."""


class Transient(LedgerError):
    """The work may succeed later."""

    def __init__(self, message: str = "", retry_after: timedelta | None = None) -> None:
        super().__init__(message or self.__doc__)
        self.retry_after = retry_after


class Permanent(LedgerError):
    """The work cannot succeed as it is."""
