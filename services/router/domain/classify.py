"""What a ticket is: labels, priority, group, lane, and what it asks of whoever takes it.

Order: what the sender gave → defaults → rule sets in order, each followed by the models its rules ask for. The
priority is the matrix of its labels and follows them while rules write, unless it was given or a rule set it. What
was given wins unless its dimension, the scale or the rule says otherwise. A given value that the taxonomy does not
have counts as not given and is noted.

The group is the one a rule chose, else the playbook's triage group. Rules must have enrichment facts already
(`enrich.…`): asking outside systems happens before, outside any transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from services.router.domain.labels import Label, Source, priority_of
from services.router.errors import PlaybookUnsound
from shared.playbook.conditions import ConditionError, Schema, Test, parse
from shared.playbook.routing import Actions, Hold, ModelUse, Routing, RuleSetSpec, Word
from shared.playbook.routingcheck import writes_of
from shared.playbook.ruleset import Rule, RuleSet, Run, inputs
from shared.playbook.ticketfacts import facts_of, schema_of, time_facts

LANES = ("urgent", "normal", "bulk")
Skills = tuple[tuple[str, int], ...]
"""Skill and lowest level, sorted: hashable, so that tickets with the same demand share one look at the staff."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's answer: `label` is `None` when it abstains; `guesses` are the best labels with their confidence."""

    label: str | None
    confidence: float
    guesses: tuple[tuple[str, float], ...] = ()


Predict = Callable[[ModelUse, str], Prediction | None]
"""Asks the published model for a text; `None` when there is no such model now."""


class Acted(msgspec.Struct, frozen=True):
    """A rule that acted, and the facts its conditions read."""

    rule_set: str
    rule: str
    inputs: Mapping[str, Any]


class Classified(msgspec.Struct, frozen=True):
    """The decision about one ticket. `weight` is in hundredths of an ordinary ticket, `effort_seconds` of shift time."""

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
    effort_seconds: float = 0.0
    hold: Hold | None = None
    acted: tuple[Acted, ...] = ()
    guesses: tuple[tuple[str, float], ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As stored with the decision and shown by `explain`."""
        return {
            "labels": {name: label.as_dict() for name, label in self.labels.items()},
            "priority": self.priority.as_dict(),
            "group": self.group.as_dict(),
            "rules": [{"set": one.rule_set, "rule": one.rule, "inputs": dict(one.inputs)} for one in self.acted],
            "guesses": [list(guess) for guess in self.guesses],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class _Act:
    """A rule's actions, made ready: everything that is not a fact it writes."""

    override: bool
    labels: Mapping[str, Label]
    extra: Actions | None


class Classifier:
    """A routing section, compiled. Immutable; shared by all threads. Raises `PlaybookUnsound` for an unsound one."""

    def __init__(self, routing: Routing, schema: Schema | None = None) -> None:
        self.routing = routing
        self.schema = schema or schema_of(routing)
        scale = routing.taxonomy.priority
        self.rank = {str(value): place for place, value in enumerate(scale.values)}
        self.sets = tuple(self._compiled(i, spec) for i, spec in enumerate(routing.rules))
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
        self._with_text = "text" in reads or any(rule.then.model for one in routing.rules for rule in one.rules)

    def facts(self, ticket: Mapping[str, Any], opened_at: datetime) -> dict[str, Any]:
        """Return the facts of a ticket in the shape it is posted in. `opened_at` is aware; it sets the time of day."""
        facts = facts_of(ticket, with_text=self._with_text)
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
        """Decide about the ticket with these facts (changed in place to what was decided)."""
        work = _Work(self, facts)
        acted: list[Acted] = []
        for rules in self.sets:
            run = rules.run(facts, work.write)
            acted.extend([Acted(rules.name, rule.name, inputs(rule, facts)) for rule in run.acted])
            if run.loop or run.exhausted:
                work.notes.append(_bounded(rules, run))
            if work.models:  # before the next set, which may ask for what the model said
                work.ask(predict)
        return self._decided(facts, work, tuple(acted))

    def _decided(self, facts: Mapping[str, Any], work: _Work, acted: tuple[Acted, ...]) -> Classified:
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
            work.weight or self._weight(facts),
            work.effort_seconds,
            work.hold,
            acted,
            work.guesses,
            tuple(work.notes),
        )

    def _lane(self, priority: str, facts: Mapping[str, Any]) -> str:
        """Priority first; a ticket that came as bulk stays bulk unless its priority is urgent."""
        found = self._lane_of.get(priority)
        if found is not None:
            return found
        bulk = self._lane_tests["bulk"]
        return "bulk" if bulk is not None and bulk(facts) else "normal"

    def _weight(self, facts: Mapping[str, Any]) -> int:
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
            rules.append(Rule(rule.name, when, writes, _Act(then.override, labels, then if extra else None)))
        try:
            return RuleSet(spec.name, spec.matches, rules)
        except ValueError as error:
            raise PlaybookUnsound(f"rules[{place}]", str(error)) from error

    def _reads(self) -> frozenset[str]:
        found: set[str] = set()
        for rules in self.sets:
            found |= rules.reads
        whens = [lane.when for _, lane in self._lanes() if lane.when] + [rule.when for rule in self.routing.work.rules]
        for when in whens:
            found |= parse(when, self.schema).fields()
        return frozenset(found)


def _given(values: Iterable[str]) -> dict[str, Label]:
    """One label a value, made once: tickets share them."""
    return {value: Label(value, Source.GIVEN) for value in values}


