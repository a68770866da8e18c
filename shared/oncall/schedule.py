"""A schedule compiled from its spec, and the questions one asks it.

Compile once, ask often: a `Schedule` is immutable and cheap to share between threads. Windows are half-open `[start, end)`; all
instants may be in any zone and come back as aware UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain
from zoneinfo import ZoneInfo

from shared.oncall import timeline
from shared.oncall.errors import ScheduleError
from shared.oncall.recurrence import Recurrence
from shared.oncall.rotation import Rotation
from shared.oncall.timeline import OVERRIDE_LEVEL, Item, Role, Span, Stretch
from shared.oncall.walltime import as_instant, instant, wall_of
from shared.playbook.escalation import DAYS, RuleSpec, ScheduleSpec, ShiftSpec

_DAY = timedelta(days=1)
_SLACK = timedelta(
    days=2
)  # zones differ by up to 26 hours, and Samoa once skipped a day: more than any wall-clock surprise
_INSTANT = timedelta(microseconds=1)


class Schedule:
    """Who is on call, for any instant, past or future.

    Raises:
        ScheduleError: a rotation that rules ask for is missing.
    """

    __slots__ = ("_fixed", "_rotation", "_rules", "_shifts", "spec", "zone")

    def __init__(self, spec: ScheduleSpec) -> None:
        self.spec = spec
        self.zone = ZoneInfo(spec.tz)
        self._rotation = Rotation(spec.rotation, self.zone) if spec.rotation is not None else None
        rotations = {name: Rotation(one, self.zone) for name, one in spec.rotations.items()}
        try:
            self._rules = tuple(_Rule(rule, rotations, self.zone) for rule in spec.rules)
        except KeyError as missing:
            raise ScheduleError(spec.name, f"no rotation {missing}") from missing
        self._shifts = tuple(_Shift(shift, self.zone) for shift in spec.shifts)
        self._fixed = tuple(_fixed_items(spec, self.zone))

    @property
    def rotation(self) -> Rotation:
        """The plain rotation of the schedule, for hand-offs and bounds of shifts.

        Raises:
            ScheduleError: the schedule has none.
        """
        if self._rotation is None:
            raise ScheduleError(self.spec.name, "has no plain rotation")
        return self._rotation

    def users_at(self, at: datetime) -> frozenset[str]:
        """Everybody on call at the instant."""
        at = at.astimezone(UTC)
        items = (item for item in self._items(at, at + _INSTANT) if item.start <= at < item.end)
        return timeline.resolve(items)

    def shifts(self, start: datetime, end: datetime) -> list[Stretch]:
        """Every person's unbroken times on call, cut at the window."""
        start, end = start.astimezone(UTC), end.astimezone(UTC)
        return timeline.stretches(self._items(start, end), start, end) if start < end else []

    def gaps(self, start: datetime, end: datetime) -> list[Span]:
        """The times inside the window in which nobody is on call."""
        start, end = start.astimezone(UTC), end.astimezone(UTC)
        return timeline.gaps(self._items(start, end), start, end) if start < end else []

    def next_change(self, at: datetime, horizon: timedelta) -> datetime | None:
        """The first instant after `at` at which other people are on call, within `horizon`."""
        start = at.astimezone(UTC)
        pieces = timeline.segments(self._items(start, start + horizon), start, start + horizon)
        now: frozenset[str] | None = None
        for opens, _, people in pieces:
            if now is not None and people != now:
                return opens
            now = people
        return None

    def _items(self, start: datetime, end: datetime) -> Iterator[Item]:
        rotation: Iterator[Item] = iter(())
        if self._rotation is not None:
            rotation = _held(self._rotation, start, end)
        rules = (item for rule in self._rules for item in rule.items(start, end))
        shifts = (item for shift in self._shifts for item in shift.items(start, end))
        return chain(rotation, rules, shifts, self._fixed)


def _held(rotation: Rotation, start: datetime, end: datetime) -> Iterator[Item]:
    """Who holds the rotation in `[start, end)`, cut at it."""
    for turn in rotation.turns(start, end):
        if (user := rotation.holder(turn)) is not None:
            yield Item(max(turn.start, start), min(turn.end, end), Role.ON, user)


