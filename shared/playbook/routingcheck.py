"""Is the routing part of a playbook sound? Every finding has the path of what is wrong.

Errors: unknown names, values outside the taxonomy, conditions that cannot be meant, rules that are never reached, sets
without exactly one default, strategies without what they need, delegates that run in a circle. Warnings: demands that
nobody fulfils, answers of outside systems that their default does not know.

People named by groups, and lanes, are proven where the whole playbook is (`signalbox check`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from shared.playbook.conditions import ConditionError, Schema, parse
from shared.playbook.enrichment import facts_named, fault_of
from shared.playbook.facts import meant
from shared.playbook.routing import Actions, FieldType, Group, RelaxTo, Routing, RuleSetSpec, Strategy
from shared.playbook.rulecheck import check as check_rules
from shared.playbook.ruleset import Rule, RuleSet
from shared.playbook.ticketfacts import schema_of

MAX_WAIT = timedelta(minutes=1)
"""Longest time-out of an enrichment."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding; `path` as in `rules[0].rules[3].when.priority`."""

    path: str
    reason: str
    warning: bool = False


def check(routing: Routing) -> list[Problem]:
    """Return every finding, in the order of the sections."""
    try:
        ZoneInfo(routing.zone)
        schema = schema_of(routing)
    except (ValueError, KeyError, OSError) as error:
        return [Problem("zone", f"unknown time zone {routing.zone!r} ({error})")]
    found = [*_taxonomy(routing), *_fields(routing)]
    found += [
        problem for place, spec in enumerate(routing.rules) for problem in _rule_set(place, spec, routing, schema)
    ]
    found += [*_names_twice("rules", (spec.name for spec in routing.rules)), *_groups(routing, schema)]
    return [*found, *_delegates(routing), *_work(routing, schema), *_enrichments(routing, schema)]


def writes_of(then: Actions) -> dict[str, str]:
    """Return the facts that a rule with these actions sets."""
    writes = {f"labels.{name}": str(value) for name, value in then.labels.items()}
    for fact, value in (("priority", then.priority), ("group", then.group), ("agent", then.agent), ("kind", then.kind)):
        if value is not None:
            writes[fact] = str(value)
    return writes


def _unknown(path: str, name: str, known: Iterable[str], what: str) -> Iterator[Problem]:
    names = list(known)
    if name not in names:
        yield Problem(path, f"unknown {what} {name!r}{meant(name, names)}")


def _names_twice(path: str, names: Iterable[str]) -> Iterator[Problem]:
    seen: set[str] = set()
    for place, name in enumerate(names):
        if name in seen:
            yield Problem(f"{path}[{place}].name", f"a second {name!r}")
        seen.add(name)


def _taxonomy(routing: Routing) -> Iterator[Problem]:
    taxonomy = routing.taxonomy
    for name, one in taxonomy.dimensions.items():
        path = f"taxonomy.dimensions.{name}"
        if not one.values:
            yield Problem(f"{path}.values", "a dimension without values")
        elif one.default is not None:
            yield from _unknown(f"{path}.default", str(one.default), map(str, one.values), "value")
    scale, path = taxonomy.priority, "taxonomy.priority"
    priorities = [str(value) for value in scale.values]
    yield from _unknown(f"{path}.default", str(scale.default), priorities, "priority")
    if scale.matrix is None:
        return
    yield from _unknown(f"{path}.matrix.otherwise", str(scale.matrix.otherwise), priorities, "priority")
    sides = [taxonomy.dimensions.get(name) for name in scale.matrix.by]
    for name in scale.matrix.by:
        yield from _unknown(f"{path}.matrix.by", name, taxonomy.dimensions, "dimension")
    if sides[0] is None or sides[1] is None:
        return
    for first, row in scale.matrix.cells.items():
        here = f"{path}.matrix.cells.{first}"
        yield from _unknown(here, str(first), map(str, sides[0].values), scale.matrix.by[0])
        for second, priority in row.items():
            yield from _unknown(f"{here}.{second}", str(second), map(str, sides[1].values), scale.matrix.by[1])
            yield from _unknown(f"{here}.{second}", str(priority), priorities, "priority")


def _fields(routing: Routing) -> Iterator[Problem]:
    for name, one in routing.fields.items():
        if one.type is FieldType.CHOICE and not one.values:
            yield Problem(f"fields.{name}.values", "a choice without values")
        if one.values and one.type is not FieldType.CHOICE:
            yield Problem(f"fields.{name}.values", f"values are for a choice, the field is {one.type}")


