"""The people of a log as a directory, and a playbook that works with them. Pure and the same for the same log.

Groups of the log become groups, whoever was seen at work in one its members, the busiest its lead; leads report to one head.
Nobody has a limit: the log knows what people carried, not what they could. The playbook's own groups stay, because its rules name
them, and are staffed by those whom the log shows at work in no group; its own people stay as persons whom chains may name.
A ticket that the log opened in a group is routed there, by a rule set behind all others; the playbook routes the rest.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from services.control.replay.reading import Log
from shared.playbook.model import Document
from shared.playbook.routing import Actions, Agent, CustomField, Group, RuleSetSpec, RuleSpec

FIELD = "recorded_group"
HEAD = "head-of-operations"
FIRST_LINE = 20
"""So many of the busiest staff the playbook's groups when the log shows nobody without a group."""


@dataclass(frozen=True, slots=True)
class People:
    """Names of the log and the ids they have in the directory."""

    groups: dict[str, str]
    persons: dict[str, str]
    members: dict[str, tuple[str, ...]]
    """Group id -> ids of people, busiest first."""
    managers: dict[str, str]
    first_line: tuple[str, ...]


def people_of(log: Log) -> People:
    """Who is in a log."""
    seen: Counter[tuple[str, str]] = Counter()
    alone: Counter[str] = Counter()
    groups: set[str] = set()
    for rows in log.rows.values():
        for row in rows:
            if row.group is not None:
                groups.add(row.group)
            if row.person is not None and row.group is not None:
                seen[row.group, row.person] += 1
            elif row.person is not None:
                alone[row.person] += 1
    persons = {person for _, person in seen} | set(alone)
    group_ids, person_ids = _ids(groups), _ids(persons)
    members: dict[str, list[str]] = {group_ids[name]: [] for name in sorted(groups)}
    for (group, person), _ in sorted(seen.items(), key=lambda one: (-one[1], one[0])):
        members[group_ids[group]].append(person_ids[person])
    for group_id, found in members.items():
        if not found:
            found.append(f"desk-of-{group_id}")  # nobody was ever named there: somebody stands for them
    busy: Counter[str] = Counter()
    for (_, person), count in seen.items():
        busy[person_ids[person]] += count
    ranked = sorted(busy, key=lambda one: (-busy[one], one))
    first = tuple(sorted(person_ids[one] for one in alone)) or tuple(ranked[:FIRST_LINE]) or ("desk",)
    leads = {found[0] for found in members.values()}
    managers = dict.fromkeys(leads, HEAD)
    for group, person in sorted(
        seen, key=lambda one: (-seen[one], one)
    ):  # the lead of the group one is most at work in
        managers.setdefault(person_ids[person], members[group_ids[group]][0])
    for one in (*first, *(one for found in members.values() for one in found)):
        managers.setdefault(one, HEAD)
    frozen = {group: tuple(found) for group, found in members.items()}
    return People(group_ids, person_ids, frozen, managers, first)


def staffed(document: Document, people: People) -> Document:
    """The playbook with the log's people in it."""
    names = {person_id: name for name, person_id in people.persons.items()}
    titles = {group_id: name for name, group_id in people.groups.items()}
    agents: dict[str, Agent] = dict(document.agents)
    agents[HEAD] = _agent(HEAD, "Head of operations", None, ("agent", "lead", "director"))
    for one, manager in sorted(people.managers.items()):
        agents[one] = _agent(one, names.get(one, one), manager, ("agent",))
    groups = {name: replace(group, members=people.first_line, weights={}) for name, group in document.groups.items()}
    for group_id, found in people.members.items():
        groups[group_id] = Group(members=found, title=titles[group_id], lead=found[0])
    fields: dict[str, CustomField] = {**document.fields, FIELD: CustomField(title="Group in the log")}
    rules = (*document.rules, _queues(people)) if people.groups else document.rules
    return replace(document, agents=agents, groups=groups, fields=fields, rules=rules)


def requester(given: dict[str, Any]) -> dict[str, Any]:
    """A requester whom messages reach: one without an address in the log has a made-up one."""
    if given.get("id") and not given.get("email"):
        return {**given, "email": f"{slug(given['id'])}@customers.invalid"}
    return given


def slug(name: str) -> str:
    """A name as an id: lower case, dashes for all that is neither letter nor digit."""
    return re.sub(r"[^\w]+", "-", name.casefold()).strip("-_")[:80] or "nameless"


def _queues(people: People) -> RuleSetSpec:
    rules = [
        RuleSpec(name=group_id, when={f"fields.{FIELD}": name}, then=Actions(group=group_id))
        for name, group_id in sorted(people.groups.items())
    ]
    return RuleSetSpec(name="group-in-the-log", rules=(*rules, RuleSpec(name="as-the-playbook-says", default=True)))


def _agent(one: str, name: str, manager: str | None, roles: tuple[str, ...]) -> Agent:
    number = sum(ord(letter) * 31**place for place, letter in enumerate(one)) % 10**8
    contacts = {"email": f"{one}@staff.invalid", "phone": f"+1999{number:08}"}
    return Agent(name=name, manager=manager, roles=roles, contacts=contacts)


def _ids(names: set[str]) -> dict[str, str]:
    """A different id for each name, whatever they look like."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(names):
        base = slug(name)
        wanted, number = base, 1
        while wanted in taken:
            number += 1
            wanted = f"{base}-{number}"
        taken.add(wanted)
        found[name] = wanted
    return found
