"""What a played history comes to: counted while it goes, from the events alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import Any

from rich.console import Group as Lines
from rich.table import Table

from shared.contracts import events as e
from shared.contracts.envelope import Recorded

SHOWN_AGENTS = 10
SHOWN_GROUPS = 25


@dataclass(slots=True)
class Tally:
    """Hears every event once, in order."""

    events: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    breaches: dict[str, Counter[str]] = field(default_factory=dict)
    """Priority -> metric -> how often."""
    escalations: Counter[str] = field(default_factory=Counter)
    """Cause -> chains begun."""
    steps: Counter[int] = field(default_factory=Counter)
    """Level -> steps taken."""
    deliveries: dict[str, Counter[str]] = field(default_factory=dict)
    """Channel -> outcome -> how often."""
    assigned: Counter[str] = field(default_factory=Counter)
    most_open: Counter[str] = field(default_factory=Counter)
    first_response: list[float] = field(default_factory=list)
    first: datetime | None = None
    last: datetime | None = None
    _open: Counter[str] = field(default_factory=Counter)
    _holder: dict[int, str] = field(default_factory=dict)
    _unanswered: dict[int, datetime] = field(default_factory=dict)

    def hear(self, event: Recorded) -> None:
        """Count one event."""
        self.events[event.type] += 1
        self.last = event.recorded_at
        hear = _HEARD.get(event.type)
        if hear is not None:
            hear(self, event, event.data)

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data, the same for the same history."""
        agents = {
            agent: {"assigned": self.assigned[agent], "most_open": self.most_open[agent]}
            for agent in sorted(self.assigned)
        }
        return {
            "from": None if self.first is None else self.first.isoformat(),
            "to": None if self.last is None else self.last.isoformat(),
            "tickets": self.events["ticket.opened"],
            "events": {"total": sum(self.events.values()), "by_type": _sorted(self.events)},
            "warnings": _sorted(self.warnings),
            "breaches": {priority: _sorted(found) for priority, found in sorted(self.breaches.items())},
            "escalations": {
                "raised": _sorted(self.escalations),
                "steps_by_level": {str(level): count for level, count in sorted(self.steps.items())},
            },
            "deliveries": {channel: _sorted(found) for channel, found in sorted(self.deliveries.items())},
            "agents": agents,
            "median_first_response_seconds": round(median(self.first_response), 3) if self.first_response else None,
            "answered": len(self.first_response),
        }

    # ---- one for each kind of event ------------------------------------------------------------------------------------

    def opened(self, event: Recorded, data: e.TicketOpened) -> None:
        self.first = self.first or event.recorded_at
        self._unanswered[event.id] = event.happened_at

    def is_assigned(self, event: Recorded, data: e.TicketAssigned) -> None:
        self._release(event.id)
        self._holder[event.id] = data.agent
        self.assigned[data.agent] += 1
        self._open[data.agent] += 1
        self.most_open[data.agent] = max(self.most_open[data.agent], self._open[data.agent])

    def released(self, event: Recorded, data: e.Data) -> None:
        self._release(event.id)

    def over(self, event: Recorded, data: e.Data) -> None:
        self._release(event.id)
        if event.type != "ticket.resolved":
            self._unanswered.pop(event.id, None)

    def replied(self, event: Recorded, data: e.TicketReplied) -> None:
        if data.author == "agent" and not data.automated:
            since = self._unanswered.pop(event.id, None)
            if since is not None:
                self.first_response.append((event.happened_at - since).total_seconds())

    def warned(self, event: Recorded, data: e.SlaWarned) -> None:
        self.warnings[data.metric] += 1

    def breached(self, event: Recorded, data: e.SlaBreached) -> None:
        self.breaches.setdefault(data.priority or "none", Counter())[data.metric] += 1

    def raised(self, event: Recorded, data: e.EscalationRaised) -> None:
        self.escalations[data.cause] += 1

    def stepped(self, event: Recorded, data: e.EscalationStepped) -> None:
        self.steps[data.level] += 1

    def delivered(self, event: Recorded, data: Any) -> None:
        self.deliveries.setdefault(data.channel, Counter())[event.type.removeprefix("delivery.")] += 1

    def _release(self, ticket_id: int) -> None:
        holder = self._holder.pop(ticket_id, None)
        if holder is not None:
            self._open[holder] -= 1


_HEARD: dict[str, Any] = {
    "ticket.opened": Tally.opened,
    "ticket.assigned": Tally.is_assigned,
    "ticket.declined": Tally.released,
    "ticket.transferred": Tally.released,
    "ticket.queued": Tally.released,
    "ticket.resolved": Tally.over,
    "ticket.closed": Tally.over,
    "ticket.merged": Tally.over,
    "ticket.replied": Tally.replied,
    "sla.warned": Tally.warned,
    "sla.breached": Tally.breached,
    "escalation.raised": Tally.raised,
    "escalation.stepped": Tally.stepped,
    **{f"delivery.{outcome}": Tally.delivered for outcome in ("sent", "failed", "unknown", "suppressed")},
}


