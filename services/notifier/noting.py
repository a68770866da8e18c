"""What a process sees of providers between two writes to their shared state."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from services.notifier import health_store
from services.notifier.channels.base import Kind, Outcome
from services.notifier.health import Seen, State
from shared.ledger.unit import Unit

log = structlog.get_logger()


def noted(unit: Unit, seen: Mapping[str, Seen]) -> None:
    """Add what was seen of providers to their shared states, and say what changed by it."""
    for state, why in health_store.note(unit.connection, seen, unit.now):
        log.warning("provider_changed", provider=state.provider, open=state.is_open, share=state.share, why=why)


@dataclass(slots=True)
class Notes:
    """Trouble is written with the batch it was seen in; that all is well, every few seconds. Threads may share one."""

    watched: frozenset[str] = frozenset()
    """Providers that are not at rest: what is seen of them is written at once."""
    _kinds: dict[str, list[Kind]] = field(default_factory=dict)
    _codes: dict[str, str] = field(default_factory=dict)
    _written_at: dict[str, datetime] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def watch(self, states: Iterable[State]) -> None:
        """Told by whoever reads the shared states."""
        self.watched = frozenset(one.provider for one in states if one.is_open or one.share < 1 or one.in_a_row)

    def write(self, unit: Unit, outcomes: Iterable[tuple[str, Outcome | None]]) -> None:
        """Note outcomes of calls, inside the transaction that records them."""
        with self._lock:
            trouble = set(self.watched)
            for provider, outcome in outcomes:
                if outcome is None:
                    continue
                self._kinds.setdefault(provider, []).append(outcome.kind)
                if outcome.kind in (Kind.TRANSIENT, Kind.UNKNOWN, Kind.BAD_ACCOUNT):
                    trouble.add(provider)
                    self._codes[provider] = f"{outcome.code} {outcome.detail}".strip()[:200]
            due = {
                name: Seen(tuple(kinds), codes=self._codes.get(name, ""))
                for name, kinds in self._kinds.items()
                if name in trouble or self._stale(name, unit.now)
            }
            for name in due:
                del self._kinds[name]
                self._codes.pop(name, None)
                self._written_at[name] = unit.now
        if due:
            noted(unit, due)

    def _stale(self, provider: str, now: datetime) -> bool:
        return now - self._written_at.setdefault(provider, now) >= health_store.WRITE_EVERY
