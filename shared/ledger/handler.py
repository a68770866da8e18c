"""What a service gives the ledger for one kind of item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from shared.ledger.unit import Result, Unit, Work


class Handler(Protocol):
    """Decides batches of one kind of item for one service."""

    service: str
    kind: str

    def handle(self, unit: Unit, batch: Sequence[Work]) -> Sequence[Result]:
        """Decide a batch inside the claim's transaction; own rows are written here, the rest is in the results."""
        ...
