"""Generated timelines, and the lives their clocks must have, told from the facts by logic of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any

from tests.unit.sla.slow_clock import EPOCH, NAMES, Life, Rule, SlowCalendar, offsets

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Tehran",
    "America/St_Johns", "Africa/Casablanca", "Asia/Gaza", "Asia/Amman", "America/Asuncion", "Antarctica/Troll", "Asia/Shanghai",
    "Asia/Pyongyang", "America/Caracas", "Europe/Istanbul", "Europe/Moscow", "Asia/Kathmandu", "Pacific/Chatham", "America/Havana",
    "Atlantic/Azores", "Pacific/Kiritimati", "Africa/Cairo", "Asia/Beirut", "America/Santiago", "Europe/London", "Asia/Dhaka",
)  # fmt: skip
OPENINGS = [
    [("09:00", "17:00")], [("08:30", "12:00"), ("13:00", "18:15")], [("00:00", "24:00")], [("22:00", "06:00")],
    [("01:30", "03:30"), ("10:00", "16:00")],
    [("00:00", "08:00"), ("16:00", "24:00")], [("07:00", "07:00")], [("02:00", "02:45"), ("23:00", "24:00")],
]  # fmt: skip
STATUSES = ("open", "open", "doing", "wait", "wait", "vendor", "done", "closed")
CLOSED = {"done", "closed"}
METRICS = ("first_response", "next_response", "periodic_update", "resolution", "ownership:g1", "ownership:g2", "node:n")
ALWAYS = SlowCalendar(None)
SPAN = (978_307_200, 2_145_916_800)  # 2001 to 2037


@dataclass(frozen=True)
class Promise:
    """A policy: its calendar by number in the pool, the targets and the pausing statuses by metric."""

    calendar: int | None
    targets: dict[str, int | tuple[int, bool]]
    pauses: dict[str, tuple[str, ...]]
    accept_responds: bool


@dataclass(frozen=True)
class Event:
    """One fact: its instant, kind and value."""

    at: int
    kind: str
    value: Any = None


@dataclass(frozen=True)
class Timeline:
    """A ticket's facts (the first creates it) and the policies by the value of the attribute `p` that chooses them."""

    events: tuple[Event, ...]
    policies: dict[str, Promise]
    now: int


def calendar(random: Random) -> dict[str, Any]:
    """A calendar that opens every week, somewhere the clocks change (mostly)."""
    usual = random.choice(OPENINGS)
    days = NAMES if random.random() < 0.3 else random.sample(NAMES, random.randint(3, 6))
    weekly = [
        {"day": day, "start": start, "end": end}
        for day in days
        for start, end in (usual if random.random() < 0.8 else random.choice(OPENINGS))
    ]
    return {"tz": random.choice(ZONES), "weekly": weekly, "holidays": [], "overrides": []}


