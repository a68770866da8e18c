"""One ticket under classification: facts and labels as rules, models and the matrix write them."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from services.router.domain.answers import Enriched, Predict, Prediction
from services.router.domain.labels import Label, Source, priority_of
from shared.playbook.routing import Actions, Hold, ModelUse
from shared.playbook.ruleset import Rule

if TYPE_CHECKING:
    from services.router.domain.classify import Classifier


@dataclass(frozen=True, slots=True)
class Act:
    """A rule's actions, made ready: everything that is not a fact it writes."""

    override: bool
    labels: Mapping[str, Label]
    extra: Actions | None


def hundredths(weight: float) -> int:
    """Return a weight or capacity as the whole hundredths that loads are counted in."""
    return round(weight * 100)


class Draft(msgspec.Struct):
    """One ticket under classification. (A struct: each ticket makes one, and its containers are made in C.)"""

    owner: Classifier
    facts: MutableMapping[str, Any]
    sources: dict[str, Label] = {}
    skills: dict[str, int] = {}
    preferred: dict[str, int] = {}
    weight: int = 0
    effort_seconds: float = 0.0
    hold: Hold | None = None
    models: list[ModelUse] = []
    guesses: tuple[tuple[str, float], ...] = ()
    enriched: dict[str, Enriched] = {}
    notes: list[str] = []
    _fixed: set[str] = set()

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
        act: Act = rule.payload
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
        if changed:
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
                continue
            if answer.label is not None and answer.label not in self._known(use):
                self.notes.append(f"model {use.name} says {answer.label!r}, which the playbook does not have")
                answer = Prediction(None, answer.confidence, answer.guesses, answer.model)
            model = answer.model or use.name
            if answer.label is None:
                self.guesses = answer.guesses[:3]
                self.notes.append(f"model {use.name} abstained")
                self._set("group", Label(self.owner.routing.triage, Source.MODEL, model, answer.confidence))
                self._fixed.add("group")
            else:
                self._set(fact, Label(answer.label, Source.MODEL, model, answer.confidence))

    def _known(self, use: ModelUse) -> Mapping[str, Any]:
        """The values that a model may say."""
        if use.label == "group":
            return self.owner.routing.groups
        return next((values for name, _, values, *_ in self.owner._dimensions if name == use.label), {})

    def _set(self, fact: str, label: Label) -> None:
        if fact in self._fixed:
            return
        self.sources[fact] = label
        self.facts[fact] = label.value
        self._follow([fact])