def _rule_set(place: int, spec: RuleSetSpec, routing: Routing, schema: Schema) -> Iterator[Problem]:
    path = f"rules[{place}]"
    for number, name in enumerate(spec.enrich):
        yield from _unknown(f"{path}.enrich[{number}]", name, routing.enrichments, "enrichment")
    rules: list[Rule] = []
    for number, rule in enumerate(spec.rules):
        here = f"{path}.rules[{number}]"
        yield from _actions(f"{here}.then", rule.then, routing)
        yield from _held(f"{here}.then.hold", rule.then, schema)
        if rule.default and rule.when is not None:
            yield Problem(f"{here}.when", "the default rule holds when no other does; it has no condition")
        elif not rule.default and rule.when is None:
            yield Problem(f"{here}.when", "blank condition; the rule for everything else is written `default: true`")
        else:
            try:
                when = None if rule.default else parse(rule.when, schema, f"{here}.when")
            except ConditionError as error:
                yield Problem(error.path, error.reason)
            else:
                rules.append(Rule(rule.name, when, writes_of(rule.then)))
    if len(rules) < len(spec.rules):
        return  # what is left cannot be judged as a set
    try:
        compiled = RuleSet(spec.name, spec.matches, rules)
    except ValueError as error:
        yield Problem(path, str(error))
        return
    places = {rule.name: number for number, rule in enumerate(rules)}
    for problem in check_rules(compiled, schema, places):
        yield Problem(f"{path}.{problem.path}", f"{problem.rule}: {problem.reason}")


def _actions(path: str, then: Actions, routing: Routing) -> Iterator[Problem]:
    dimensions = routing.taxonomy.dimensions
    for name, value in then.labels.items():
        here = f"{path}.labels.{name}"
        if name in dimensions:
            yield from _unknown(here, str(value), map(str, dimensions[name].values), f"value of {name}")
        else:
            yield from _unknown(here, name, dimensions, "dimension")
    if then.priority is not None:
        values = map(str, routing.taxonomy.priority.values)
        yield from _unknown(f"{path}.priority", str(then.priority), values, "priority")
    if then.group is not None:
        yield from _unknown(f"{path}.group", then.group, routing.groups, "group")
    if then.agent is not None:
        yield from _unknown(f"{path}.agent", then.agent, routing.agents, "person")
    if then.model is not None and then.model.label != "group":
        yield from _unknown(f"{path}.model.label", then.model.label, dimensions, "dimension")
    if then.weight is not None and then.weight <= 0:
        yield Problem(f"{path}.weight", "a ticket that takes nothing of a capacity; weights are above 0")
    yield from _demand(path, then, routing)


def _held(path: str, then: Actions, schema: Schema) -> Iterator[Problem]:
    """What is counted is a fact that there is: a ticket without it is never held."""
    if then.hold is None:
        return
    if then.hold.at_least < 1:
        yield Problem(f"{path}.at_least", "at least 1")
    try:
        schema.get(then.hold.per, f"{path}.per")
    except ConditionError as error:
        yield Problem(error.path, error.reason)


def _demand(path: str, then: Actions, routing: Routing) -> Iterator[Problem]:
    """A mandatory skill that nobody of the group has: such tickets wait for ever."""
    members = routing.groups[then.group].members if then.group in routing.groups else tuple(routing.agents)
    people = [routing.agents[name] for name in members if name in routing.agents]
    for skill, level in then.skills.items():
        if people and not any(one.skills.get(skill, 0) >= level for one in people):
            where = f"of {then.group} " if then.group else ""
            yield Problem(f"{path}.skills.{skill}", f"nobody {where}has {skill} at level {level}", warning=True)


def _groups(routing: Routing, schema: Schema) -> Iterator[Problem]:
    for name, group in routing.groups.items():
        path = f"groups.{name}"
        yield from _strategy(path, group, schema)
        for member in group.weights:
            yield from _unknown(f"{path}.weights.{member}", member, group.members, "member")
        if any(weight <= 0 for weight in group.weights.values()):
            yield Problem(f"{path}.weights", "weights are above 0")
        if len(set(group.members)) < len(group.members):
            yield Problem(f"{path}.members", "somebody is named twice")
        if any(one.to is RelaxTo.OVERFLOW for one in group.relax) and group.overflow is None:
            yield Problem(f"{path}.relax", "relaxes to an overflow group, but none is named")
        if group.overflow == name:
            yield Problem(f"{path}.overflow", "a group cannot overflow into itself")
        if group.rate is not None and group.rate.limit < 1:
            yield Problem(f"{path}.rate.limit", "at least 1")