def with_exceptions(random: Random, spec: dict[str, Any], around: int) -> dict[str, Any]:
    """The calendar with a few holidays and replaced days near an instant."""
    middle = EPOCH + timedelta(days=around // 86_400)
    near = [(middle + timedelta(days=random.randint(-3, 20))).isoformat() for _ in range(random.randint(0, 4))]
    replaced = [
        {"date": day, "segments": [{"start": a, "end": b} for a, b in random.choice(OPENINGS)]} for day in near[2:]
    ]
    return {**spec, "holidays": near[:2], "overrides": list({one["date"]: one for one in replaced}.values())}


def near_a_change(random: Random, zone: str) -> int:
    """An instant some days around a change of the zone's clocks, 2000 to 2037; anywhere when it has none."""
    changes = [at for at in offsets(zone)[0][1:] if SPAN[0] <= at < SPAN[1]]
    middle = random.choice(changes) if changes else random.randint(*SPAN)
    return middle + random.randint(-9 * 86_400, 4 * 86_400)


def timeline(random: Random, pool: list[SlowCalendar], anchors: list[int]) -> Timeline:
    """A ticket's life of some hours to some weeks."""
    number = random.randrange(len(pool))
    start = anchors[number] + random.randint(-4 * 86_400, 4 * 86_400)
    policies = {name: _promise(random, number, len(pool)) for name in ("a", "b", "c")}
    at = start - start % random.choice((1, 60, 900, 3600))
    events = [Event(at, "created", (random.choice(("open", "open", "wait")), "a", random.random() < 0.5))]
    dues = _dues(at, policies["a"], pool)
    for _ in range(random.randint(0, 12)):
        ahead = [due for due in dues if due > at]
        at = random.choice(ahead) if ahead and random.random() < 0.15 else at + _gap(random)
        if random.random() < 0.3:
            at += -at % random.choice((60, 900, 3600))  # edges of opening hours, ties
        event = _event(random, at)
        tied = {one.kind for one in events if one.at == at}
        if tied and ("policy" in tied | {event.kind} or ("status" in tied and event.kind != "reply")):
            at += 1  # what else happens at one instant depends on the order, which the checker does not look at
            event = Event(at, event.kind, event.value)
        events.append(event)
    return Timeline(tuple(events), policies, at + _gap(random))


def _dues(start: int, promise: Promise, pool: list[SlowCalendar]) -> list[int]:
    """The due instants of a life without pauses, for facts that come exactly then."""
    line = ALWAYS if promise.calendar is None else pool[promise.calendar]
    found = [
        line.days_on(start, target[0], end_of_day=target[1]) if isinstance(target, tuple) else line.reach(start, target)
        for target in promise.targets.values()
    ]
    return [due for due in found if due is not None]


def _gap(random: Random) -> int:
    return int(random.choice((0, 1, 600, 3_000, 9_000, 30_000, 100_000, 300_000)) * random.random() * 2)


def _promise(random: Random, number: int, pool: int) -> Promise:
    roll = random.random()
    chosen = number if roll < 0.7 else None if roll < 0.8 else random.randrange(pool)
    metrics = [metric for metric in METRICS if random.random() < 0.6] or ["resolution"]
    targets: dict[str, int | tuple[int, bool]] = {
        metric: random.choice((900, 1_800, 7_200, 14_400, 28_800, 86_400, 100_001)) for metric in metrics
    }
    if chosen is not None and random.random() < 0.3:
        targets["resolution"] = (random.randint(1, 5), random.random() < 0.5)
    pauses: dict[str, tuple[str, ...]] = {
        metric: random.choice((("wait",), ("wait", "vendor"), ())) for metric in METRICS
    }
    return Promise(chosen, targets, pauses, random.random() < 0.3)


def _event(random: Random, at: int) -> Event:
    kind = random.choice(
        ("status",) * 6 + ("reply", "reply", "customer", "customer", "accept", "policy", "group", "node", "node_done")
    )
    values: dict[str, Any] = {
        "status": random.choice(STATUSES), "reply": random.random() < 0.15, "customer": random.random() < 0.15,
        "policy": random.choice(("a", "b", "c", "none")), "group": random.choice(("g1", "g2", None)),
    }  # fmt: skip
    return Event(at, kind, values.get(kind))


# ---- lives ------------------------------------------------------------------------------------------------------------------


@dataclass
class Told:
    """What a timeline says: the statuses, and for each metric its cycles."""

    statuses: list[tuple[int, str]]
    lives: dict[str, list[Life]]


class Teller:
    """Walks a timeline once and notes when each clock's cycles begin and end."""

    def __init__(self, pool: list[SlowCalendar], policies: dict[str, Promise]) -> None:
        self.pool, self.policies = pool, policies
        self.told = Told([], {metric: [] for metric in METRICS})
        self.promise: Promise | None = None
        self.status = ""
        self.start = 0
        self.answered = False
        self.waiting: int | None = None
        self.replied: int | None = None
        self.group: tuple[str, int] | None = None
        self.node: int | None = None

    def tell(self, timeline: Timeline) -> Told:
        for event in timeline.events:
            getattr(self, "on_" + event.kind)(event.at, event.value)
        return self.told

    @property
    def closed(self) -> bool:
        return self.promise is not None and self.status in CLOSED

    def since(self, metric: str) -> int | None:
        """Since when a promise of this kind would hold."""
        kind, _, name = metric.partition(":")
        if kind == "first_response":
            return None if self.answered else self.start
        if kind == "ownership":
            return self.group[1] if self.group and self.group[0] == name else None
        return {"next_response": self.waiting, "resolution": self.start, "node": self.node}.get(
            kind, self.start if self.replied is None else self.replied
        )

    def open(self, metric: str) -> Life | None:
        lives = self.told.lives[metric]
        return lives[-1] if lives and lives[-1].end is None else None

    def end(self, metric: str, at: int, *, kept: bool, cut: bool = False) -> None:
        if (life := self.open(metric)) is not None:
            life.end, life.kept, life.cut = at, kept, cut

    def begin(self, at: int) -> None:
        """Begin whatever is promised and does not run."""
        if self.promise is None or self.closed:
            return
        for metric in METRICS:
            if (
                metric in self.promise.targets
                and (since := self.since(metric)) is not None
                and self.open(metric) is None
            ):
                self.add(metric, since, at)

    def add(self, metric: str, since: int, at: int) -> None:
        """A cycle under the present policy; one that goes on keeps the rules it had until it was cut off."""
        lives, rule = self.told.lives[metric], self.rule(metric)
        rules = [(since, rule)]
        if lives and lives[-1].start == since and lives[-1].cut:
            last = lives[-1]
            assert last.end is not None
            rules = [*last.rules, *([] if last.rules[-1][1] == rule else [(last.end, rule)])]
        lives.append(Life(since, at, rules=rules))

    def on_created(self, at: int, value: tuple[str, str, bool]) -> None:
        self.start = at
        self.status = value[0]
        self.told.statuses.append((at, self.status))
        self.on_policy(at, value[1])

    def on_policy(self, at: int, name: str) -> None:
        before, self.promise = self.promise, self.policies.get(name)
        if self.promise is before:
            return
        for metric in METRICS:
            if self.promise is None or metric not in self.promise.targets:
                self.end(metric, at, kept=False, cut=True)
            elif (life := self.open(metric)) is not None:
                life.rules.append((at, self.rule(metric)))
        if self.closed:
            self.close(at)
        self.begin(at)

    def rule(self, metric: str) -> Rule:
        promise = self.promise
        assert promise is not None
        chosen = ALWAYS if promise.calendar is None else self.pool[promise.calendar]
        return Rule(chosen, promise.targets[metric], set(promise.pauses[metric]))

    def on_status(self, at: int, status: str) -> None:
        was = self.closed
        self.status = status
        self.told.statuses.append((at, status))
        if self.closed and not was:
            self.close(at)
        self.begin(at)

    def close(self, at: int) -> None:
        for metric in METRICS:
            self.end(metric, at, kept=metric == "resolution" or metric.startswith("ownership:"), cut=True)

    def on_reply(self, at: int, automated: bool) -> None:
        if automated:
            return
        if self.closed and self.promise is not None:
            for metric in ("first_response", "next_response"):
                if metric in self.promise.targets and (since := self.since(metric)) is not None:
                    self.add(metric, since, at)
        for metric in ("first_response", "next_response", "periodic_update"):
            self.end(metric, at, kept=True)
        self.answered, self.waiting, self.replied = True, None, at
        self.begin(at)

    def on_customer(self, at: int, automated: bool) -> None:
        if not automated and self.waiting is None:
            self.waiting = at
            self.begin(at)

    def on_accept(self, at: int, _: None) -> None:
        if self.promise is not None and self.promise.accept_responds:
            self.end("first_response", at, kept=True)
            self.answered = True

    def on_group(self, at: int, group: str | None) -> None:
        if group != (self.group[0] if self.group else None):
            if self.group:
                self.end(f"ownership:{self.group[0]}", at, kept=True)
            self.group = (group, at) if group else None
            self.begin(at)

    def on_node(self, at: int, _: None) -> None:
        self.end("node:n", at, kept=False)
        self.node = at
        self.begin(at)

    def on_node_done(self, at: int, _: None) -> None:
        self.end("node:n", at, kept=True)
        self.node = None


def continued(lives: list[Life]) -> Iterator[tuple[Life | None, Life]]:
    """Each life with the one it goes on from, if it does: the same promise, cut off before by closing or by its policy."""
    for index, life in enumerate(lives):
        last = lives[index - 1] if index else None
        yield (last if last is not None and last.cut and last.start == life.start else None), life
