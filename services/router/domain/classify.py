"""What a ticket is: labels, priority, group, lane, and what it asks of whoever takes it.

Order: what the sender gave → defaults → rule sets in order, each followed by the models its rules ask for. The
priority is the matrix of its labels and follows them while rules write, unless it was given or a rule set it. What
was given wins unless its dimension, the scale or the rule says otherwise. A given value that the taxonomy does not
have counts as not given and is noted.

The group is the one a rule chose, else the playbook's triage group. What outside systems say (`enrich.…`) is asked
for before the first rule set that wants it; the asking itself happens elsewhere, outside any transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from services.router.domain.answers import Awaiting, Enrich, Enriched, Predict
from services.router.domain.draft import Act, Draft, hundredths
from services.router.domain.labels import Label, Source
from services.router.errors import PlaybookUnsound
from shared.playbook.conditions import ConditionError, Schema, Test, parse
from shared.playbook.enrichment import facts_named
from shared.playbook.routing import Hold, Routing, RuleSetSpec, Word
from shared.playbook.routingcheck import writes_of
from shared.playbook.rulecost import Purse
from shared.playbook.ruleset import Rule, RuleSet, RulesTooCostly, Run, inputs
from shared.playbook.ticketfacts import facts_of, schema_of, time_facts

LANES = ("urgent", "normal", "bulk")
_NAMED = 5
"""So many rules that are left out are named in an explanation."""
Skills = tuple[tuple[str, int], ...]
"""Skill and lowest level, sorted: hashable, so that tickets with the same demand share one look at the staff."""


class Acted(msgspec.Struct, frozen=True):
    """A rule that acted, and the facts its conditions read."""

    rule_set: str
    rule: str
    inputs: Mapping[str, Any]


class Classified(msgspec.Struct, frozen=True):
    """The decision about one ticket. `weight` is in hundredths of an ordinary ticket (`weight_given`: a rule said so and not
    the `work` section), `effort_seconds` of shift time.
    """

    labels: Mapping[str, Label]
    priority: Label
    group: Label
    kind: str | None
    lane: str
    rank: int
    agent: str | None = None
    skills: Skills = ()
    preferred: Skills = ()
    weight: int = 100
    weight_given: bool = False
    effort_seconds: float = 0.0
    hold: Hold | None = None
    acted: tuple[Acted, ...] = ()
    guesses: tuple[tuple[str, float], ...] = ()
    enriched: tuple[Enriched, ...] = ()
    notes: tuple[str, ...] = ()
    stopped: str | None = None
    """The rule at which classification was given up, because it would have taken too long."""

    def as_dict(self) -> dict[str, Any]:
        """As stored with the decision and shown by `explain`."""
        found = {
            "labels": {name: label.as_dict() for name, label in self.labels.items()},
            "priority": self.priority.as_dict(),
            "group": self.group.as_dict(),
            "rules": [{"set": one.rule_set, "rule": one.rule, "inputs": one.inputs} for one in self.acted],
            "guesses": [list(guess) for guess in self.guesses],
            "notes": list(self.notes),
        }
        if self.enriched:
            found["enriched"] = {one.name: one.as_dict() for one in self.enriched}
        return found


class Classifier:
    """A routing section, compiled. Immutable; shared by all threads. Raises `PlaybookUnsound` for an unsound one."""

    def __init__(self, routing: Routing, schema: Schema | None = None) -> None:
        self.routing = routing
        self.schema = schema or schema_of(routing)
        scale = routing.taxonomy.priority
        self.rank = {str(value): place for place, value in enumerate(scale.values)}
        self.sets = tuple((self._compiled(i, spec), spec.enrich) for i, spec in enumerate(routing.rules))
        self._lane_tests = {name: self._test(lane.when, f"lanes.{name}.when") for name, lane in self._lanes()}
        self._lane_of = {str(value): name for name, lane in self._lanes() for value in lane.priorities}
        self._work = [
            (self._test(rule.when, f"work.rules[{i}].when"), hundredths(rule.weight))
            for i, rule in enumerate(routing.work.rules)
        ]
        self._default_weight = hundredths(routing.work.default)
        self._dimensions = [
            (name, f"labels.{name}", _given(map(str, one.values)), _default(one.default), one.given_wins)
            for name, one in routing.taxonomy.dimensions.items()
        ]
        self._priorities = {value: Label(value, Source.MATRIX) for value in self.rank}
        self._triage = Label(routing.triage, Source.DEFAULT)
        self._matrix = scale.matrix
        self._matrix_facts = tuple(f"labels.{name}" for name in scale.matrix.by) if scale.matrix else ("", "")
        self._priority_default = Label(str(scale.default), Source.DEFAULT)
        self._given_priority_wins = scale.given_wins
        reads = self._reads()
        self._zone = ZoneInfo(routing.zone) if any(name.startswith("time.") for name in reads) else None
        self.with_text = "text" in reads or any(rule.then.model for one in routing.rules for rule in one.rules)
        """Does anybody ask for subject and body in one?"""

    def facts(self, ticket: Mapping[str, Any], opened_at: datetime) -> dict[str, Any]:
        """Return the facts of a ticket in the shape it is posted in. `opened_at` is aware; it sets the time of day."""
        return self.timed(facts_of(ticket, with_text=self.with_text), opened_at)

    def timed(self, facts: dict[str, Any], opened_at: datetime) -> dict[str, Any]:
        """The same facts with those of the time of day, where somebody asks for it."""
        if self._zone is not None:
            facts.update(time_facts(opened_at, self._zone))
        return facts

    def lane_at_intake(self, facts: Mapping[str, Any]) -> str:
        """Return the first lane, from what the sender gave alone."""
        for name, test in self._lane_tests.items():
            if test is not None and test(facts):
                return name
        return "normal"

    def classify(self, facts: MutableMapping[str, Any], predict: Predict | None = None) -> Classified:
        """Decide about the ticket with these facts (changed in place to what was decided); nobody outside is asked."""
        found = self.begin(facts, predict, self.default)
        assert isinstance(found, Classified)
        return found

    def default(self, name: str, facts: Mapping[str, Any], why: str = "not asked", url: str = "") -> Enriched:
        """What an enrichment says when it is not asked or does not answer."""
        return Enriched(name, self.routing.enrichments[name].default, "default", why, url)

    def begin(self, facts: MutableMapping[str, Any], predict: Predict | None, enrich: Enrich) -> Classified | Awaiting:
        """The same, asking outside systems before the rule sets that want them; `Awaiting` where one has not answered.

        Asked again with the same facts it says the same, but for what was answered meanwhile.
        """
        work, purse = Draft(self, facts), Purse()
        acted: list[Acted] = []
        name = ""

        def act(rule: Rule, facts: MutableMapping[str, Any]) -> list[str]:
            acted.append(Acted(name, rule.name, inputs(rule, facts)))  # as it read them, before it writes them
            return work.write(rule, facts)

        for rules, wanted in self.sets:
            name = rules.name
            for system in wanted:
                if system in work.enriched:
                    continue
                said = enrich(system, facts)
                if said is None:
                    return Awaiting(system)
                work.enriched[system] = said
                facts.update({f"enrich.{system}.{fact}": value for fact, value in said.facts.items()})
            try:
                run = rules.run(facts, act, purse)
            except RulesTooCostly as error:
                work.notes.append(f"rule {error.rule_set}/{error.rule} would take too long on this ticket: triage")
                work.sources["group"] = self._triage
                return self._decided(facts, work, tuple(acted), error.rule)
            if left_out := rules.quarantined:
                work.notes.extend(_left_out(rules.name, left_out))
            if run.loop or run.exhausted:
                work.notes.append(_bounded(rules, run))
            if work.models:  # before the next set, which may ask for what the model said
                work.ask(predict)
        return self._decided(facts, work, tuple(acted))

    def _decided(
        self, facts: Mapping[str, Any], work: Draft, acted: tuple[Acted, ...], stopped: str | None = None
    ) -> Classified:
        sources = work.sources
        labels = {name: sources[fact] for name, fact, *_ in self._dimensions if fact in sources}
        priority = sources["priority"]
        return Classified(
            labels,
            priority,
            sources.get("group") or self._triage,
            facts.get("kind"),
            self._lane(priority.value, facts),
            self.rank.get(priority.value, len(self.rank)),
            facts.get("agent"),
            tuple(sorted(work.skills.items())) if work.skills else (),
            tuple(sorted(work.preferred.items())) if work.preferred else (),
            work.weight or self.weight(facts),
            bool(work.weight),
            work.effort_seconds,
            work.hold,
            acted,
            work.guesses,
            tuple(work.enriched.values()),
            tuple(work.notes),
            stopped,
        )

    def _lane(self, priority: str, facts: Mapping[str, Any]) -> str:
        """Priority first; a ticket that came as bulk stays bulk unless its priority is urgent."""
        found = self._lane_of.get(priority)
        if found is not None:
            return found
        bulk = self._lane_tests["bulk"]
        return "bulk" if bulk is not None and bulk(facts) else "normal"

    def weight(self, facts: Mapping[str, Any]) -> int:
        """What the `work` section makes of a ticket with these facts, in hundredths."""
        for test, weight in self._work:
            if test is not None and test(facts):
                return weight
        return self._default_weight

    def _lanes(self) -> Sequence[tuple[str, Any]]:
        return (("urgent", self.routing.lanes.urgent), ("bulk", self.routing.lanes.bulk))

    def _test(self, when: Mapping[str, Any] | None, path: str) -> Test | None:
        try:
            return None if when is None else parse(when, self.schema, path).compile()
        except ConditionError as error:
            raise PlaybookUnsound(error.path, error.reason) from error

    def _compiled(self, place: int, spec: RuleSetSpec) -> RuleSet:
        rules = []
        for i, rule in enumerate(spec.rules):
            path = f"rules[{place}].rules[{i}].when"
            try:
                when = None if rule.default and rule.when is None else parse(rule.when, self.schema, path)
            except ConditionError as error:
                raise PlaybookUnsound(error.path, error.reason) from error
            then = rule.then
            extra = then.skills or then.preferred or then.weight or then.effort or then.hold or then.model
            writes = writes_of(then)
            labels = {fact: Label(value, Source.RULE, f"{spec.name}/{rule.name}") for fact, value in writes.items()}
            rules.append(Rule(rule.name, when, writes, Act(then.override, labels, then if extra else None)))
        try:
            return RuleSet(spec.name, spec.matches, rules)
        except ValueError as error:
            raise PlaybookUnsound(f"rules[{place}]", str(error)) from error

    def _reads(self) -> frozenset[str]:
        found: set[str] = set()
        for rules, wanted in self.sets:
            found |= rules.reads
            found |= {fact for name in wanted for fact in facts_named(self.routing.enrichments[name].url)}
        whens = [lane.when for _, lane in self._lanes() if lane.when] + [rule.when for rule in self.routing.work.rules]
        for when in whens:
            found |= parse(when, self.schema).fields()
        return frozenset(found)


def _given(values: Iterable[str]) -> dict[str, Label]:
    """One label a value, made once: tickets share them."""
    return {value: Label(value, Source.GIVEN) for value in values}


def _default(value: Word | None) -> Label | None:
    return None if value is None else Label(str(value), Source.DEFAULT)


def _left_out(rule_set: str, names: Sequence[str]) -> Iterable[str]:
    """One line each for a few; thousands would be stored with every ticket."""
    yield from (f"rule {rule_set}/{one} is quarantined: it took too long" for one in names[:_NAMED])
    if len(names) > _NAMED:
        yield f"{len(names) - _NAMED:,} more rules of {rule_set} are quarantined: they took too long"


def _bounded(rules: RuleSet, run: Run) -> str:
    if run.loop:
        return f"rule set {rules.name}: loop {' → '.join(run.loop)}, each ran once"
    return f"rule set {rules.name}: stopped after {run.passes} passes"
