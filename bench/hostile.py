"""Neighbours of a hostile rule set: how soon their tickets are somebody's, beside rules made to hurt and without them.

    python -m bench.hostile [--rounds 6] [--tickets 200]

Over real HTTP, with the services as `up` starts them. Of eleven tickets one has 60,000 characters. In turn, in one run: the desk's
own rules; and the same with a rule set that means harm, published without the check that refuses it, whose rules are written for
the long tickets. The harm: hundreds of words sought in negations; patterns that are catastrophic for engines that go back, and
others that are for RE2, which goes forward; rules that set each other off; and for everybody, long or not, four thousand negated
ranges. A long ticket then falls to triage, what is to blame is set aside, and the ordinary tickets' p99 may grow by a fifth. Each
round publishes the rules anew; the p99 is that of all rounds together.

Long tickets come in both: to take in, store and read 60,000 characters costs others something under any rules. What, is shown by
a third kind of round, without them, that nothing is judged by. What is set aside hurts no more, so there are more families of
harmful rules than a round can set aside: each long ticket meets rules that are still there.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from enum import StrEnum
from typing import Any

from bench.fanout_drivers import HTTP_PORT, SMTP_PORT
from bench.latency import RULES, Door, committed, whole
from bench.tools import desk
from bench.tools.meter import Verdicts, load, percentile
from shared.contracts.intake import TicketIn
from shared.ledger.process import Deps
from shared.runtime.clock import pause

EVIL = "".join(random.Random(5).choices("ab", k=60_000))
EVERY = 10
"""Before one neighbour in so many comes a long ticket."""
GROWTH = 1.2
TRIAGE = "g0"


class Kind(StrEnum):
    """Of a round."""

    SHORT = "no long tickets"
    LONG = "long tickets, the desk's own rules"
    HARM = "long tickets, rules that harm"


FAMILIES = [(tier, language) for tier in desk.TIERS for language in desk.LANGUAGES]


def evil_rules() -> list[dict[str, Any]]:
    """One rule set; but for the last four thousand they are only for tickets whose product is `product19`, not for neighbours."""
    mine = {"fields.product": "product19"}
    words = [
        {"name": f"words-{n}", "when": {**mine, "not": {"text": {"contains": [f"q{n}z{m}" for m in range(900)]}}},
         "then": {"labels": {"impact": 1}}}
        for n in range(60)
    ]  # fmt: skip
    back = [
        {"name": f"back-{n}", "when": {**mine, "text": {"matches": f"((a+)+)+b{n}$"}}, "then": {"labels": {"impact": 2}}}
        for n in range(60)
    ]  # fmt: skip
    forward = [
        {"name": f"forward-{place}-{n}", "when": {**mine, "fields.tier": tier, "fields.language": language,
         "text": {"matches": f"[ab]*a[ab]{{{100 + 5 * place + n}}}c"}}, "then": {"labels": {"impact": 2}}}
        for place, (tier, language) in enumerate(FAMILIES) for n in range(5)
    ]  # fmt: skip
    loops = [
        {"name": "up", "when": {**mine, "labels.impact": {"not": "2"}}, "then": {"labels": {"impact": 2, "urgency": 1}}},
        {"name": "down", "when": {**mine, "labels.urgency": {"not": "3"}}, "then": {"labels": {"impact": 1, "urgency": 2}}},
    ]  # fmt: skip
    many = [
        {"name": f"many-{n}", "when": {"not": {"fields.amount": {"gte": -n - 1}}}, "then": {"labels": {"impact": 3}}}
        for n in range(4_000)
    ]
    rules = [*loops, *words, *back, *forward, *many, {"name": "no-harm", "default": True}]
    return [{"name": "harm", "matches": "all", "rules": rules}]


def ordinary(chance: random.Random) -> TicketIn:
    """A neighbour."""
    while (found := desk.ticket(chance)).fields["product"] == "product19":
        continue
    return found


def hostile(chance: random.Random, number: int) -> TicketIn:
    """What the evil rules of one family are written for."""
    found = desk.ticket(chance, text=EVIL)
    found.fields["product"] = "product19"
    found.fields["tier"], found.fields["language"] = FAMILIES[number % len(FAMILIES)]
    return found


def phase(deps: Deps, door: Door, chance: random.Random, count: int, kind: Kind) -> tuple[list[float], list[int]]:
    """Publish the rules, let the services compile them, post; the neighbours' milliseconds and the long tickets."""
    harmful = evil_rules() if kind is Kind.HARM else []
    desk.apply(deps, rules=[*harmful, *RULES], channels=desk.channels(SMTP_PORT, HTTP_PORT))
    other = door.again()
    for _ in range(5):
        warm = {other.post(ordinary(chance)): time.time()}
        committed(deps, warm, "ticket.assigned")
    posted, long = dict[int, float](), list[int]()
    for number in range(count):
        if kind is not Kind.SHORT and number % EVERY == 0:
            long.append(other.post(hostile(chance, number // EVERY)))
        at = time.time()
        posted[door.post(ordinary(chance))] = at
        pause(0.02)
    return committed(deps, posted, "ticket.assigned"), long


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


def shown(kind: Kind, taken: list[float]) -> str:
    """One line of figures."""
    p50, p90, p99 = (percentile(taken, share) for share in (0.5, 0.9, 0.99))
    return f"{kind}: p50 {p50:.1f}, p90 {p90:.1f}, p99 {p99:.1f} ms"


def main() -> int:
    """Measure and say whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--tickets", type=int, default=200, help="neighbours in each phase")
    args = parser.parse_args()
    verdicts, chance = Verdicts(), random.Random(11)
    with whole("hostile") as (deps, door, _):
        found: dict[Kind, list[float]] = {kind: [] for kind in Kind}
        hostiles = list[int]()
        for number in range(args.rounds):
            for kind in list(Kind)[:: 1 if number % 2 == 0 else -1]:
                taken, long = phase(deps, door, chance, args.tickets, kind)
                found[kind] += taken
                hostiles += long if kind is Kind.HARM else []
                print(f"     {shown(kind, taken)}  [{load()}]", flush=True)
        given, told = fallen(deps, hostiles)
    for kind, taken in found.items():
        print(f"     together, {shown(kind, taken)} ({len(taken):,} neighbours)")
    growth = percentile(found[Kind.HARM], 0.99) / percentile(found[Kind.LONG], 0.99)
    verdicts.most("neighbours' p99 beside a hostile rule set, of the p99 under the desk's own rules", growth, GROWTH)
    verdicts.least("hostile tickets that fell to triage and are somebody's", given, len(hostiles))
    verdicts.least("hostile tickets whose reason says what was stopped", told, len(hostiles))
    return 1 if verdicts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