def _strategy(path: str, group: Group, schema: Schema) -> Iterator[Problem]:
    if group.strategy is not Strategy.BY_FIELD:
        return
    if group.field is None:
        yield Problem(f"{path}.field", "the strategy by_field needs the field that names the person")
        return
    try:
        schema.get(group.field, f"{path}.field")
    except ConditionError as error:
        yield Problem(error.path, error.reason)


def _delegates(routing: Routing) -> Iterator[Problem]:
    standing = {name: agent.delegate for name, agent in routing.agents.items() if agent.delegate is not None}
    for name, agent in routing.agents.items():
        for number, leave in enumerate(agent.leave):
            path = f"agents.{name}.leave[{number}]"
            if leave.last < leave.first:
                yield Problem(path, "ends before it begins")
            if leave.delegate is not None:
                yield from _unknown(f"{path}.delegate", leave.delegate, routing.agents, "person")
        circle = _circle(standing, name)
        if circle:
            yield Problem(f"agents.{name}.delegate", f"the delegates run in a circle: {' → '.join(circle)}")
        if agent.capacity is not None and agent.capacity < 0:
            yield Problem(f"agents.{name}.capacity", "not below 0")
        try:
            ZoneInfo(agent.zone)
        except (ValueError, KeyError, OSError):
            yield Problem(f"agents.{name}.zone", f"unknown time zone {agent.zone!r}")


def _circle(standing: Mapping[str, str], name: str) -> tuple[str, ...]:
    chain = [name]
    while (following := standing.get(chain[-1])) is not None:
        chain.append(following)
        if following == name:
            return tuple(chain)
        if following in chain[:-1]:
            return ()  # the circle does not hold `name`; it is reported at its own members
    return ()


def _work(routing: Routing, schema: Schema) -> Iterator[Problem]:
    if routing.work.default <= 0:
        yield Problem("work.default", "weights are above 0")
    for number, rule in enumerate(routing.work.rules):
        try:
            parse(rule.when, schema, f"work.rules[{number}].when")
        except ConditionError as error:
            yield Problem(error.path, error.reason)
        if rule.weight <= 0:
            yield Problem(f"work.rules[{number}].weight", "weights are above 0")
    statuses = schema.fields["status"].values
    for status, factor in routing.work.states.items():
        yield from _unknown(f"work.states.{status}", status, statuses, "status")
        if factor < 0:
            yield Problem(f"work.states.{status}", "factors are at least 0")


def _enrichments(routing: Routing, schema: Schema) -> Iterator[Problem]:
    """Addresses that may be called and whose facts exist; and no rule that reads an answer nobody asked for."""
    for name, one in routing.enrichments.items():
        path = f"enrichments.{name}"
        if not one.allow:
            yield Problem(f"{path}.allow", "no host is allowed: it could never be asked")
        elif (fault := fault_of(one.url, one.allow)) is not None:
            yield Problem(f"{path}.url", fault)
        if not timedelta(0) < one.timeout <= MAX_WAIT:
            yield Problem(f"{path}.timeout", f"more than 0 and at most {MAX_WAIT}: tickets wait for it")
        for fact in facts_named(one.url):
            try:
                schema.get(fact, f"{path}.url")
            except ConditionError as error:
                yield Problem(error.path, error.reason)
    asked: set[str] = set()
    for place, spec in enumerate(routing.rules):
        asked |= set(spec.enrich)
        for number, rule in enumerate(spec.rules):
            for fact in _read(rule.when, schema):
                name, _, member = fact.removeprefix("enrich.").partition(".")
                here = f"rules[{place}].rules[{number}].when"
                if not fact.startswith("enrich."):
                    continue
                if name not in asked:
                    yield Problem(here, f"reads {fact}, but the set does not ask {name!r} before (`enrich: [{name}]`)")
                elif (
                    (known := routing.enrichments.get(name)) is not None
                    and known.default
                    and member not in known.default
                ):
                    reason = f"reads {fact}, which the default of {name} does not have{meant(member, known.default)}"
                    yield Problem(here, reason, warning=True)


def _read(when: Mapping[str, Any] | None, schema: Schema) -> frozenset[str]:
    try:
        return frozenset() if when is None else parse(when, schema).fields()
    except ConditionError:
        return frozenset()  # reported where rules are
