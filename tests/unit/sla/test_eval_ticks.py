"""`eval clocks` against the words of tests/vectors/README.md read tick by tick, over options in combinations no vector shows.

Everything happens on a grid of ten minutes, so that a clock is a count of ticks: nothing here is shared with the service.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from services.control.evaluate.clocks import evaluate

TICK = timedelta(minutes=10)
BIRTH = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)  # a Tuesday
FAR = 6 * 24 * 14
OFFICE = {
    "tz": "UTC",
    "weekly": [{"day": day, "start": "09:00", "end": "17:00"} for day in ("mon", "tue", "wed", "thu", "fri")],
}
STATUSES = ("open", "work", "waiting", "vendor", "closed", "archived")
Json = dict[str, Any]


def instant(tick: int) -> datetime:
    return BIRTH + tick * TICK


def is_open(calendar: Json | None, tick: int) -> bool:
    at = instant(tick)
    return calendar is None or (at.weekday() < 5 and 9 <= at.hour < 17)


class Told:
    """A scenario's clock by the words of the page."""

    def __init__(self, obj: Json, events: list[tuple[int, Json]], name: str, now: int) -> None:
        self.now, self.name = now, name
        self.policy = obj["policy"]
        self.priority = obj["ticket"].get("priority")
        self.statuses = [(0, obj["ticket"]["status"])]
        self.answers: list[int] = []
        for tick, event in events:
            if event["type"] == "policy":
                self.policy = event["policy"]
            elif event["type"] == "status":
                entered = event["to"] != self.statuses[-1][1]
                self.statuses.append((tick, event["to"]))
                if entered and event["to"] in self.policy_responds(event):
                    self.answers.append(tick)
            elif event["type"] == "agent_reply":
                self.answers.append(tick)
        self.calendar = self.policy["calendar"]

    def policy_responds(self, _: Json) -> list[str]:
        return list(self.policy.get("first_response_statuses", []))

    def status(self, tick: int) -> str:
        return [to for at, to in self.statuses if at <= tick][-1]

    def closed(self, tick: int) -> bool:
        return self.status(tick) in self.policy["closed_statuses"]

    def waits(self, tick: int) -> bool:
        ignored = self.name in self.policy.get("unpaused_clocks", [])
        return not self.closed(tick) and not ignored and self.status(tick) in self.policy["pause_statuses"]

    def runs(self, tick: int) -> bool:
        return is_open(self.calendar, tick) and not self.closed(tick) and not self.waits(tick)

    def closed_since(self, now: int) -> int:
        since = now
        while since > 0 and self.closed(since - 1):
            since -= 1
        return since

    def expected(self) -> Json:
        by_priority = self.policy.get("targets_by_priority", {}).get(self.priority, {})
        target = {**self.policy.get("targets", {}), **by_priority}.get(self.name)
        if target is None:
            return {"state": "off", "due": None}
        end = self.end()
        stop = self.now if end is None else end
        left, due, tick = target // 600, None, 0
        while due is None:
            counts = self.runs(tick) if tick < stop else is_open(self.calendar, tick)
            left -= counts
            tick += 1
            due = tick if left == 0 else None
            assert tick < FAR
        shut = end is None and self.closed(self.now)
        late = stop > due if not shut else self.closed_since(self.now) > due
        paused = end is None and self.waits(self.now)
        state = (
            "breached" if late else "off" if shut else "met" if end is not None else "paused" if paused else "running"
        )
        armed = None if shut or paused or end is not None else instant(due).isoformat()
        found = {"state": state, "due": armed}
        if state != "off":
            found["elapsed_seconds"] = 600 * sum(self.runs(one) for one in range(stop))
            found["paused_seconds"] = 600 * sum(is_open(self.calendar, one) and self.waits(one) for one in range(stop))
            found["completed_at"] = None if end is None else instant(end).isoformat()
        return found

    def end(self) -> int | None:
        if self.name == "first_response":
            return min(self.answers, default=None)
        return self.closed_since(self.now) if self.closed(self.now) else None


def policy(random: Random) -> Json:
    targets = {
        name: 600 * random.randrange(1, 90) for name in ("first_response", "resolution") if random.random() < 0.9
    }
    made: Json = {
        "calendar": random.choice([None, OFFICE]),
        "targets": targets,
        "pause_statuses": random.sample(["waiting", "vendor"], random.randrange(3)),
        "closed_statuses": random.choice([["closed"], ["closed", "archived"]]),
    }
    if random.random() < 0.4:
        made["targets_by_priority"] = {"high": {name: 600 * random.randrange(1, 30) for name in targets}}
    if random.random() < 0.4:
        made["unpaused_clocks"] = random.sample(["first_response", "resolution"], 1)
    return made


def scenario(random: Random) -> tuple[Json, list[tuple[int, Json]], int]:
    first = policy(random)
    if random.random() < 0.3:
        first["first_response_statuses"] = ["work"]
    events: list[tuple[int, Json]] = []
    tick = 0
    for _ in range(random.randrange(9)):
        tick += random.choice([1, 2, 6, 20, 70])
        kind = random.choice(["status"] * 6 + ["agent_reply", "customer_reply", "policy"])
        event: Json = {"at": instant(tick).isoformat(), "type": kind}
        if kind == "status":
            event["to"] = random.choice(STATUSES)
        elif kind == "policy":
            kept = {k: first[k] for k in ("first_response_statuses",) if k in first}
            event["policy"] = policy(random) | kept
        events.append((tick, event))
    ticket: Json = {"created_at": BIRTH.isoformat(), "status": "open"}
    if random.random() < 0.5:
        ticket["priority"] = random.choice(["high", "low"])
    now = tick + random.choice([0, 1, 30, 200])
    obj = {
        "policy": first,
        "ticket": ticket,
        "timeline": [event for _, event in events],
        "asks": [{"at": instant(now).isoformat()}],
    }
    return obj, events, now


@pytest.mark.parametrize("seed", range(8))
def test_every_combination_of_options_is_answered_as_the_page_says_tick_by_tick(seed: int) -> None:
    random = Random(seed)
    for number in range(60):
        obj, events, now = scenario(random)
        clocks = evaluate(obj)["asks"][0]["expected"]["clocks"]
        for name in ("first_response", "resolution"):
            wanted = Told(obj, events, name, now).expected()
            assert {key: clocks[name][key] for key in wanted} == wanted, (number, name, obj)
