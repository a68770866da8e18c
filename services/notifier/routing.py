"""Which provider a message goes to now, or until when it waits and why: circuits, shares, room, retry budget, quotas, caps.

One object for each claimed batch. Everything here is decided before a message is marked `sending`, so that a message in that state
is on its way at once and not queued behind others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.notifier import health_store
from services.notifier.channels.base import Kind
from services.notifier.channels.registry import driver_type
from services.notifier.health import State
from services.notifier.limits import Ask, Limits
from services.notifier.outcomes import is_retry
from services.notifier.planning import choose
from services.notifier.rows import Row
from shared.playbook.messages import Provider

TURN = timedelta(seconds=0.25)
"""A message whose provider has no room in this process is looked at again after this long."""
GRID = timedelta(seconds=5)
"""Messages that wait for a provider that cannot be reached come due together, at instants so far apart: each by itself would keep
a worker busy with claims that end in waiting.
"""
BUDGET_SHARE = 0.1
BUDGET_START, BUDGET_MOST, BUDGET_REFILL = 20.0, 500.0, 1.0
BUDGET_WAIT = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now: looked at again at `until`; `gather` collects it with others of that key."""

    until: datetime
    reason: str
    gather: str | None = None
    briefly: bool = False
    """For a moment only: not worth a row's rewriting."""


@dataclass(slots=True)
class Budget:
    """Retries are at most a tenth of first attempts, and one a second apart from that: a sick provider is not made sicker."""

    tokens: dict[str, tuple[float, datetime]] = field(default_factory=dict)

    def allows(self, provider: str, now: datetime, *, retry: bool) -> bool:
        """Count an attempt; False for a retry that there is no budget for."""
        left, at = self.tokens.get(provider, (BUDGET_START, now))
        if left < BUDGET_START:
            left = min(BUDGET_START, left + max(0.0, (now - at).total_seconds()) * BUDGET_REFILL)
        allowed = not retry or left >= 1
        spent = -BUDGET_SHARE if not retry else 1.0 if allowed else 0.0
        self.tokens[provider] = min(left - spent, BUDGET_MOST), now
        return allowed


@dataclass(frozen=True, slots=True)
class Sorted:
    """Candidates: those that are well with their shares, and those whose circuit is open."""

    well: list[Provider]
    open: list[Provider]
    shares: dict[str, float]


@dataclass(slots=True)
class Routes:
    """The choice for one batch."""

    connection: Connection
    now: datetime
    states: Mapping[str, State]
    room: Mapping[str, int]
    """How many more messages this process can take for a provider; one that is not named has room."""
    budget: Budget
    limits: Limits
    taken: Counter[str] = field(default_factory=Counter)
    sorted: dict[tuple[str, ...], Sorted] = field(default_factory=dict)
    """What is well and what is not among candidates, by their names: the same for the whole batch."""

    def choose(self, row: Row, candidates: Sequence[Provider], jitter: float) -> Provider | Wait:
        """A provider for a message; `candidates` is not empty."""
        names = tuple([one.name for one in candidates])
        known = self.sorted.get(names)
        if known is None:
            known = self.sorted[names] = self._sort(candidates)
        well = known.well
        if row.attempts:
            refused = {str(one["provider"]) for one in row.attempts if one.get("outcome") == str(Kind.BAD_ACCOUNT)}
            well = [one for one in well if one.name not in refused]
        found = choose(well, row.id, known.shares)
        if found is not None:
            return self._limited(row, found, jitter) or found
        probed = next((one for one in known.open if self._probes(one)), None)
        return probed or self._dead(known.open or list(candidates), jitter)

    def _sort(self, candidates: Sequence[Provider]) -> Sorted:
        states = [(one, self._state(one)) for one in candidates]
        well = [(one, state) for one, state in states if not state.is_open]
        return Sorted(
            [one for one, _ in well],
            [one for one, state in states if state.is_open],
            {one.name: state.share for one, state in well},
        )

    def _state(self, provider: Provider) -> State:
        return self.states.get(provider.name) or State(provider.name)

    def _probes(self, provider: Provider) -> bool:
        state = self._state(provider)
        return state.may_probe(self.now) and health_store.take_probe(self.connection, provider.name, self.now)

    def _dead(self, providers: Sequence[Provider], jitter: float) -> Wait:
        soonest = min(self._state(one).waits_until(self.now) for one in providers)
        names = ", ".join(one.name for one in providers)
        until = on_grid(soonest + (soonest - self.now) * jitter * 0.5)
        return Wait(until, f"no provider can be reached now ({names})")

    def _limited(self, row: Row, provider: Provider, jitter: float) -> Wait | None:
        if provider.name in self.room and self.taken[provider.name] >= self.room[provider.name]:
            return Wait(self.now + TURN * (1 + jitter), f"waits for its turn at {provider.name}", briefly=True)
        if not self.budget.allows(provider.name, self.now, retry=is_retry(row)):
            return Wait(self.now + BUDGET_WAIT * (0.5 + jitter), f"the retry budget of {provider.name} is used up")
        asked = asks(row, provider)
        seconds = self.limits.take(self.connection, asked, self.now) if asked else 0.0
        if seconds > 0:
            key = f"limit|{provider.name}|{row.address}" if provider.serves == "robot" else None
            return Wait(self.now + timedelta(seconds=seconds), f"the limits of {provider.name} leave no room now", key)
        self.taken[provider.name] += 1
        return None


def on_grid(at: datetime) -> datetime:
    """The first instant of the grid that is not before `at`."""
    past = timedelta(seconds=at.timestamp() % GRID.total_seconds())
    return at if not past else at - past + GRID


def asks(row: Row, provider: Provider) -> list[Ask]:
    """The quotas that one message counts for: those of the playbook and those its provider enforces in silence."""
    found: list[Ask] = []
    caps = driver_type(provider.driver).caps
    if not (caps or provider.quotas):
        return found
    for quota in (*provider.quotas, *caps):
        of = {"account": "", "sender": row.address if provider.serves == "robot" else "", "recipient": row.address}[
            quota.of
        ]
        found.append(Ask(provider.name, quota.of, of, row.recipient, quota.limit, quota.per.total_seconds()))
    return found
