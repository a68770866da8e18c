"""The errors of the escalation service.

    EscalationError
        StateUnreadable      a stored chain state this version cannot read

Expected outcomes (nobody on call, a stale timer, a chain that is over) are values with a reason, never exceptions.
"""

from __future__ import annotations


class EscalationError(Exception):
    """Base of all errors of this service."""


class StateUnreadable(EscalationError):
    """A stored chain state cannot be read; the item is quarantined, not guessed at."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)
