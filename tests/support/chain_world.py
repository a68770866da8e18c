"""A small world for chains: people, managers, groups and schedules as plain dictionaries, and time in minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from services.escalation.domain.chain.engine import decide, start
from services.escalation.domain.chain.state import Cause, ChainState, Command, Decision, Effect, Facts, Stepped
from shared.calendar.business import ALWAYS_OPEN, BusinessCalendar
from shared.calendar.spec import parse_spec
from shared.playbook.escalation import Chain
from shared.playbook.types import decode

MONDAY = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
DAYTIME = BusinessCalendar(
    parse_spec(
        {
            "tz": "UTC",
            "weekly": [{"day": day, "start": "08:00", "end": "18:00"} for day in ("mon", "tue", "wed", "thu", "fri")],
        }
    )
)


def minute(count: float) -> datetime:
    """Minutes since Monday 08:00 UTC, when `daytime` opens."""
    return MONDAY + timedelta(minutes=count)


@dataclass(frozen=True)
class World:
    """Everybody is active and present unless named in `gone` or `away` (person → who stands in, or None)."""

    managers: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    roles: Mapping[str, Sequence[str]] = field(default_factory=dict)
    schedules: Mapping[str, Sequence[str]] = field(default_factory=dict)
    away: Mapping[str, str | None] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()

    def is_active(self, person: str) -> bool:
        return person not in self.gone

    def manager_of(self, person: str) -> str | None:
        return self.managers.get(person)

    def members_of(self, group: str) -> Sequence[str]:
        return self.groups.get(group, ())

    def holders_of(self, role: str) -> Sequence[str]:
        return self.roles.get(role, ())

    def delegate_of(self, person: str, at: datetime) -> str | None:
        return self.away.get(person, person)

    def on_call(self, schedule: str, at: datetime) -> Sequence[str]:
        return self.schedules.get(schedule, ())

    def hours(self, calendar: str | None) -> BusinessCalendar:
        return DAYTIME if calendar == "daytime" else ALWAYS_OPEN


def chain(*steps: dict[str, Any], **more: Any) -> Chain:
    return decode({"name": "test", "steps": list(steps), **more}, Chain)


@dataclass
class Running:
    """A chain in a world, driven by hand; keeps what it said."""

    state: ChainState
    world: World
    facts: Facts = field(default_factory=Facts)
    said: list[Effect] = field(default_factory=list)
    due_at: datetime | None = None

    def at(self, count: float, *commands: Command) -> Decision:
        return self.decide(minute(count), *commands)

    def decide(self, now: datetime, *commands: Command) -> Decision:
        decision = decide(self.state, commands, self.facts, self.world, now)
        self.state, self.due_at = decision.state, decision.due_at
        self.said.extend(decision.effects)
        return decision

    def run(self, until: float) -> None:
        """Wake the chain whenever it asks to, up to the given minute."""
        while self.due_at is not None and self.due_at <= minute(until):
            self.decide(self.due_at)

    def steps(self) -> list[tuple[float, tuple[str, ...]]]:
        """The minute and the people of each step that reached anybody."""
        found = [one for one in self.said if isinstance(one, Stepped) and (one.targets or one.copies)]
        return [((one.at - MONDAY) / timedelta(minutes=1), (*one.targets, *one.copies)) for one in found]

    def kinds(self) -> list[str]:
        return [type(one).__name__ for one in self.said]


def begin(
    policy: Chain, world: World | None = None, owner: str | None = "owner", at: float = 0, **cause: Any
) -> Running:
    """A chain started and decided at minute `at`, for a stall at that minute unless the cause says otherwise."""
    known = world or World()
    why = Cause(kind="node", owner=owner, **{"stalled_at": minute(at), **cause})
    running = Running(start(1, policy, why, known, minute(at)), known, Facts(owner=owner))
    running.decide(minute(at))
    return running
