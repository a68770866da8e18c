"""What `signalbox check` proves beyond the shape of each section: names, conditions, reachability, flows, chains, templates.

Each area's own proof lives with the area; here they are asked one after the other, and their findings get file and line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from shared.oncall.conflicts import Absence, outlook, uncovered
from shared.oncall.errors import ScheduleError
from shared.oncall.schedule import Schedule
from shared.playbook import flows
from shared.playbook.conditions import parse as parse_condition
from shared.playbook.escalation import schedule_references
from shared.playbook.facts import ConditionError, meant
from shared.playbook.messages import Target as AudienceTarget
from shared.playbook.model import Playbook
from shared.playbook.sla import DEFAULT as PRIORITY_DEFAULT
from shared.playbook.sla import SlaPolicy
from shared.playbook.source import Problem, Source
from shared.playbook.ticketfacts import STATUSES
from shared.runtime import clock
from shared.ticket.flow.proof import prove

Path_ = tuple[str | int, ...]
Finding = tuple[Path_, str, bool]
"""Path, reason, warning."""

_DAY = timedelta(days=1)
WATCHED = ("unaccepted", "task", "node", "sla.at_risk", "sla.warned", "sla.breached", "assignment_failed", "manual")


def problems_of(playbook: Playbook, source: Source) -> list[Problem]:
    """All findings of all areas."""
    areas = (_lanes, _people, _routing, _sla, _chains, _schedules, _flows, _messages)
    return [source.problem(path, reason, warning=warning) for area in areas for path, reason, warning in area(playbook)]


def parse_path(text: str) -> Path_:
    """`rules[0].when.any[1]` as steps."""
    return tuple(int(index) if index else name for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", text))


def _condition(playbook: Playbook, when: Mapping[str, Any] | None, path: Path_) -> Iterator[Finding]:
    if not when:
        return
    try:
        parse_condition(when, playbook.schema, "")
    except ConditionError as error:
        yield (*path, *parse_path(error.path)), error.reason, False


def _names(wanted: Iterable[tuple[Path_, str | None]], known: Iterable[str], what: str) -> Iterator[Finding]:
    names = set(known)
    for path, name in wanted:
        if name is not None and name not in names:
            yield path, f"unknown {what} {name!r}{meant(name, names)}", False


def _lanes(playbook: Playbook) -> Iterator[Finding]:
    lanes = playbook.document.lanes
    for name, lane in (("urgent", lanes.urgent), ("bulk", lanes.bulk)):
        yield from _condition(playbook, lane.when, ("lanes", name, "when"))
        known = map(str, playbook.document.taxonomy.priority.values)
        wanted = ((("lanes", name, "priorities", i), str(one)) for i, one in enumerate(lane.priorities))
        yield from _names(wanted, known, "priority")


def _people(playbook: Playbook) -> Iterator[Finding]:
    document = playbook.document
    people, groups = document.agents, document.groups
    if document.triage not in groups:
        yield ("groups",), f"the triage group {document.triage!r} is not among the groups", False
    for name, group in groups.items():
        at: Path_ = ("groups", name)
        yield from _names((((*at, "members", i), one) for i, one in enumerate(group.members)), people, "person")
        yield from _names([((*at, "lead"), group.lead), ((*at, "interface"), group.interface)], people, "person")
        yield from _names([((*at, "overflow"), group.overflow)], groups, "group")
        if not group.members:
            yield at, "a group without members: its tickets will wait", True
    for person, agent in document.agents.items():
        at = ("agents", person)
        yield from _names([((*at, "manager"), agent.manager), ((*at, "delegate"), agent.delegate)], people, "person")
        yield from _names([((*at, "shift"), agent.shift)], playbook.specs, "calendar")
        if _circle(playbook, person):
            yield (*at, "manager"), "the managers run in a circle", False


def _circle(playbook: Playbook, person: str) -> bool:
    seen, at = {person}, playbook.document.agents[person].manager
    while at is not None and at in playbook.document.agents:
        if at == person:
            return True
        if at in seen:
            return False
        seen.add(at)
        at = playbook.document.agents[at].manager
    return False


def _routing(playbook: Playbook) -> Iterator[Finding]:
    from shared.playbook.routingcheck import check

    for problem in check(playbook.routing):
        yield parse_path(problem.path), problem.reason, problem.warning


def _sla(playbook: Playbook) -> Iterator[Finding]:
    policies = playbook.document.sla
    calendars = ((("sla", i, "calendar"), one.calendar) for i, one in enumerate(policies))
    yield from _names(calendars, playbook.specs, "calendar")
    seen: set[str] = set()
    for index, policy in enumerate(policies):
        yield from _condition(playbook, policy.when, ("sla", index, "when"))
        if policy.name in seen:
            yield ("sla", index, "name"), f"two policies are called {policy.name!r}", False
        seen.add(policy.name)
        if not policy.when and index < len(policies) - 1:
            yield ("sla", index), "holds for every ticket: the policies after it are never used", False
        yield from _promised(playbook, policy, ("sla", index))


def _promised(playbook: Playbook, policy: SlaPolicy, at: Path_) -> Iterator[Finding]:
    """The nodes, groups, priorities and statuses that a policy names exist: a promise about nothing is silently none.

    An unknown node is only warned of: cases that were begun under another version may still be there.
    """
    document = playbook.document
    nodes = {"*", "main", *(node.name for flow in document.flows for node in flow.nodes)}
    named = {"node": (nodes, "node of any flow"), "ownership": ({"*", *document.groups}, "group")}
    sections = {"targets": policy.targets, "pause_on": policy.pause_on, "warn": policy.warn}
    for section, value in sections.items():
        for metric in value if isinstance(value, Mapping) else ():
            family, _, name = metric.partition(":")
            for path, why, _ in _names([((*at, section, metric), name)], *named[family]) if name else ():
                yield path, why, family == "node"
    priorities = {PRIORITY_DEFAULT, *map(str, document.taxonomy.priority.values)}
    for metric, target in policy.targets.items():
        if isinstance(target, Mapping) and "working_days" not in target:
            yield from _names((((*at, "targets", metric, one), str(one)) for one in target), priorities, "priority")
    listed: dict[Path_, Iterable[str]] = {("pause_on",): policy.pause_on, ("first_response",): policy.first_response}
    if isinstance(policy.pause_on, Mapping):
        listed |= {("pause_on", metric): statuses for metric, statuses in policy.pause_on.items()}
    for place, statuses in listed.items():
        if isinstance(statuses, list):
            wanted = (((*at, *place, i), str(one).partition(":")[0]) for i, one in enumerate(statuses))
            yield from _names(wanted, STATUSES, "status")


def _chains(playbook: Playbook) -> Iterator[Finding]:
    document = playbook.document
    roles = {role for agent in document.agents.values() for role in agent.roles}
    for index, chain in enumerate(document.chains):
        at: Path_ = ("chains", index)
        yield from _names([((*at, "calendar"), chain.calendar)], playbook.specs, "calendar")
        yield from _names([((*at, "fallback"), chain.fallback)], document.agents, "person")
        for place, step in enumerate(chain.steps):
            here = (*at, "steps", place)
            yield from _names([((*here, "allowed_hours"), step.allowed_hours)], playbook.specs, "calendar")
            for number, target in enumerate(step.targets):
                there = (*here, "targets", number)
                yield from _names([((*there, "person"), target.person)], document.agents, "person")
                yield from _names([((*there, "group"), target.group)], document.groups, "group")
                yield from _names([((*there, "schedule"), target.schedule)], document.schedules, "schedule")
                yield from _names([((*there, "role"), target.role)], roles, "role that anybody has")
    yield from _webhooks(playbook)
    names = [chain.name for chain in document.chains]
    for index, watch in enumerate(document.watch):
        yield from _names([(("watch", index, "chain"), watch.chain)], names, "chain")
        yield from _names([(("watch", index, "on"), watch.on)], WATCHED, "occasion")
        yield from _condition(playbook, watch.when, ("watch", index, "when"))


def _webhooks(playbook: Playbook) -> Iterator[Finding]:
    """An endpoint that a chain calls is a webhook provider of that name, and a message rule says what it is told."""
    document = playbook.document
    endpoints = {one.name: one.serves for one in document.channels if one.driver == "webhook" and one.base_url}
    told = {
        step.channel
        for rule in document.messages.rules
        if "escalation.stepped" in rule.on and any("webhooks" in audience.to for audience in rule.audience)
        for step in rule.plan
    }
    for index, chain in enumerate(document.chains):
        for place, step in enumerate(chain.steps):
            for number, action in enumerate(step.does):
                if action.do != "webhook":
                    continue
                at: Path_ = ("chains", index, "steps", place, "actions", number, "to")
                if action.to not in endpoints:
                    yield at, f"no channel of driver webhook with a base_url is called {action.to!r}", False
                elif endpoints[action.to] not in told:
                    why = f"no message on escalation.stepped goes to `webhooks` by {endpoints[action.to]}: nothing is called"
                    yield at, why, False


def _schedules(playbook: Playbook) -> Iterator[Finding]:
    """Names, and what the next 30 days lack: instants with nobody on call, duty of people who are on leave."""
    document = playbook.document
    away = [
        Absence(
            name,
            datetime.combine(leave.first, time(), ZoneInfo(agent.zone)),
            datetime.combine(leave.last + _DAY, time(), ZoneInfo(agent.zone)),
            leave.delegate or agent.delegate,
        )
        for name, agent in document.agents.items()
        for leave in agent.leave
    ]
    for name, spec in document.schedules.items():
        at: Path_ = ("schedules", name)
        wanted = (((*at, *parse_path(one.path.removeprefix("$."))), one.name) for one in schedule_references(spec))
        yield from _names(wanted, document.agents, "person")
        try:
            found = outlook(Schedule(spec), away, clock.utc_now())
        except ScheduleError as error:
            yield at, error.reason, False
            continue
        for text in uncovered({name: found}):
            yield at, text, True


def _flows(playbook: Playbook) -> Iterator[Finding]:
    document = playbook.document
    known = {
        "group": document.groups,
        "role": {role for agent in document.agents.values() for role in agent.roles},
        "person": document.agents,
    }
    names = [flow.name for flow in document.flows]
    for index, flow in enumerate(document.flows):
        at: Path_ = ("flows", index)
        if flow.name in names[:index]:
            yield (*at, "name"), f"two flows are called {flow.name!r}", False
        for finding in prove(flow, flows.condition(playbook), lists=flows.list_facts(playbook)):
            reason = finding.message + (
                f" (for example: {' → '.join(finding.counterexample)})" if finding.counterexample else ""
            )
            yield (*at, *parse_path(finding.path)), reason, False
        yield from _names([((*at, "calendar"), flow.calendar)], playbook.specs, "calendar")
        places: list[tuple[Path_, Any, Any]] = [(at, flow.responsible, flow.needs)]
        places += [((*at, "nodes", i), node.responsible, node.needs) for i, node in enumerate(flow.nodes)]
        for path, whose, needs in places:
            for kind in whose.given if whose is not None else ():
                if kind in known:
                    yield from _names([((*path, "responsible", kind), getattr(whose, kind))], known[kind], kind)
            fields = (((*path, "needs", place, "field"), need.field) for place, need in enumerate(needs))
            yield from _names(fields, document.fields, "field")
        for place, need in enumerate(flow.needs):
            if need.field is None:
                yield (*at, "needs", place), "a ticket is opened with fields; ask for this at its first node", False
        for place, node in enumerate(flow.nodes):
            if node.service is not None and node.service not in document.enrichments:
                why = f"{node.service!r} is no enrichment: whatever completes this node does so over HTTP"
                yield (*at, "nodes", place, "service"), why, True
        chains = (((*at, "nodes", i, "chain"), node.chain) for i, node in enumerate(flow.nodes))
        yield from _names(chains, [chain.name for chain in document.chains], "chain")


def _messages(playbook: Playbook) -> Iterator[Finding]:
    from services.notifier.channels.registry import problems as provider_problems
    from services.notifier.facts import SAMPLE
    from services.notifier.templates import Catalogue

    document = playbook.document
    for index, provider in enumerate(document.channels):
        for problem in provider_problems(provider):
            yield ("channels", index), problem, False
    channels = {provider.serves for provider in document.channels} | {"inbox"}
    for index, rule in enumerate(document.messages.rules):
        at: Path_ = ("messages", "rules", index)
        yield from _condition(playbook, rule.when, (*at, "when"))
        steps = (((*at, "plan", i, "channel"), step.channel) for i, step in enumerate(rule.plan))
        yield from _names(steps, channels, "channel (no provider serves it)")
        for number, audience in enumerate(rule.audience):
            here = (*at, "audience", number)
            yield from _condition(playbook, audience.when, (*here, "when"))
            for place, target in enumerate(audience.targets):
                yield from _target(playbook, target, (*here, "to", place))
    catalogue = Catalogue(document.messages)
    for problem in catalogue.problems(SAMPLE):
        yield ("messages",), problem, False


def _target(playbook: Playbook, target: AudienceTarget, path: Path_) -> Iterator[Finding]:
    known: Mapping[str, Iterable[str]] = {"person": playbook.document.agents, "group": playbook.document.groups}
    if target.value and target.kind in known:
        yield from _names([(path, target.value)], known[target.kind], target.kind)