def shown(found: dict[str, Any], title: str) -> Lines:
    """The report for people."""
    table = Table(title=title, show_header=False, title_justify="left")
    breaches = found["breaches"]
    rows: list[tuple[str, Any]] = [
        ("from – to", f"{found['from']} – {found['to']}"),
        ("tickets", found["tickets"]),
        ("events", found["events"]["total"]),
        ("warnings", f"{sum(found['warnings'].values())} ({_words(found['warnings'])})"),
        ("breaches", sum(sum(one.values()) for one in breaches.values())),
        *((f"  {priority}", _words(one)) for priority, one in breaches.items()),
        ("escalations", f"{sum(found['escalations']['raised'].values())} ({_words(found['escalations']['raised'])})"),
        ("  steps by level", _words(found["escalations"]["steps_by_level"])),
        ("deliveries", sum(sum(one.values()) for one in found["deliveries"].values())),
        *((f"  {channel}", _words(one)) for channel, one in found["deliveries"].items()),
        ("median first response", _minutes(found["median_first_response_seconds"])),
        ("whose time", _shares(found.get("elapsed_seconds", {}).get("by_kind", {}))),
        ("agents with tickets", len(found["agents"])),
    ]
    for name, value in rows:
        table.add_row(name, str(value))
    loads = Table(title="Busiest agents", title_justify="left")
    for heading in ("agent", "assigned", "most open at once"):
        loads.add_column(heading, justify="left" if heading == "agent" else "right")
    busiest = sorted(found["agents"].items(), key=lambda one: (-one[1]["assigned"], one[0]))[:SHOWN_AGENTS]
    for agent, load in busiest:
        loads.add_row(agent, str(load["assigned"]), str(load["most_open"]))
    return Lines(table, loads)


def compared(found: dict[str, Any]) -> Lines:
    """What differs between two playbooks, for people: the first is A, the second B."""
    a, b = found["playbooks"]
    total = found["total"]
    table = Table(title=f"{found['history']['name']}: A = {a}, B = {b}", title_justify="left")
    for heading in (
        "group", "priority", "tickets", "breached A", "B", "only A", "only B", "escalated A", "B", "otherwise",
        "messages A", "B", "told otherwise",
    ):  # fmt: skip
        table.add_column(heading, justify="left" if heading in ("group", "priority") else "right")
    rows = [row for row in found["by_group_and_priority"] if _differs(row)]
    rows.sort(key=lambda row: (-row["told_otherwise"] - sum(row["breached_only"]), row["group"], row["priority"]))
    for row in rows[:SHOWN_GROUPS]:
        table.add_row(row["group"], row["priority"], *_numbers(row))
    table.add_section()
    table.add_row("all", "", *_numbers(total))
    people = sorted(found["messages_by_person"].items(), key=lambda one: (-abs(one[1][1] - one[1][0]), one[0]))
    told = Table(title="People who would be told more or less", title_justify="left")
    for heading in ("person", "messages A", "B"):
        told.add_column(heading, justify="left" if heading == "person" else "right")
    for person, (first, second) in people[:SHOWN_AGENTS]:
        told.add_row(person, str(first), str(second))
    left = len(rows) - SHOWN_GROUPS
    more = f"{left} more groups and priorities differ; --out FILE has them all, ticket by ticket." if left > 0 else ""
    same = LEGEND if _differs(total) else "Nothing differs."
    return Lines(table, *(line for line in (more, same) if line), *([told] if people else []))


LEGEND = (
    "Only A, only B: tickets with a clock (each cycle is one) that is breached under that playbook alone; it may be in both.\n"
    "Groups and priorities in which nothing differs are left out; `all` counts them too."
)


def _differs(row: dict[str, Any]) -> bool:
    return bool(sum(row["breached_only"]) or row["escalated_otherwise"] or row["told_otherwise"])


def _numbers(row: dict[str, Any]) -> list[str]:
    return [
        str(one)
        for one in (
            row["tickets"], *row["breached"], *row["breached_only"], *row["escalated"], row["escalated_otherwise"],
            *row["told"], row["told_otherwise"],
        )
    ]  # fmt: skip


def _minutes(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds / 60:.1f} min"


def _shares(seconds: dict[str, float]) -> str:
    total = sum(seconds.values())
    return ", ".join(f"{name} {part / total:.0%}" for name, part in seconds.items()) if total else "-"


def _words(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
