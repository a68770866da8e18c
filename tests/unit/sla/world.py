"""Short words for tests of the clocks: instants on Tuesday 2026-11-24 UTC, policies as a playbook writes them, facts in order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from services.sla.domain import facts as f
from services.sla.domain.clock import Clock
from services.sla.domain.compiling import compile_rules
from services.sla.domain.decide import Decision, decide
from services.sla.domain.terms import Library, Rules
from shared.calendar import BusinessCalendar
from shared.calendar.spec import parse_spec
from shared.contracts import events as e
from shared.playbook.sla import SlaPolicy
from shared.playbook.types import decode

OFFICE = BusinessCalendar(
    parse_spec(
        {
            "tz": "UTC",
            "weekly": [{"day": day, "start": "09:00", "end": "17:00"} for day in ("mon", "tue", "wed", "thu", "fri")],
        }
    )
)
NIGHTS = BusinessCalendar(
    parse_spec(
        {
            "tz": "UTC",
            "weekly": [{"day": day, "start": "20:00", "end": "06:00"} for day in ("mon", "tue", "wed", "thu", "fri")],
        }
    )
)
CALENDARS = {"office": OFFICE, "nights": NIGHTS}


def at(text: str, day: int = 24) -> datetime:
    """`09:30` or `09:30:01` on that day of November 2026 (the 24th is a Tuesday), UTC."""
    return datetime.fromisoformat(f"2026-11-{day:02}T{text}").replace(tzinfo=UTC)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def rules(*policies: dict[str, Any], version: int = 1) -> Rules:
    """A version with these policies; `when` is plain equality here."""
    written = [decode({"name": f"p{index}", **policy}, SlaPolicy) for index, policy in enumerate(policies)]
    matchers = [_matcher(policy.when) if policy.when else None for policy in written]
    return compile_rules(version, written, CALENDARS, matchers)


def _matcher(when: dict[str, Any]) -> Any:
    return lambda attributes: all(attributes.get(key) == value for key, value in when.items())


def library(*policies: dict[str, Any]) -> Library:
    return Library(1, {1: rules(*policies)})


class Ticket:
    """A ticket handled by `decide`, fact by fact or in batches, keeping every clock cycle and event."""

    def __init__(self, lib: Library | dict[str, Any]) -> None:
        self.library = lib if isinstance(lib, Library) else library(lib)
        self.decision: Decision | None = None
        self.cycles: dict[tuple[str, int], Clock] = {}
        self.told: list[tuple[datetime, e.Data]] = []

    def take(self, *facts: f.Fact, now: datetime | None = None) -> Decision:
        """Handle facts, by default at the instant of the last one."""
        now = now or facts[-1].at
        self.decision = decide(self.decision.state if self.decision else None, facts, now, self.library)
        self.cycles.update({(clock.metric, clock.cycle): clock for clock in self.decision.clocks})
        self.told += self.decision.events
        return self.decision

    def look(self, now: datetime) -> Decision:
        """Handle nothing but time."""
        return self.take(now=now)

    def clock(self, metric: str, cycle: int | None = None) -> Clock:
        """A cycle, by default the latest."""
        found = {number: clock for (name, number), clock in self.cycles.items() if name == metric}
        return found[cycle or max(found)]

    def of(self, kind: type[e.Data]) -> list[Any]:
        """Events of one kind, in the order told."""
        return [data for _, data in self.told if isinstance(data, kind)]


def opened(when: datetime, status: str = "new", **attributes: Any) -> f.Created:
    return f.Created(when, status, attributes)


def warned(ticket: Ticket) -> Sequence[tuple[str, str]]:
    """Which metric was warned of at which threshold."""
    return [(data.metric, data.threshold) for data in ticket.of(e.SlaWarned)]
