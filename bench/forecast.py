"""The forecast on a recorded service desk: learned from its past, asked about its later tickets.

    python -m bench forecast [--full]        # SIGNALBOX_DATA names the folder of evaluation data

Incidents of priorities 3 and 4 with the promise that the log itself recorded (a business clock, 62 and 132.47 hours). What is
learned from had ended before the later period begins. Brier score: mean squared distance of the probability from what came,
at every tenth of the target that an incident was still open; the base rate is the share of the past, and, as a
harder one that nobody could know, of the later period itself. Warnings: an incident is warned of once, when its probability first
reaches the threshold; the rule warns 30 open minutes before the due instant. Lead time is open time from the warning to the due
instant, over incidents that were breached; one without a warning counts 0.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.tools.meter import Verdicts, load
from services.sla.domain import facts as f
from services.sla.domain.terms import Library, Policy, Target, Terms, single
from services.sla.forecast.history import Life, Loads, Sample, samples_of
from services.sla.forecast.model import Forecast
from services.sla.forecast.training import brier, train
from shared.calendar import BusinessCalendar
from shared.calendar.spec import DAYS, parse_spec

HOURS = BusinessCalendar(
    parse_spec({"tz": "UTC", "weekly": [{"day": day, "start": "14:00", "end": "23:00"} for day in DAYS[:5]]})
)
TARGETS = {"3 - Moderate": timedelta(hours=62), "4 - Low": timedelta(hours=132.47)}
POLICY = Policy(
    name="recorded",
    version=1,
    calendar=HOURS,
    closed_on=frozenset({"closed"}),
    terms={priority: {"resolution": Terms(Target(target))} for priority, target in TARGETS.items()},
)
STATES = {"New": "new", "Active": "in_progress", "Resolved": "resolved", "Closed": "done"}
EARLIER = 0.6
"""The share of incidents, by opening, that the past is made of."""
RULE = timedelta(minutes=30)


def lives(folder: Path) -> list[Life]:
    """Every closed incident of the two priorities as facts, in the order of opening."""
    rows: dict[str, list[dict[str, str]]] = {}
    with gzip.open(folder / "events" / "uci_incident_log.csv.gz", "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["number"], []).append(row)
    found = []
    for number, (name, told) in enumerate(sorted(rows.items())):
        told.sort(key=lambda row: int(row["sys_mod_count"]))
        if told[-1]["priority"] in TARGETS and told[-1]["closed_at"] != "?" and name:
            found.append(Life(number, tuple(_facts(told))))
    return sorted(found, key=lambda life: life.facts[0].at)


def _facts(told: Sequence[dict[str, str]]) -> Iterator[f.Fact]:
    first, closed = told[0], _at(told[-1]["closed_at"])
    opened = _at(first["opened_at"])
    yield f.Created(opened, "new", {"priority": told[-1]["priority"], "kind": first["category"]})
    status, group, person = "new", None, None
    for row in told:
        at = min(max(_at(row["sys_updated_at"]), opened), closed)
        now = STATES.get(row["incident_state"], "waiting")
        if row["assignment_group"] not in ("?", group):
            group, person = row["assignment_group"], None
            yield f.GroupChanged(at, group)
        if row["assigned_to"] not in ("?", person):
            person = row["assigned_to"]
            yield f.PersonChanged(at, person)
        if now not in (status, "done"):
            status = now
            yield f.StatusChanged(at, status)
    yield f.StatusChanged(closed, "closed")


def _at(text: str) -> datetime:
    return datetime.strptime(text, "%d/%m/%Y %H:%M").replace(tzinfo=UTC)


def walk(some: Sequence[Life], library: Library, loads: Loads) -> list[Sample]:
    """All looks at some lives, each clock of which has ended."""
    return [one for life in some for one in samples_of(life, library, loads)]


def by_ticket(samples: Sequence[Sample]) -> dict[int, list[Sample]]:
    """Looks of each incident, oldest first."""
    found: dict[int, list[Sample]] = {}
    for one in sorted(samples, key=lambda one: (one.at, one.scheduled)):
        found.setdefault(one.ticket, []).append(one)
    return found


def lead(due: datetime, at: datetime) -> timedelta:
    """Open time from a warning to the due instant."""
    return max(timedelta(0), HOURS.between(at, due))


class Warned:
    """What a way of warning did: how many it warned of, how many of those were breached, its lead times over breached ones."""

    def __init__(self) -> None:
        self.told = self.right = 0
        self.leads: list[float] = []

    def note(self, warned: bool, breached: bool, lead_time: timedelta) -> None:
        self.told += warned
        self.right += warned and breached
        if breached:
            self.leads.append(lead_time.total_seconds() / 3600 if warned else 0.0)

    @property
    def precision(self) -> float:
        return self.right / self.told if self.told else 1.0

    @property
    def median(self) -> float:
        return statistics.median(self.leads)


def by_rule(found: dict[int, list[Sample]], ends: dict[int, datetime]) -> Warned:
    """Warned 30 open minutes before the due instant, if still open."""
    warned = Warned()
    for ticket, looks in found.items():
        due = looks[0].due_at
        assert due is not None
        at = HOURS.add(due, -RULE)
        assert at is not None
        warned.note(ends[ticket] > at, looks[0].breached, RULE)
    return warned


def by_forecast(scored: dict[int, list[tuple[Sample, float]]], threshold: float) -> Warned:
    """Warned when the probability first reaches the threshold."""
    warned = Warned()
    for looks in scored.values():
        hit = next((one for one, p in looks if p >= threshold), None)
        due = looks[0][0].due_at
        assert due is not None
        time_left = timedelta(0) if hit is None else lead(due, hit.at)
        warned.note(hit is not None, looks[0][0].breached, time_left)
    return warned


def threshold_for(scored: dict[int, list[tuple[Sample, float]]], precision: float) -> float:
    """The lowest threshold at which the warnings are at least as precise."""
    best = 1.0
    for step in range(998, 300, -4):
        if by_forecast(scored, step / 1000).precision >= precision:
            best = step / 1000
        elif best < 1.0:
            break
    return best


def scores(model: Forecast, samples: Sequence[Sample]) -> dict[int, list[tuple[Sample, float]]]:
    return {
        ticket: [(one, model.probability(one.features)) for one in looks]
        for ticket, looks in by_ticket(samples).items()
    }


def run(folder: Path, every: int) -> int:
    verdicts, library = Verdicts(), single(POLICY)
    whole = lives(folder)
    begin = whole[int(len(whole) * EARLIER)].facts[0].at
    loads = Loads(whole, whole[-1].facts[-1].at)
    past = [life for life in whole if life.facts[-1].at < begin][::every]
    later = [life for life in whole if life.facts[0].at >= begin][::every]
    started = time.process_time()
    samples = walk(past, library, loads)
    model = train(samples)
    print(
        f"     {len(past):,} past incidents, {len(samples):,} looks, {time.process_time() - started:.0f} s CPU, {load()}"
    )
    seen = walk(later, library, loads)
    ends = {life.ticket: life.facts[-1].at for life in later}
    grid, base_of = [one for one in seen if one.scheduled], [one for one in samples if one.scheduled]
    ours, base, known = brier(grid, model), breached_share(base_of), breached_share(grid)
    constant, hindsight = brier(grid, always(base)), brier(grid, always(known))
    bad = sum(looks[0].breached for looks in by_ticket(seen).values())
    print(f"     {len(later):,} later incidents, {bad:,} of them breached; share of the past {base:.3f}")
    print(f"     Brier score: forecast {ours:.4f}, base rate {constant:.4f}; by decile of probability, what came:")
    print(f"     {calibration(model, grid)}")
    verdicts.most("Brier score against the base rate's", ours / constant, 0.9)
    verdicts.most("Brier score against the later period's own rate", ours / hindsight, 0.9)
    started = time.process_time()
    for one in grid[:2_000]:
        model.probability(one.features)
    print(f"     asking the model: {(time.process_time() - started) / min(2_000, len(grid)) * 1e6:.1f} us CPU")
    rule, scored = by_rule(by_ticket(seen), ends), scores(model, seen)
    equal = by_forecast(scored, threshold_for(scored, rule.precision))
    print(f"     30-minute rule: precision {rule.precision:.3f}, {rule.told:,} warned, median lead {rule.median:.2f} h")
    print(
        f"     forecast at equal precision: {equal.precision:.3f}, {equal.told:,} warned, median lead {equal.median:.2f} h"
    )
    verdicts.least("precision of the forecast's warnings over the rule's", equal.precision / rule.precision, 1.0)
    verdicts.least("median lead time over the rule's", equal.median / rule.median, 1.0001)
    before = scores(model, samples)
    fixed = threshold_for(before, by_rule(by_ticket(samples), {x.ticket: x.facts[-1].at for x in past}).precision)
    kept = by_forecast(scored, fixed)
    print(
        f"     with the threshold {fixed} from the past: precision {kept.precision:.3f}, median lead {kept.median:.2f} h"
    )
    return verdicts.failed


def always(share: float) -> Forecast:
    """A forecast that says the same of every clock."""
    return Forecast(bias=0, weights={}, queues={}, kinds={}, scores=(0.5,), shares=(share,))


def breached_share(samples: Sequence[Sample]) -> float:
    """The share of looks at clocks that were breached later."""
    return statistics.fmean(one.breached for one in samples)


def calibration(model: Forecast, samples: Sequence[Sample]) -> str:
    """Of each tenth of probability: its mean and the share that was breached."""
    tenths: dict[int, list[tuple[float, bool]]] = {}
    for one in samples:
        p = model.probability(one.features)
        tenths.setdefault(min(9, int(p * 10)), []).append((p, one.breached))
    return " ".join(
        f"{statistics.mean(p for p, _ in found):.2f}->{statistics.mean(came for _, came in found):.2f}"
        for _, found in sorted(tenths.items())
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="every incident instead of every third")
    args = parser.parse_args()
    folder = os.environ.get("SIGNALBOX_DATA")
    if not folder:
        print("SKIPPED: SIGNALBOX_DATA names no folder of evaluation data")
        return 0
    return 1 if run(Path(folder), 1 if args.full else 3) else 0


if __name__ == "__main__":
    sys.exit(main())
