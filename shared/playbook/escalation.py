"""The playbook's `schedules` (who is on call) and `chains` (what happens when nobody moves): what may be written.

A schedule has the neutral form of `tests/vectors/README.md` (kind `oncall`), so that one engine answers the vectors and the
product: one rotation, or rules over named rotations, or shifts with levels; then overrides, temporary schedules and swaps.
Instants written without an offset are wall times of the schedule's zone.

Every struct refuses what can never work (an override that adds and removes nobody, a step without targets and actions) when it
is decoded, with the path of the place; names of other sections (people, groups, calendars) are checked by `signalbox check`.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from shared.playbook.types import Config, Duration

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_WALL = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d)?|24:00(?::00)?")
MINIMUM_REPEAT = timedelta(seconds=60)
"""A chain never goes round faster than this, whatever a playbook says: people cannot act on less."""


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise ValueError(reason)


# ---- schedules ------------------------------------------------------------------------------------------------------------


class RotationSpec(Config, frozen=True, kw_only=True):
    """People who take turns; a hand-off comes every `shift_length` units, at the wall time of `start` in the schedule's zone.

    `users[0]` holds the shift that begins at `start`; with `current_index`, that user holds the shift around `current_start`
    instead. The rotation reaches back before `start` too.
    """

    type: Literal["hourly", "daily", "weekly", "monthly"]
    start: datetime
    shift_length: int = 1
    users: tuple[str, ...] = ()
    current_index: int | None = None
    current_start: datetime | None = None

    def __post_init__(self) -> None:
        _require(self.shift_length >= 1, "shift_length is at least 1")


class RuleTarget(Config, frozen=True, kw_only=True):
    """Who a rule puts on call: one user, or whoever holds a named rotation."""

    user: str | None = None
    rotation: str | None = None

    def __post_init__(self) -> None:
        _require((self.user is None) != (self.rotation is None), "a target names a user or a rotation")


class RuleSpec(Config, frozen=True, kw_only=True):
    """Weekly wall times at which `target` is on call; `end` not after `start` reaches into the next day, equal is 24 hours."""

    target: RuleTarget
    days: tuple[Day, ...] = DAYS
    start: str = "00:00"
    end: str = "00:00"

    def __post_init__(self) -> None:
        for text in (self.start, self.end):
            _require(_WALL.fullmatch(text) is not None, f"not a wall time: {text!r} (write 08:30)")


class OverrideSpec(Config, frozen=True, kw_only=True):
    """For a span: `add` puts somebody on call, `remove` takes somebody off, both replace one by the other."""

    start: datetime
    end: datetime
    add: str | None = None
    remove: str | None = None

    def __post_init__(self) -> None:
        _require(self.add is not None or self.remove is not None, "an override adds or removes somebody")


class FixedShift(Config, frozen=True, kw_only=True):
    user: str
    start: datetime
    end: datetime


class TemporarySpec(Config, frozen=True, kw_only=True):
    """For a span, exactly these shifts: they replace everything else, and where they leave a gap nobody is on call."""

    start: datetime
    end: datetime
    shifts: tuple[FixedShift, ...] = ()


class ShiftSpec(Config, frozen=True, kw_only=True):
    """A shift that may come again (meaning of the recurrence fields as in iCalendar), held by `users`, a list of groups.

    `rolling` gives each turn to the next group; the other kinds put all groups on call together. Nobody is on call for it
    before `rotation_start` or from `until` on. Only the highest `priority` that covers an instant counts; an `override` is
    above all of them. `duration` is wall time.
    """

    kind: Literal["single", "recurrent", "rolling", "override"]
    start: datetime
    duration: Duration
    users: tuple[tuple[str, ...], ...] = ()
    priority: int = 0
    rotation_start: datetime | None = None
    frequency: Literal["hourly", "daily", "weekly", "monthly"] | None = None
    interval: int = 1
    by_day: tuple[Day, ...] | None = None
    by_monthday: tuple[int, ...] | None = None
    week_start: Day = "mon"
    until: datetime | None = None

    def __post_init__(self) -> None:
        _require(self.interval >= 1, "interval is at least 1")
        _require(
            all(1 <= abs(day) <= 31 for day in self.by_monthday or ()),
            "by_monthday is 1 to 31, or -1 to -31 from the end",
        )


class SwapSpec(Config, frozen=True, kw_only=True):
    """For a span, `benefactor` stands in wherever `beneficiary` would be on call; without a benefactor nothing changes yet."""

    beneficiary: str
    start: datetime
    end: datetime
    benefactor: str | None = None


class ScheduleSpec(Config, frozen=True, kw_only=True):
    """One on-call schedule; the parts add up (all that cover an instant are on call together, subject to levels)."""

    tz: str
    name: str = ""
    rotation: RotationSpec | None = None
    rotations: dict[str, RotationSpec] = msgspec.field(default_factory=dict)
    rules: tuple[RuleSpec, ...] = ()
    shifts: tuple[ShiftSpec, ...] = ()
    overrides: tuple[OverrideSpec, ...] = ()
    temporary_schedules: tuple[TemporarySpec, ...] = ()
    swaps: tuple[SwapSpec, ...] = ()

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.tz)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"unknown time zone {self.tz!r}") from error
        for rule in self.rules:
            wanted = rule.target.rotation
            _require(wanted is None or wanted in self.rotations, f"a rule names an unknown rotation {wanted!r}")


# ---- chains ---------------------------------------------------------------------------------------------------------------


class Target(Config, frozen=True, kw_only=True):
    """Who a step tells: exactly one of the members; `copy` tells them for information (their silence or answer changes nothing).

    `manager` is the level above the overdue owner: 1 is the direct manager.
    """

    person: str | None = None
    role: str | None = None
    group: str | None = None
    schedule: str | None = None
    manager: int | None = None
    copy: bool = False

    def __post_init__(self) -> None:
        named = [name for name in (self.person, self.role, self.group, self.schedule, self.manager) if name is not None]
        _require(len(named) == 1, "a target names exactly one of person, role, group, schedule, manager")
        _require(self.manager is None or 1 <= self.manager <= 20, "manager is a level from 1 to 20")

    def __str__(self) -> str:
        pairs = (("person", self.person), ("role", self.role), ("group", self.group), ("schedule", self.schedule))
        return next((f"{kind} {name}" for kind, name in pairs if name is not None), f"manager {self.manager}")


class Action(Config, frozen=True, kw_only=True):
    """What a step does beside telling people.

    `urge` reminds the overdue owner; `reassign` gives the ticket to `to` (a group), else to the first person told;
    `raise_priority` sets `to`, else one level up; `task_group` opens a joint task group of the people told, named `to`;
    `webhook` calls the playbook's endpoint `to`.
    """

    do: Literal["urge", "reassign", "raise_priority", "task_group", "webhook"]
    to: str | None = None

    def __post_init__(self) -> None:
        _require(self.do != "webhook" or self.to is not None, "a webhook action names its endpoint in `to`")


class Step(Config, frozen=True, kw_only=True):
    """One step of a chain.

    It comes `after` (or `before`, with `relative_to: due`) its anchor: the instant of the `previous` step (of the start, for the
    first one), the `stall`, or the `due` instant, counted on the wall clock or in open time of the chain's calendar.
    Outside `allowed_hours` (a calendar) it waits for the next opening. `needs_everyone` overrides the chain's own.
    """

    targets: tuple[Target, ...] = ()
    actions: tuple[Literal["urge", "reassign", "raise_priority", "task_group"] | Action, ...] = ()
    after: Duration = Duration(0)
    before: Duration | None = None
    on: Literal["open", "wall"] = "wall"
    relative_to: Literal["previous", "stall", "due"] = "previous"
    allowed_hours: str | None = None
    needs_everyone: bool | None = None

    def __post_init__(self) -> None:
        _require(bool(self.targets or self.actions), "a step has targets or actions")
        _require(self.before is None or self.relative_to == "due", "`before` needs `relative_to: due`")
        _require(self.before is None or not self.after, "a step comes `after` or `before`, not both")

    @property
    def does(self) -> tuple[Action, ...]:
        """The actions, the short form (`urge`) written out."""
        return tuple(item if isinstance(item, Action) else Action(do=item) for item in self.actions)


class Repeat(Config, frozen=True, kw_only=True):
    """Go round again `every` so long after the last step, until acknowledged, `max` more rounds at most (`null`: no cap)."""

    every: Duration = Duration(hours=1)
    max: int | None = 3
    until: Literal["acknowledged"] = "acknowledged"

    def __post_init__(self) -> None:
        _require(self.every >= MINIMUM_REPEAT, "a chain repeats every minute at most")
        _require(self.max is None or self.max >= 1, "max is at least 1 (leave `repeat` out for one round)")


class Acknowledgement(Config, frozen=True, kw_only=True):
    """What an acknowledgement is worth: for how long, and whether everyone told has to give it."""

    expires: Duration | None = None
    needs_everyone: bool = False

    def __post_init__(self) -> None:
        _require(
            self.expires is None or self.expires >= MINIMUM_REPEAT, "an acknowledgement holds for at least a minute"
        )


class Chain(Config, frozen=True, kw_only=True):
    """An escalation chain: its steps in order, whether it repeats, and who gets what nobody took (`fallback`).

    `exhausted_after`: how long the last step's people have (wall time) before a chain without repetition is exhausted.
    """

    name: str
    steps: tuple[Step, ...]
    calendar: str | None = None
    repeat: Repeat | None = None
    acknowledge: Acknowledgement = Acknowledgement()
    fallback: str | None = None
    exhausted_after: Duration = Duration(hours=1)

    def __post_init__(self) -> None:
        _require(bool(self.steps), "a chain has at least one step")


# ---- names of other sections ------------------------------------------------------------------------------------------------


class Reference(Config, frozen=True, kw_only=True):
    """A name that must exist elsewhere: `kind` is person, role, group, schedule or calendar; `path` is where it is written."""

    path: str
    kind: str
    name: str


def chain_references(chain: Chain) -> list[Reference]:
    """Every name a chain borrows from other sections, for `signalbox check`."""
    found = [
        Reference(path=f"$.steps[{number}].targets[{place}].{kind}", kind=kind, name=name)
        for number, step in enumerate(chain.steps)
        for place, target in enumerate(step.targets)
        for kind in ("person", "role", "group", "schedule")
        if (name := getattr(target, kind)) is not None
    ]
    calendars = [("$.calendar", chain.calendar)]
    calendars += [(f"$.steps[{number}].allowed_hours", step.allowed_hours) for number, step in enumerate(chain.steps)]
    found += [Reference(path=path, kind="calendar", name=name) for path, name in calendars if name is not None]
    if chain.fallback is not None:
        found.append(Reference(path="$.fallback", kind="person", name=chain.fallback))
    return found


def schedule_references(schedule: ScheduleSpec) -> list[Reference]:
    """Every person a schedule names, for `signalbox check`."""
    found: list[tuple[str, str | None]] = []
    rotations = [("rotation", schedule.rotation)] if schedule.rotation is not None else []
    rotations += [(f"rotations.{name}", rotation) for name, rotation in schedule.rotations.items()]
    for path, rotation in rotations:
        found += [(f"$.{path}.users[{place}]", user) for place, user in enumerate(rotation.users)]
    found += [(f"$.rules[{place}].target.user", rule.target.user) for place, rule in enumerate(schedule.rules)]
    for place, shift in enumerate(schedule.shifts):
        found += [(f"$.shifts[{place}].users", user) for group in shift.users for user in group]
    for place, override in enumerate(schedule.overrides):
        found += [(f"$.overrides[{place}].add", override.add), (f"$.overrides[{place}].remove", override.remove)]
    for place, swap in enumerate(schedule.swaps):
        found += [
            (f"$.swaps[{place}].benefactor", swap.benefactor),
            (f"$.swaps[{place}].beneficiary", swap.beneficiary),
        ]
    for place, temporary in enumerate(schedule.temporary_schedules):
        found += [(f"$.temporary_schedules[{place}].shifts", shift.user) for shift in temporary.shifts]
    return [Reference(path=path, kind="person", name=name) for path, name in found if name is not None]
