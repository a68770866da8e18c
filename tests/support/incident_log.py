"""A generated log of incidents, in the columns of a mapping of its own: every act there is, several teams, a clock that jumps."""

from __future__ import annotations

import csv
import io
import random
from datetime import UTC, datetime, timedelta

MAPPING = """
title: Incidents of a test
case: number
time: {column: at}
opened:
  at: {column: opened}
  subject: {text: "{what} is broken"}
  requester: {id: caller}
  labels:
    impact: {column: impact, values: {"1": high, "2": medium, "3": low}}
    urgency: {column: urgency, values: {"1": high, "2": medium, "3": low}}
missing: ["", "?"]
group: team
person: who
state:
  columns: [state]
  values:
    New: []
    Working: [accept, reply]
    Asked: [accept, reply, wait]
    Answered: [customer_reply]
    Noted: [note]
    Done: [resolve]
    Closed: [close]
"""
COLUMNS = ("number", "opened", "at", "state", "team", "who", "caller", "impact", "urgency", "what")
START = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)


def log(cases: int, seed: int = 1) -> str:
    """A CSV of so many cases."""
    chance = random.Random(seed)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number in range(cases):
        for row in _case(chance, number):
            writer.writerow(row)
    return out.getvalue()


def _case(chance: random.Random, number: int) -> list[tuple[str, ...]]:
    opened = START + timedelta(seconds=chance.randrange(5 * 86_400))
    at = opened + timedelta(seconds=chance.randrange(600))
    team, who = f"Team {chance.randrange(4)}", f"Person {chance.randrange(9)}"
    caller = f"Caller {chance.randrange(20)}"
    impact, urgency = str(chance.choice((1, 2, 2, 3))), str(chance.choice((1, 2, 2, 3)))
    what = chance.choice(("printer", "network", "login", "scanner"))
    states = ["New", *(chance.choice(("Working", "Asked", "Answered", "Noted")) for _ in range(chance.randrange(6)))]
    states += chance.choice((["Done", "Closed"], ["Done", "Working", "Done"], ["Closed"], ["Done"], []))
    found = []
    for place, state in enumerate(states):
        if place and chance.random() < 0.3:
            team, who = f"Team {chance.randrange(4)}", f"Person {chance.randrange(9)}"
        shown = "?" if chance.random() < 0.1 else who
        group = "?" if place == 0 and number % 11 == 0 else team
        row = (
            f"INC{number:05}", opened.isoformat(), at.isoformat(), state, group, shown, caller, impact, urgency, what,
        )  # fmt: skip
        found.append(row)
        at += timedelta(seconds=int(chance.expovariate(1 / (3_600 * chance.choice((0.1, 1, 12))))) + 1)
    return found
