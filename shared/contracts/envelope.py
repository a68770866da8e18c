"""What surrounds an event's data: who did it, when, why, and where it stands in its item's stream."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from shared.contracts.events import Data


class Actor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who acted. `kind`: person, customer, service or automation; `via`: the API key that acted for them, when one did."""

    kind: str
    id: str
    address: str | None = None
    via: str | None = None


class New(msgspec.Struct, frozen=True):
    """An event about to be appended. `happened_at` None means: at the transaction's business now."""

    data: Data
    reason: dict[str, Any] | None = None
    happened_at: datetime | None = None


class Recorded(msgspec.Struct, frozen=True):
    """An event as the ledger holds it. `position` is global, `version` is the item's own, without gaps, from 1."""

    kind: str
    id: int
    version: int
    type: str
    data: Data
    happened_at: datetime
    recorded_at: datetime
    actor: Actor
    given: bool
    playbook: int
    correlation: str
    position: int = 0
    reason: dict[str, Any] | None = None
