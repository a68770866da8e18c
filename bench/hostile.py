"""Neighbours of a hostile rule set: how soon their tickets are somebody's, beside tickets made to hurt and without them.

    python -m bench.hostile [--rounds 4] [--tickets 120]

Over real HTTP, with the services as `up` starts them. In turn, in one run: the desk's own rules and ordinary tickets; and the
same with a rule set that means harm (hundreds of words sought in negations, patterns that are catastrophic for engines that go
back, rules that set each other off, four thousand rules that no index helps with), and one ticket in ten of 60,000 characters
that its rules are written for. Such a ticket falls to triage, what is to blame is set aside, and the ordinary tickets' p99 may
grow by a fifth. Each round publishes the rules anew, so that nothing is set aside already when it begins.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from typing import Any

from bench.fanout_drivers import HTTP_PORT, SMTP_PORT
from bench.latency import RULES, Door, committed, whole
from bench.tools import desk
from bench.tools.meter import Verdicts, load, percentile
from shared.contracts.intake import TicketIn
from shared.ledger.process import Deps
from shared.runtime.clock import pause

EVIL = ("a" * 39 + " ") * 1_500
EVERY = 10
"""One ticket in so many is hostile."""
GROWTH = 1.2
TRIAGE = "g0"


def evil_rules() -> list[dict[str, Any]]:
    """One rule set; each kind of harm is only for tickets whose product is `product19`, so that its neighbours are others."""
    mine = {"fields.product": "product19"}
    words = [
        {"name": f"words-{n}", "when": {**mine, "not": {"text": {"contains": [f"q{n}z{m}" for m in range(900)]}}},
         "then": {"labels": {"impact": 1}}}
        for n in range(60)
    ]  # fmt: skip
    patterns = [
        {"name": f"pattern-{n}", "when": {**mine, "text": {"matches": f"((a+)+)+b{n}$"}}, "then": {"labels": {"impact": 2}}}
        for n in range(60)
    ]  # fmt: skip
    loops = [
        {"name": "up", "when": {**mine, "labels.impact": {"not": "2"}}, "then": {"labels": {"impact": 2, "urgency": 1}}},
        {"name": "down", "when": {**mine, "labels.urgency": {"not": "3"}}, "then": {"labels": {"impact": 1, "urgency": 2}}},
    ]  # fmt: skip
    many = [
        {"name": f"many-{n}", "when": {"not": {"fields.amount": {"gte": -n - 1}}}, "then": {"labels": {"impact": 3}}}
        for n in range(4_000)
    ]
    rules = [*loops, *words, *patterns, *many, {"name": "no-harm", "default": True}]
    return [{"name": "harm", "matches": "all", "rules": rules}]


def ordinary(chance: random.Random) -> TicketIn:
    """A neighbour."""
    while (found := desk.ticket(chance)).fields["product"] == "product19":
        continue
    return found


def hostile(chance: random.Random) -> TicketIn:
    """What the evil rules are written for."""
    found = desk.ticket(chance, text=EVIL)
    found.fields["product"] = "product19"
    return found


def phase(deps: Deps, door: Door, chance: random.Random, count: int, *, harm: bool) -> tuple[list[float], list[int]]:
    """Publish the rules, let the services compile them, post; the neighbours' milliseconds and the hostile tickets."""
    harmful = evil_rules() if harm else []
    desk.apply(deps, rules=[*harmful, *RULES], channels=desk.channels(SMTP_PORT, HTTP_PORT))
    other = door.again()
    for _ in range(5):
        warm = {other.post(ordinary(chance)): time.time()}
        committed(deps, warm, "ticket.assigned")
    posted, hostiles = dict[int, float](), list[int]()
    for number in range(count):
        if harm and number % EVERY == 0:
            hostiles.append(other.post(hostile(chance)))
        at = time.time()
        posted[door.post(ordinary(chance))] = at
        pause(0.02)
    return committed(deps, posted, "ticket.assigned"), hostiles


def fallen(deps: Deps, hostiles: list[int]) -> tuple[int, int]:
    """How many hostile tickets have somebody, all in triage; and in how many the reason names what took too long or looped."""
    with deps.engine.connect() as connection:
        row = connection.exec_driver_sql(
            """select count(*) filter (where type = 'ticket.assigned' and data->>'group' = %(triage)s) as given,
                count(*) filter (where type = 'ticket.classified' and reason::text ~ 'too long|loop') as told
            from ledger.event where kind = 'ticket' and id = any(%(ids)s)""",
            {"ids": hostiles, "triage": TRIAGE},
        ).one()
    return int(row.given), int(row.told)


def main() -> int:
    """Measure and say whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--tickets", type=int, default=120, help="neighbours in each phase")
    args = parser.parse_args()
    verdicts, chance = Verdicts(), random.Random(11)
    with whole("hostile") as (deps, door, _):
        alone, beside, hostiles = list[list[float]](), list[list[float]](), list[int]()
        for number in range(args.rounds):
            for harm in (False, True) if number % 2 == 0 else (True, False):
                found, evil = phase(deps, door, chance, args.tickets, harm=harm)
                (beside if harm else alone).append(found)
                hostiles += evil
                print(
                    f"     {'beside hostile tickets' if harm else 'alone'}: p50 {percentile(found, 0.5):.1f}, p99 "
                    f"{percentile(found, 0.99):.1f} ms  [{load()}]", flush=True,
                )  # fmt: skip
        given, told = fallen(deps, hostiles)
    quiet, hurt = (statistics.median(percentile(one, 0.99) for one in found) for found in (alone, beside))
    print(f"     p99 alone {quiet:.1f} ms, beside hostile tickets {hurt:.1f} ms (medians of {args.rounds} rounds)")
    verdicts.most("neighbours' p99 beside hostile tickets, of the p99 alone", hurt / quiet, GROWTH)
    verdicts.least("hostile tickets that fell to triage and are somebody's", given, len(hostiles))
    verdicts.least("hostile tickets whose reason says what was stopped", told, len(hostiles))
    return 1 if verdicts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
