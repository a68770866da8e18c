"""Clocks to check the clocks by: slow, plain, and with arithmetic of its own.

It shares no code with `services/sla` or `shared/calendar` and works the other way round. Where they derive every due instant
anew from segments, this walks forward through a ticket's life and *accumulates*; where they look up compiled stretches, this
turns the opening hours of one day after the other into seconds. Instants are whole seconds since 1970 UTC. The meanings are
those of tests/vectors/README.md, "Calendar" and "sla_scenario", and of the contract's paragraph on clocks.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

DAY = 86_400
NAMES = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
EPOCH = date(1970, 1, 1)


def offset_at(zone: str, second: int) -> int:
    """Seconds east of UTC at an instant."""
    local = datetime.fromtimestamp(second, ZoneInfo(zone)).utcoffset()
    assert local is not None
    return local.days * DAY + local.seconds


@cache
def offsets(zone: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Since when which offset holds, 1999 to 2039, found by looking every six hours."""
    begin, end = int(datetime(1999, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2039, 1, 1, tzinfo=UTC).timestamp())
    since, shift = [begin], [offset_at(zone, begin)]
    for probe in range(begin, end, DAY // 4):
        after = offset_at(zone, probe + DAY // 4)
        low, high = probe, probe + DAY // 4
        if after != shift[-1]:
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset_at(zone, middle) == shift[-1] else (low, middle)
            since.append(high)
            shift.append(after)
    return tuple(since), tuple(shift)


def instant(zone: str, day: date, seconds: int) -> int:
    """The first instant at which the zone's clocks show that time of that day, or later: a skipped time is the jump."""
    since, shift = offsets(zone)
    shown = (day - EPOCH).days * DAY + seconds
    index = bisect_right(since, shown - 15 * 3600) - 1
    while True:
        reached = max(since[index], shown - shift[index])
        if index + 1 == len(since) or reached < since[index + 1]:
            return reached
        index += 1


def day_of(zone: str, second: int) -> date:
    """The local date of an instant."""
    since, shift = offsets(zone)
    return EPOCH + timedelta(days=(second + shift[bisect_right(since, second) - 1]) // DAY)


def wall_of(zone: str, second: int) -> int:
    """Seconds after local midnight that the clocks show."""
    since, shift = offsets(zone)
    return (second + shift[bisect_right(since, second) - 1]) % DAY


def clock(text: str) -> int:
    """`HH:MM` in seconds."""
    hours, minutes = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60


class SlowCalendar:
    """Open stretches of a neutral calendar, one day after the other. None as specification: around the clock."""

    def __init__(self, spec: dict[str, Any] | None) -> None:
        self.spec = spec
        if spec is not None:
            self.zone: str = spec["tz"]
            self.weekly = [
                [(clock(s["start"]), clock(s["end"])) for s in spec["weekly"] if s["day"] == name] for name in NAMES
            ]
            self.replaced = {
                o["date"]: [(clock(s["start"]), clock(s["end"])) for s in o["segments"]] for o in spec["overrides"]
            }
            self.holidays = set(spec["holidays"])
            self.days: dict[date, tuple[list[tuple[int, int]], list[tuple[int, int]]]] = {}

    def stretches(self, start: int, end: int) -> list[tuple[int, int]]:
        """Open stretches within [start, end), sorted and disjoint."""
        if self.spec is None:
            return [(start, end)] if start < end else []
        raw: list[tuple[int, int]] = []
        shut: list[tuple[int, int]] = []
        day = day_of(self.zone, start) - timedelta(days=2)
        last = day_of(self.zone, end) + timedelta(days=1)
        while day <= last:
            opens, closes = self.day(day)
            raw += opens
            shut += closes
            day += timedelta(days=1)
        clipped = [(max(a, start), min(b, end)) for a, b in raw if a < end and b > start]
        return subtract(merge(clipped), shut)

    def day(self, day: date) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """What begins on a day: open stretches (a holiday's too, for their part on the next day), and the day if it is shut."""
        if day not in self.days:
            ends = [(a, b + (DAY if b <= a else 0)) for a, b in self.segments(day)]
            opens = [(instant(self.zone, day, a), instant(self.zone, day, b)) for a, b in ends]
            shut = (
                [(instant(self.zone, day, 0), instant(self.zone, day, DAY))] if day.isoformat() in self.holidays else []
            )
            self.days[day] = opens, shut
        return self.days[day]

    def segments(self, day: date) -> list[tuple[int, int]]:
        return self.replaced.get(day.isoformat(), self.weekly[day.weekday()])

    def is_working_day(self, day: date) -> bool:
        return day.isoformat() not in self.holidays and bool(self.segments(day))

    def length(self, start: int, end: int) -> int:
        """Open seconds between two instants in order."""
        return sum(b - a for a, b in self.stretches(start, end))

    def reach(self, start: int, work: int) -> int | None:
        """The first instant with so much open time (more than none) after start; None when not within two years."""
        window = 14 * DAY
        for _ in range(52):
            for a, b in self.stretches(start, start + window):
                if work <= b - a:
                    return a + work
                work -= b - a
            start += window
        return None

    def days_on(self, start: int, days: int, *, end_of_day: bool) -> int:
        """So many working days later at the same wall time, or the next opening; or that day's last closing."""
        assert self.spec is not None
        day = day_of(self.zone, start)
        while not self.is_working_day(day):
            day += timedelta(days=1)
        for _ in range(days):
            day += timedelta(days=1)
            while not self.is_working_day(day):
                day += timedelta(days=1)
        if end_of_day:
            return self.last_closing(day)
        at = instant(self.zone, day, wall_of(self.zone, start))
        return self.stretches(at, at + 60 * DAY)[0][0]

    def last_closing(self, day: date) -> int:
        """Where the last stretch that begins on the day ends; the next closing when the clocks skip the day."""
        begin = instant(self.zone, day, 0)
        end = max(instant(self.zone, day, b + (DAY if b <= a else 0)) for a, b in self.segments(day))
        found = self.stretches(begin, end)
        return found[-1][1] if found else self.stretches(begin, begin + 60 * DAY)[0][1]


def merge(found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted, with overlapping and touching stretches joined, empty ones left out."""
    joined: list[tuple[int, int]] = []
    for a, b in sorted(found):
        if a >= b:
            continue
        if joined and a <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(b, joined[-1][1]))
        else:
            joined.append((a, b))
    return joined


def subtract(found: list[tuple[int, int]], holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    for low, high in holes:
        kept = []
        for a, b in found:
            kept += [(x, y) for x, y in ((a, min(b, low)), (max(a, high), b)) if x < y]
        found = kept
    return found


# ---- a clock ---------------------------------------------------------------------------------------------------------------


@dataclass
class Rule:
    """What one policy says of one metric: seconds, or (days, end_of_day); the statuses it waits in."""

    calendar: SlowCalendar
    target: int | tuple[int, bool]
    pauses: set[str]


@dataclass
class Life:
    """One cycle: since when the promise holds, when the cycle opened, its end, if any, and its rules over time.

    `kept`: ended by what was promised; `cut`: by closing or because no policy promises it any more, so that it may go on.
    """

    start: int
    opened: int
    end: int | None = None
    kept: bool = False
    cut: bool = False
    breached_at: int | None = None
    rules: list[tuple[int, Rule]] = field(default_factory=list)


@dataclass
class Walk:
    """What a walk through one cycle found; seconds. `due`: the due instant whether armed or not."""

    elapsed: int = 0
    paused: int = 0
    due: int | None = None
    used_up: bool = False
    breached_at: int | None = None
    waits: bool = False
    armed: int = 0
    seen: list[tuple[int, int, str, Rule]] = field(default_factory=list)


def walk(life: Life, statuses: list[tuple[int, str]], closed: set[str], now: int) -> Walk:
    """Go forward through a cycle from its start to its end (or now), stretch by stretch of one status and one rule."""
    until, rules = now if life.end is None else life.end, life.rules
    found = Walk(breached_at=life.breached_at, armed=life.opened)
    marks: list[int] = [life.opened, *(at for at, _ in statuses), *(at for at, _ in rules)]
    edges = sorted({life.start, until, *(at for at in marks if life.start < at < until)})
    rule = _holds(rules, life.start)
    _aim(found, rule, life.start, life.start)
    for a, b in pairwise(edges):
        if (new := _holds(rules, a)) is not rule:
            _change(found, life, rule, new, a, _holds(statuses, a), closed)
            rule = new
        _stretch(found, rule, _mode(_holds(statuses, a), rule, closed), life, a, b)
    if life.end is None and (new := _holds(rules, until)) is not rule:
        _change(found, life, rule, new, until, _holds(statuses, until), closed)
        rule = new
    last = _mode(_holds(statuses, until), rule, closed)
    found.waits = last == "wait"
    if (
        life.end is None
        and last == "run"
        and found.breached_at is None
        and found.used_up
        and found.due is not None
        and found.due < until
    ):
        found.breached_at = max(found.due, found.armed)
    if life.kept and found.breached_at is None and found.used_up and found.due is not None and found.due < until:
        found.breached_at = max(found.due, found.armed)  # ended while it waited, but later than a new target allowed
    if not found.used_up:
        _project(found, rule, life.start, until)
    return found


def _change(found: Walk, life: Life, old: Rule, new: Rule, at: int, status: str, closed: set[str]) -> None:
    """Another rule from `at` on; it arms the clock anew where it changes the due instant or ends its waiting."""
    before = found.due
    _aim(found, new, life.start, at)
    if found.due != before or _mode(status, old, closed) != _mode(status, new, closed):
        found.armed = max(at, life.opened)


def _holds(marks: list[tuple[int, Any]], at: int) -> Any:
    """What holds at an instant: the last mark not later than it, else the first."""
    held = marks[0][1]
    for when, what in marks:
        if when <= at:
            held = what
    return held


def _mode(status: str, rule: Rule, closed: set[str]) -> str:
    return "shut" if status in closed else "wait" if status in rule.pauses else "run"


def _stretch(found: Walk, rule: Rule, mode: str, life: Life, a: int, b: int) -> None:
    """One stretch: count it, and notice the target used up and the promise broken in it."""
    open_time = rule.calendar.length(a, b)
    found.seen.append((a, b, mode, rule))
    if mode != "run":
        found.paused += open_time if mode == "wait" else 0
        if not found.used_up:
            _project(found, rule, life.start, b)
        return
    found.elapsed += open_time
    if not found.used_up:
        assert found.due is not None
        found.used_up = found.due <= b
    if found.breached_at is None and found.used_up and found.due is not None and found.due < b and b > life.opened:
        found.breached_at = max(found.due, found.armed)


def _aim(found: Walk, rule: Rule, start: int, at: int) -> None:
    """Another target applies: has it been used up already, and if so when; walks again over what was seen."""
    found.used_up = False
    if isinstance(rule.target, tuple):
        _aim_days(found, rule, start)
        return
    left = rule.target
    for a, b, mode, governing in found.seen:
        if mode == "run":
            if (length := governing.calendar.length(a, b)) >= left:
                found.due, found.used_up = governing.calendar.reach(a, left), True
                return
            left -= length
    found.due = rule.calendar.reach(at, left)


def _aim_days(found: Walk, rule: Rule, start: int) -> None:
    days, end_of_day = rule.target  # type: ignore[misc]
    due: int | None = rule.calendar.days_on(start, days, end_of_day=end_of_day)
    following = [mode for _, _, mode, _ in found.seen[1:]] + ["run"]
    for (a, b, mode, governing), after in zip(found.seen, following, strict=False):
        assert due is not None
        if mode == "run" and b >= due:
            found.used_up = True
            break
        if mode != "run":
            if length := governing.calendar.length(a, b):
                due = rule.calendar.reach(due, length)
            if after == "run" and due is not None and due < b:
                due = rule.calendar.stretches(b, b + 60 * DAY)[0][0]
    found.due = due


def _project(found: Walk, rule: Rule, start: int, at: int) -> None:
    """The due instant if the clock counts again from `at` on."""
    if isinstance(rule.target, tuple):
        _aim_days(found, rule, start)
    else:
        found.due = rule.calendar.reach(at, rule.target - found.elapsed)