class _Rule:
    """A weekly rule: on its days, from a wall time to a wall time, one user or whoever holds a rotation."""

    __slots__ = ("_days", "_end", "_rotation", "_start", "_user", "_zone")

    def __init__(self, spec: RuleSpec, rotations: dict[str, Rotation], zone: ZoneInfo) -> None:
        self._zone = zone
        self._days = frozenset(DAYS.index(day) for day in spec.days)
        self._start, self._end = _since_midnight(spec.start), _since_midnight(spec.end)
        if self._end <= self._start:
            self._end += _DAY
        self._user = spec.target.user
        self._rotation = rotations[spec.target.rotation] if spec.target.rotation is not None else None

    def items(self, start: datetime, end: datetime) -> Iterator[Item]:
        day, last = (start - _SLACK).date(), (end + _DAY).date()
        while day <= last:
            if day.weekday() in self._days:
                midnight = datetime.combine(day, time())
                opens, closes = instant(midnight + self._start, self._zone), instant(midnight + self._end, self._zone)
                if opens < closes and opens < end and closes > start:
                    yield from self._covered(opens, closes)
            day = _next(day)

    def _covered(self, opens: datetime, closes: datetime) -> Iterator[Item]:
        if self._rotation is not None:
            yield from _held(self._rotation, opens, closes)
        elif self._user is not None:
            yield Item(opens, closes, Role.ON, self._user)


def _next(day: date) -> date:
    return day + _DAY


def _since_midnight(text: str) -> timedelta:
    hours, minutes, *seconds = (int(part) for part in text.split(":"))
    return timedelta(hours=hours, minutes=minutes, seconds=sum(seconds))


class _Shift:
    """A shift with a level, held by its groups in turn (`rolling`) or by all of them together."""

    __slots__ = ("_level", "_recurrence", "_since", "_spec", "_until", "_zone")

    def __init__(self, spec: ShiftSpec, zone: ZoneInfo) -> None:
        self._spec, self._zone = spec, zone
        self._recurrence = Recurrence(spec, wall_of(spec.start, zone))
        self._since = as_instant(spec.rotation_start if spec.rotation_start is not None else spec.start, zone)
        self._until = as_instant(spec.until, zone) if spec.until is not None else None
        self._level = OVERRIDE_LEVEL if spec.kind == "override" else spec.priority

    def items(self, start: datetime, end: datetime) -> Iterator[Item]:
        """An occurrence is held from `rotation_start` at the earliest and given back at `until` at the latest."""
        low, high = wall_of(start, self._zone) - self._spec.duration - _SLACK, wall_of(end, self._zone) + _SLACK
        for occurrence in self._recurrence.between(low, high):
            opens = max(instant(occurrence.start, self._zone), self._since)
            closes = instant(occurrence.start + self._spec.duration, self._zone)
            if self._until is not None:
                closes = min(closes, self._until)
            if opens < closes and opens < end and closes > start:
                for user in self._group(occurrence.turn):
                    yield Item(opens, closes, Role.ON, user, level=self._level)

    def _group(self, turn: int) -> tuple[str, ...]:
        groups = self._spec.users
        if self._spec.kind == "rolling":
            return groups[turn % len(groups)] if groups else ()
        return tuple(user for group in groups for user in group)


def _fixed_items(spec: ScheduleSpec, zone: ZoneInfo) -> Iterator[Item]:
    """Overrides, swaps and temporary schedules: the parts that do not recur."""
    for override in spec.overrides:
        start, end = as_instant(override.start, zone), as_instant(override.end, zone)
        if override.add is None:
            yield Item(start, end, Role.REMOVE, other=override.remove or "")
        elif override.remove is None:
            yield Item(start, end, Role.ADD, override.add)
        else:
            yield Item(start, end, Role.REPLACE, override.add, override.remove)
    for order, swap in enumerate(spec.swaps):
        if swap.benefactor is not None:
            start, end = as_instant(swap.start, zone), as_instant(swap.end, zone)
            yield Item(start, end, Role.SWAP, swap.benefactor, swap.beneficiary, order=order)
    for temporary in spec.temporary_schedules:
        start, end = as_instant(temporary.start, zone), as_instant(temporary.end, zone)
        yield Item(start, end, Role.TEMPORARY)
        for shift in temporary.shifts:
            opens, closes = max(as_instant(shift.start, zone), start), min(as_instant(shift.end, zone), end)
            if opens < closes:
                yield Item(opens, closes, Role.FIXED, shift.user)
