"""Trouble on a schedule seen ahead: people on leave while they are on duty, and times nobody covers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.oncall.schedule import Schedule
from shared.oncall.timeline import Span, Stretch

LOOK_AHEAD = timedelta(days=30)
"""How far `check` and `doctor` look for gaps and conflicts."""


@dataclass(frozen=True, slots=True)
class Absence:
    """Somebody is away from `start` to `end` (aware, half-open); `delegate` stands in, if anybody does."""

    user: str
    start: datetime
    end: datetime
    delegate: str | None = None


@dataclass(frozen=True, slots=True, order=True)
class Conflict:
    """`user` is on call and away at once. `covered`: others are on call with them all that time, or a delegate stands in."""

    start: datetime
    end: datetime
    user: str
    delegate: str | None = None
    covered: bool = False


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is wrong with one schedule in a window, each list in order of time."""

    gaps: tuple[Span, ...]
    conflicts: tuple[Conflict, ...]

    @property
    def sound(self) -> bool:
        """Somebody is on call and here at every instant of the window."""
        return not self.gaps and all(conflict.covered for conflict in self.conflicts)


def outlook(schedule: Schedule, absences: Iterable[Absence], now: datetime, ahead: timedelta = LOOK_AHEAD) -> Outlook:
    """Gaps and conflicts of a schedule from `now` on."""
    end = now + ahead
    return Outlook(tuple(schedule.gaps(now, end)), tuple(conflicts(schedule, absences, now, end)))


def conflicts(schedule: Schedule, absences: Iterable[Absence], start: datetime, end: datetime) -> list[Conflict]:
    """Every stretch of duty that an absence cuts into, inside the window."""
    away: dict[str, list[Absence]] = {}
    for absence in absences:
        if absence.start < end and absence.end > start:
            away.setdefault(absence.user, []).append(absence)
    duty = schedule.shifts(start, end)
    found = []
    for stretch in duty:
        for absence in away.get(stretch.user, ()):
            opens, closes = max(stretch.start, absence.start), min(stretch.end, absence.end)
            if opens < closes:
                others = [one for one in duty if one.user != stretch.user and one.start < closes and one.end > opens]
                here = [span for one in others for span in _present(one, away.get(one.user, ()))]
                covered = absence.delegate is not None or _covers(here, opens, closes)
                found.append(Conflict(opens, closes, stretch.user, absence.delegate, covered))
    return sorted(found, key=lambda one: (one.start, one.end, one.user))


def _present(duty: Stretch, absences: Iterable[Absence]) -> list[Span]:
    """The parts of a stretch of duty in which its person is here."""
    spans = [(duty.start, duty.end)]
    for absence in absences:
        left = [(start, min(end, absence.start)) for start, end in spans]
        right = [(max(start, absence.end), end) for start, end in spans]
        spans = [(start, end) for start, end in (*left, *right) if start < end]
    return spans


def _covers(spans: Iterable[Span], start: datetime, end: datetime) -> bool:
    """Whether the spans leave no hole between `start` and `end`."""
    reached = start
    for opens, closes in sorted(spans):
        if opens > reached:
            break
        reached = max(reached, closes)
    return reached >= end


def uncovered(outlooks: Mapping[str, Outlook]) -> list[str]:
    """One sentence for each thing wrong, schedules in order of name; what `check` and `doctor` print."""
    lines = []
    for name, one in sorted(outlooks.items()):
        lines += [f"schedule {name}: nobody is on call from {_text(start)} to {_text(end)}" for start, end in one.gaps]
        for conflict in one.conflicts:
            helper = f", {conflict.delegate} stands in" if conflict.delegate else ""
            helper = helper or (", others are on call" if conflict.covered else ", nobody stands in")
            span = f"from {_text(conflict.start)} to {_text(conflict.end)}"
            lines.append(f"schedule {name}: {conflict.user} is on call and away {span}{helper}")
    return lines


def _text(at: datetime) -> str:
    return at.isoformat(timespec="minutes")