def _default(value: Word | None) -> Label | None:
    return None if value is None else Label(str(value), Source.DEFAULT)


def hundredths(weight: float) -> int:
    """Return a weight or capacity as the whole hundredths that loads are counted in."""
    return round(weight * 100)


def _bounded(rules: RuleSet, run: Run) -> str:
    if run.loop:
        return f"rule set {rules.name}: loop {' → '.join(run.loop)}, each ran once"
    return f"rule set {rules.name}: stopped after {run.passes} passes"


@dataclass(slots=True)
class _Work:
    """One ticket under classification."""

    owner: Classifier
    facts: MutableMapping[str, Any]
    sources: dict[str, Label] = field(default_factory=dict)
    skills: dict[str, int] = field(default_factory=dict)
    preferred: dict[str, int] = field(default_factory=dict)
    weight: int = 0
    effort_seconds: float = 0.0
    hold: Hold | None = None
    models: list[ModelUse] = field(default_factory=list)
    guesses: tuple[tuple[str, float], ...] = ()
    notes: list[str] = field(default_factory=list)
    _fixed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        facts, owner = self.facts, self.owner
        for name, fact, values, default, given_wins in owner._dimensions:
            given = facts.get(fact)
            if given is not None:
                label = values.get(given)
                if label is not None:
                    self.sources[fact] = label
                    if given_wins:
                        self._fixed.add(fact)
                    continue
                self.notes.append(f"given {name} {given!r} is not in the taxonomy")
                facts[fact] = None
            if default is not None:
                facts[fact] = default.value
                self.sources[fact] = default
        self._given_priority()
        if facts.get("group") is not None:
            self._given("group", owner.routing.groups)
        if facts.get("kind") is not None:
            self._fixed.add("kind")

    def _given_priority(self) -> None:
        given = self.facts.get("priority")
        if given is not None:
            self.facts["priority"] = given = str(given)
            if given in self.owner.rank:
                self.sources["priority"] = Label(given, Source.GIVEN)
                if self.owner._given_priority_wins:
                    self._fixed.add("priority")
                return
            self.notes.append(f"given priority {given!r} is not in the scale")
        self._derive()

    def _given(self, fact: str, known: Mapping[str, Any]) -> None:
        given = self.facts[fact]
        if given in known:
            self.sources[fact] = Label(given, Source.GIVEN)
            self._fixed.add(fact)
        else:
            self.notes.append(f"given {fact} {given!r} is not known")
            self.facts[fact] = None

    def _derive(self) -> bool:
        """Set the priority from the matrix; return whether it changed."""
        owner, facts = self.owner, self.facts
        first, second = owner._matrix_facts
        found = priority_of(owner._matrix, facts.get(first), facts.get(second)) if owner._matrix else None
        before = facts.get("priority")
        if found is None:
            self.sources["priority"] = owner._priority_default
            facts["priority"] = owner._priority_default.value
        else:
            self.sources["priority"] = owner._priorities.get(found) or Label(found, Source.MATRIX)
            facts["priority"] = found
        return bool(facts["priority"] != before)

    def write(self, rule: Rule, facts: MutableMapping[str, Any]) -> list[str]:
        """Apply one rule; return the facts that changed."""
        act: _Act = rule.payload
        changed: list[str] = []
        for fact, value in rule.writes.items():
            if fact in self._fixed and not act.override:
                continue
            self.sources[fact] = act.labels[fact]
            if facts.get(fact) != value:
                facts[fact] = value
                changed.append(fact)
        if act.extra is not None:
            self._demand(act.extra)
        self._follow(changed)
        return changed

    def _follow(self, changed: list[str]) -> None:
        """Let the priority follow its labels, unless somebody decided it."""
        source = self.sources["priority"].source
        if source is Source.MATRIX or source is Source.DEFAULT:
            first, second = self.owner._matrix_facts
            if (first in changed or second in changed) and self._derive():
                changed.append("priority")

    def _demand(self, then: Actions) -> None:
        for skill, level in then.skills.items():
            self.skills[skill] = max(level, self.skills.get(skill, 0))
        for skill, level in then.preferred.items():
            self.preferred[skill] = max(level, self.preferred.get(skill, 0))
        if then.weight is not None:
            self.weight = hundredths(then.weight)
        if then.effort is not None:
            self.effort_seconds = then.effort.total_seconds()
        if then.hold is not None:
            self.hold = then.hold
        if then.model is not None:
            self.models.append(then.model)

    def ask(self, predict: Predict | None) -> None:
        """Ask the models that rules named; one that abstains sends the ticket to triage with its guesses."""
        text = self.facts.get("text") or ""
        uses, self.models = self.models, []
        for use in uses:
            fact = "group" if use.label == "group" else f"labels.{use.label}"
            known = self.sources.get(fact)
            if known is not None and known.source in (Source.GIVEN, Source.RULE):
                continue
            answer = predict(use, text) if predict is not None else None
            if answer is None:
                self.notes.append(f"model {use.name} is not published")
            elif answer.label is None:
                self.guesses = answer.guesses[:3]
                self.notes.append(f"model {use.name} abstained")
                self._set("group", Label(self.owner.routing.triage, Source.MODEL, use.name, answer.confidence))
                self._fixed.add("group")
            else:
                self._set(fact, Label(answer.label, Source.MODEL, use.name, answer.confidence))

    def _set(self, fact: str, label: Label) -> None:
        if fact in self._fixed:
            return
        self.sources[fact] = label
        self.facts[fact] = label.value
        self._follow([fact])
