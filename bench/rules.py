"""Rule matching: our index beside a linear scan, over 10 to 10,000 selective rules, in one run.

    python -m bench.rules [--rounds 3] [--seconds 0.5] [--broad] [--nested]

Rules and tickets have the shape of `bench/reference/peers/rules_bench.py`: 8 facts (6 enumerated, one range, keywords
in the subject), first match wins; a selective rule names one of 5,000 products. "match" is the first rule that holds;
"with explanation" adds the facts that rule read and, for each field, how many rules it ruled out. CPU time, median of
the rounds, the ways interleaved.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from bench.tools.meter import Verdicts
from shared.playbook.conditions import parse
from shared.playbook.facts import NUMBER, TEXT, Schema, choice
from shared.playbook.predicates import Condition
from shared.playbook.ruleset import Mode, Rule, RuleSet, inputs

SIZES = (10, 100, 1_000, 10_000)
WORDS = [f"word{i}" for i in range(200)]
Facts = dict[str, Any]


def vocabulary(*, selective: bool) -> dict[str, list[str]]:
    """The enumerated facts and their values."""
    return {
        "fields.product": [f"product{i}" for i in range(5_000 if selective else 50)],
        "fields.region": ["eu", "us", "apac", "latam", "mea"],
        "fields.language": ["en", "de", "fr", "es", "ja", "pt", "it", "nl"],
        "requester.tier": ["free", "pro", "business", "enterprise"],
        "source": ["email", "web", "chat", "api", "phone"],
        "labels.type": ["incident", "question", "problem", "task"],
    }


def written_rules(count: int, values: dict[str, list[str]], *, selective: bool) -> list[dict[str, Any]]:
    """Return the conditions of `count` - 1 rules (the default is the last) as they would stand in YAML."""
    chance, rules = random.Random(7), []
    for _ in range(count - 1):
        when: dict[str, Any] = {"fields.product": chance.choice(values["fields.product"])} if selective else {}
        others = [field for field in values if not (selective and field == "fields.product")]
        for field in chance.sample(others, chance.choice([2, 3, 3, 4])):
            one = chance.random() < 0.6
            when[field] = chance.choice(values[field]) if one else chance.sample(values[field], 2)
        if chance.random() < 0.3:
            low = chance.randrange(9_000)
            when["fields.amount"] = {"gte": low, "lt": low + chance.randrange(200, 3_000)}
        if chance.random() < 0.5:
            when["subject"] = {"contains": chance.choice(WORDS)}
        rules.append(when)
    return rules


def nested(rules: list[dict[str, Any]], values: dict[str, list[str]]) -> list[dict[str, Any]]:
    """The same rules with a second product: a rule holds for its own conditions or for that product in one region, or asks for
    one of both products beside its other conditions.
    """
    chance, found = random.Random(11), list[dict[str, Any]]()
    for when in rules:
        other = {"fields.product": chance.choice(values["fields.product"])}
        if chance.random() < 0.5:
            found.append({"any": [when, other | {"fields.region": chance.choice(values["fields.region"])}]})
        else:
            rest = {field: value for field, value in when.items() if field != "fields.product"}
            found.append({"any": [{"fields.product": when["fields.product"]}, other], "all": [rest]})
    return found


def tickets(count: int, values: dict[str, list[str]]) -> list[Facts]:
    """Return facts of `count` random tickets."""
    chance = random.Random(3)
    return [
        {field: chance.choice(known) for field, known in values.items()}
        | {"fields.amount": chance.randrange(10_000), "subject": " ".join(chance.choices(WORDS, k=8))}
        for _ in range(count)
    ]


def cpu_us(call: Callable[[Facts], object], facts: list[Facts], seconds: float) -> float:
    """Return the CPU time of one call in microseconds, over about `seconds` of calls on ever other tickets."""
    done, started, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        for one in facts[done % len(facts) : done % len(facts) + 50]:
            call(one)
        done += 50
    return (time.process_time() - cpu) / done * 1e6


def linear(conditions: list[Condition]) -> Callable[[Facts], int]:
    """The scan that an ordered list of compiled conditions invites."""
    tests = [condition.compile() for condition in conditions]

    def match(facts: Facts) -> int:
        for position, test in enumerate(tests):
            if test(facts):
                return position
        return len(tests)

    return match


def explained(rules: RuleSet) -> Callable[[Facts], object]:
    """The first match with what a decision stores, and the count of rules each field ruled out."""

    def match(facts: Facts) -> object:
        rule = rules.first(facts)
        return rule.name, inputs(rule, facts), rules.cleared(facts)

    return match


def measure(
    size: int, *, selective: bool, rounds: int, seconds: float, by_alternatives: bool = False
) -> dict[str, float]:
    """Return the median CPU time of each way in microseconds, and the compile time in seconds."""
    values = vocabulary(selective=selective)
    known = {field: choice(listed) for field, listed in values.items()}
    schema = Schema(known | {"fields.amount": NUMBER, "subject": TEXT})
    written = written_rules(size, values, selective=selective)
    conditions = [parse(when, schema) for when in (nested(written, values) if by_alternatives else written)]
    rows = [*(Rule(str(place), one) for place, one in enumerate(conditions)), Rule(str(size - 1), None)]
    started = time.process_time()
    rules = RuleSet("bench", Mode.FIRST, rows)
    compiled = time.process_time() - started
    scan, facts = linear(conditions), tickets(2_000, values)
    for one in facts[:50]:
        if int(rules.first(one).name) != scan(one):
            raise AssertionError(f"index and scan disagree on {one}")
    ways: dict[str, Callable[[Facts], object]] = {
        "linear scan": scan,
        "index: match": rules.first,
        "index: with explanation": explained(rules),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(cpu_us(way, facts, seconds))
    return {name: statistics.median(found) for name, found in times.items()} | {"compile, s": compiled}


def main() -> int:
    """Print one table a shape of rules."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=0.5)
    options.add_argument("--broad", action="store_true", help="also rules that do not name a product")
    options.add_argument("--nested", action="store_true", help="only rules with any within all and all within any")
    chosen = options.parse_args()
    verdicts = Verdicts()
    for selective in (True, False) if chosen.broad else (True,):
        found = {
            size: measure(
                size, selective=selective, rounds=chosen.rounds, seconds=chosen.seconds, by_alternatives=chosen.nested
            )
            for size in SIZES
        }
        print(f"{'nested' if chosen.nested else 'selective' if selective else 'broad'} rules, µs CPU a ticket")
        print(f"| {'way':24} | " + " | ".join(f"{size:>9,}" for size in SIZES) + " | 10,000 / 10 |")
        print("|---|" + "---|" * (len(SIZES) + 1))
        for name in found[SIZES[0]]:
            cells = [found[size][name] for size in SIZES]
            shown = " | ".join(f"{cell:9.2f}" for cell in cells)
            print(f"| {name:24} | {shown} | {cells[-1] / cells[0]:11.1f} |")
        if chosen.nested:
            most = found[SIZES[-1]]["index: with explanation"]
            verdicts.most("10,000 nested rules with the explanation, us CPU a ticket", most, 60)
        elif selective:
            cost = [found[size]["index: with explanation"] for size in SIZES]
            scan = found[SIZES[-1]]["linear scan"]
            verdicts.most("10,000 selective rules with the explanation, us CPU a ticket", cost[-1], 15)
            verdicts.most("10,000 rules over 10 rules", cost[-1] / cost[0], 4)
            verdicts.least("linear scan over the index at 10,000 rules", scan / cost[-1], 50)
    return 1 if verdicts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
