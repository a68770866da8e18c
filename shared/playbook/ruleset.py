"""Ordered rules: which hold for a ticket, in what order they act, and why.

A set is `first` (the first rule that holds acts) or `all` (every rule that holds acts, in order). Exactly one rule is
the default and acts when no other did. In an `all` set rules see what earlier ones wrote: after each write the rest
is looked at again, for at most 10 passes, each rule acting once, about 1,000 in all. A rule that would act again
because of what it set off is a loop; it is reported, not run.

What acting means is the caller's: the set hands each rule to `write`, which changes the facts and says which it
changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from shared.playbook.facts import Facts
from shared.playbook.predicates import Condition
from shared.playbook.rulecost import Purse, TooCostly, positions, text_units
from shared.playbook.ruleindex import RuleIndex

MAX_PASSES = 10
MAX_RULES = 20_000
MAX_ACTING = 1_000
MAX_WORDS = 200_000
"""Words and patterns of one set."""
MAX_SHOWN = 500
"""Characters of a text that a decision stores as its input: each rule that acted would store the whole text."""


class Mode(StrEnum):
    """How many rules of a set act."""

    FIRST = "first"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `when` is `None` for the default; `writes` are the facts it sets; `payload` is the caller's."""

    name: str
    when: Condition | None
    writes: Mapping[str, Any] = field(default_factory=dict)
    payload: Any = None
    reads: tuple[str, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reads", () if self.when is None else tuple(sorted(self.when.fields())))


class Run(msgspec.Struct, frozen=True):
    """What a set did: the rules that acted, in order; the loop it refused to run, if any; whether it ran out of
    passes.
    """

    acted: tuple[Rule, ...]
    passes: int = 1
    loop: tuple[str, ...] = ()
    exhausted: bool = False


class RulesTooCostly(Exception):
    """Rules would take too long on this ticket: nothing of the set was run further."""

    def __init__(self, rule_set: str, rule: str) -> None:
        super().__init__(f"{self.__doc__} ({rule_set}/{rule})")
        self.rule_set, self.rule = rule_set, rule


@dataclass(frozen=True, slots=True)
class Asked:
    """One condition of a rule as it was asked: what it says, the facts it read, whether it held."""

    condition: str
    facts: Mapping[str, Any]
    held: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a rule held or not: its conditions in order, up to and including the first that did not hold."""

    rule: str
    held: bool
    asked: tuple[Asked, ...]

    @property
    def cleared_by(self) -> str | None:
        """The condition that ruled it out."""
        return None if self.held else self.asked[-1].condition


Write = Callable[[Rule, MutableMapping[str, Any]], Iterable[str]]


def write_facts(rule: Rule, facts: MutableMapping[str, Any]) -> list[str]:
    """Set what the rule writes; return the names of the facts whose value changed."""
    changed = [name for name, value in rule.writes.items() if facts.get(name) != value]
    for name in changed:
        facts[name] = rule.writes[name]
    return changed


class RuleSet:
    """An immutable, compiled set; safe to share between threads. `rules` are in order, the default anywhere among them.

    Raises `ValueError` when there is not exactly one default, a name repeats, or there are more than 20,000 rules.
    """

    __slots__ = ("_conditions", "_index", "_readers", "default", "mode", "name", "rules")

    def __init__(self, name: str, mode: Mode, rules: Sequence[Rule]) -> None:
        defaults = [rule for rule in rules if rule.when is None]
        if len(defaults) != 1:
            raise ValueError(f"rule set {name!r} needs exactly one default rule, it has {len(defaults)}")
        if len(rules) > MAX_RULES:
            raise ValueError(f"rule set {name!r} has more than {MAX_RULES:,} rules")
        names = [rule.name for rule in rules]
        if len(set(names)) < len(names):
            twice = next(one for one in names if names.count(one) > 1)
            raise ValueError(f"rule set {name!r} has two rules called {twice!r}")
        self.name, self.mode, self.default = name, mode, defaults[0]
        self.rules = tuple(rule for rule in rules if rule.when is not None)
        self._conditions = [rule.when for rule in self.rules if rule.when is not None]
        if sum(map(text_units, self._conditions)) > MAX_WORDS:
            raise ValueError(f"rule set {name!r} looks for more than {MAX_WORDS:,} words and patterns")
        self._index = RuleIndex(self._conditions)
        self._readers: dict[str, int] = {}
        for position, condition in enumerate(self._conditions):
            for fact in condition.fields():
                self._readers[fact] = self._readers.get(fact, 0) | 1 << position

    @property
    def reads(self) -> frozenset[str]:
        """Every fact some rule asks for."""
        return frozenset(self._readers)

    def first(self, facts: Facts, purse: Purse | None = None) -> Rule:
        """Return the first rule that holds, or the default."""
        position = self._index.first(facts, -1, purse)
        return self.rules[position] if position >= 0 else self.default

    def run(self, facts: MutableMapping[str, Any], write: Write = write_facts, purse: Purse | None = None) -> Run:
        """Let the rules that hold act on `facts`; `write` applies one rule and returns the names of the facts it
        changed. What looking costs is paid from `purse` (default: a full one).

        Raises `RulesTooCostly`; a rule that is to blame three times is quarantined and asked no more (see `ruleindex`).
        """
        try:
            return self._run(facts, write, purse or Purse())
        except TooCostly as error:
            raise RulesTooCostly(self.name, self.rules[error.position].name) from error

    @property
    def quarantined(self) -> tuple[str, ...]:
        """Rules that are asked no more."""
        left = self._index.quarantined
        return tuple([self.rules[position].name for position in left]) if left else ()

    def _run(self, facts: MutableMapping[str, Any], write: Write, purse: Purse) -> Run:
        if self.mode is Mode.FIRST:
            rule = self.first(facts, purse)
            write(rule, facts)
            return Run((rule,))
        return _Chain(self, facts, write, purse).run()

    def verdict(self, name: str, facts: Facts) -> Verdict:
        """Return why the rule called `name` holds or does not; raise `KeyError` for an unknown name."""
        for rule in self.rules:
            if rule.name == name and rule.when is not None:
                return _verdict(rule.name, rule.when, facts)
        if name == self.default.name:
            return Verdict(name, True, ())
        raise KeyError(name)

    def verdicts(self, facts: Facts) -> list[Verdict]:
        """Return why each rule holds or does not, in order; for people, not for the hot path."""
        return [_verdict(rule.name, rule.when, facts) for rule in self.rules if rule.when is not None]

    def cleared(self, facts: Facts) -> dict[str, int]:
        """Return how many rules each indexed field ruled out."""
        return self._index.cleared(facts)

    def readers(self, changed: Iterable[str]) -> int:
        """Return the bitmap of rules that ask for any of the facts `changed`."""
        bits = 0
        for fact in changed:
            bits |= self._readers.get(fact, 0)
        return bits

    def holding(self, facts: Facts, within: int, purse: Purse) -> int:
        """Return the bitmap of the rules that hold, of those in the bitmap `within`."""
        return self._index.holding(facts, within, purse)


def _verdict(name: str, condition: Condition, facts: Facts) -> Verdict:
    asked = []
    for part in condition.conjuncts():
        held = part.compile()(facts)
        read = {fact: facts.get(fact) for fact in sorted(part.fields())}
        asked.append(Asked(str(part), read, held))
        if not held:
            return Verdict(name, False, tuple(asked))
    return Verdict(name, True, tuple(asked))


def inputs(rule: Rule, facts: Facts) -> dict[str, Any]:
    """Return the facts that the rule asks for, as they are: what a decision stores as its inputs. A long text is cut."""
    return {
        name: value if not isinstance(value := facts.get(name), str) or len(value) <= MAX_SHOWN else _cut(value)
        for name in rule.reads
    }


def _cut(text: str) -> str:
    return f"{text[:MAX_SHOWN]}… ({len(text):,} characters)"


class _Chain:
    """One run of an `all` set. A rule is asked once, and again when somebody wrote what it asks for."""

    def __init__(self, rules: RuleSet, facts: MutableMapping[str, Any], write: Write, purse: Purse) -> None:
        self._set, self._facts, self._write, self._purse = rules, facts, write, purse
        self._unfired = (1 << len(rules.rules)) - 1
        self._holds = rules.holding(facts, self._unfired, purse)
        self._rewoken = False
        self._acted: list[tuple[int, tuple[str, ...]]] = []

    def run(self) -> Run:
        pending, passes = -1, 0
        while pending and passes < MAX_PASSES and len(self._acted) <= MAX_ACTING:
            passes += 1
            pending = self._pass()
        exhausted = bool(pending) and bool(self._holds & self._unfired)
        acted = [self._set.rules[position] for position, _ in self._acted]
        if not acted:
            self._write(self._set.default, self._facts)
            acted = [self._set.default]
        return Run(tuple(acted), passes, self._loop() if self._rewoken else (), exhausted)

    def _pass(self) -> int:
        """Run once from the first rule to the last; return the unfired rules that writes of this pass may have
        woken.
        """
        woken, ahead = 0, self._unfired
        while standing := self._holds & ahead:
            bit = standing & -standing
            position = bit.bit_length() - 1
            self._unfired &= ~bit
            ahead &= -(bit << 1)
            changed = tuple(self._write(self._set.rules[position], self._facts))
            self._acted.append((position, changed))
            readers = self._set.readers(changed) if changed else 0
            if readers:
                woken |= readers
                self._rewoken = self._rewoken or bool(readers & ~self._unfired & ~bit)
                if len(self._acted) <= MAX_ACTING:
                    self._ask_again(readers & self._unfired)
        return woken & self._unfired

    def _ask_again(self, rules: int) -> None:
        if rules:
            self._holds = self._holds & ~rules | self._set.holding(self._facts, rules, self._purse)

    def _loop(self) -> tuple[str, ...]:
        """Return the names of rules that set each other off, or nothing."""
        acted = self._acted
        again = 0
        for position, _ in acted:
            again |= 1 << position
        for position in positions(self._set.holding(self._facts, again, self._purse)):
            rule = self._set.rules[position]
            if not any(self._facts.get(name) != value for name, value in rule.writes.items()):
                continue
            chain = self._caused_by(position)
            if chain:
                return (*chain, rule.name)
        return ()

    def _caused_by(self, position: int) -> tuple[str, ...]:
        """Follow what the rule set off; return the chain when that came back to what the rule itself asks."""
        start = next(i for i, (fired, _) in enumerate(self._acted) if fired == position)
        touched, chain = set(self._acted[start][1]), [self._set.rules[position].name]
        bit = 1 << position
        for fired, changed in self._acted[start + 1 :]:
            if self._set.readers(touched) >> fired & 1 and changed:
                chain.append(self._set.rules[fired].name)
                if self._set.readers(changed) & bit:
                    return tuple(chain)
                touched |= set(changed)
        return ()
