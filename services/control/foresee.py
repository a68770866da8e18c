"""`signalbox explain FILE`: what would happen to tickets that do not exist yet. Nothing is written.

With a playbook named, its own people are asked, all of them idle. Without one it is the published version with the people and
loads of this moment; each ticket of the file finds what the ones before it left.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from services.control import platform, publish, telling
from services.control.cli import Failure
from services.router import store
from services.router.compiled import Compiled, compiled, pool_of, window_start
from services.router.domain.assign import Assigner
from services.router.domain.classify import Classified
from services.router.domain.desk import Request
from services.router.domain.outcomes import Assigned
from services.router.domain.pool import Turns
from services.router.models import Models
from services.router.store import Load
from shared.contracts import intake as wire
from shared.contracts.strict import Unacceptable, decode
from shared.directory.people import Directory, Group, snapshot
from shared.ledger import business
from shared.playbook.intakecheck import check_fields
from shared.playbook.lanes import lane_rules
from shared.playbook.model import Playbook
from shared.playbook.store import NothingPublished
from shared.runtime.clock import utc_now
from shared.runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class _World:
    """The version, the people and their loads that tickets are tried on."""

    playbook: Playbook
    directory: Directory
    loads: dict[str, Load]
    now: datetime
    predict: Any = None
    turns: dict[str, Turns] = field(default_factory=dict)
    recent: dict[tuple[str, str], int] = field(default_factory=dict)
    """Whose turn it is, and who had how many in a group's rate window."""


def foresee(path: Path, playbook: str | None, *, as_json: bool = False) -> int:
    """Print what would become of each line: a JSON object (also into a pipe), or sentences on a terminal."""
    if not path.exists() or path.is_dir():
        raise Failure(f"explain: {path} is no ticket and no file")
    lines = path.read_bytes().splitlines()
    if playbook is not None or not _is_set_up():
        return _foresee(path, lines, _idle(playbook or "selected"), as_json)
    with platform.servers(Settings.from_environment()) as settings:
        engine = platform.engine(settings, "explain", worker=False)
        given = platform.deps(settings, engine, fresh=True)
        with engine.connect() as connection:
            try:
                version = given.playbooks.current(connection)
            except NothingPublished as error:
                raise Failure(f"explain: {error} Or name one with --playbook.") from error
            directory = given.directory.get(connection)
            now, groups = business.now(connection), compiled(version).groups
            starts = {name: start for name, one in groups.items() if (start := window_start(one, now)) is not None}
            world = _World(
                version,
                directory,
                store.loads(connection, directory.people),
                now,
                Models().predict_on(connection),
                store.turns(connection, groups),
                {
                    (name, agent): count
                    for name, start in starts.items()
                    for agent, count in store.recent(connection, name, start).items()
                },
            )
            return _foresee(path, lines, world, as_json)


def _is_set_up() -> bool:
    settings = Settings.from_environment()
    return settings.database_url is not None or settings.home.exists()


def _idle(name: str) -> _World:
    """A playbook's own people, with nothing to do."""
    now = utc_now()
    version = publish.load(name, publish.years_around(now)).playbook
    document = version.document
    groups_of: dict[str, list[str]] = {}
    for group_id, group in document.groups.items():
        for member in group.members:
            groups_of.setdefault(member, []).append(group_id)
    people = [publish.person_of(one, agent, groups_of.get(one, [])) for one, agent in document.agents.items()]
    groups = [Group(id=name, lead=one.lead, members=one.members) for name, one in document.groups.items()]
    directory = snapshot(people, groups)
    return _World(version, directory, {one: Load(0, 0, 0.0) for one in directory.people}, now)


def _foresee(path: Path, lines: list[bytes], world: _World, as_json: bool) -> int:
    rules = compiled(world.playbook)
    pool = pool_of(world.directory, world.loads, world.turns, world.recent)
    assigner = Assigner(rules.desks, pool, world.now, world.playbook.calendars, rules.lightest)
    failed = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            ticket = decode(line, wire.TicketIn)
            wire.check(ticket, world.now)
            check_fields(world.playbook, ticket)
        except Unacceptable as error:
            print(f"signalbox: {path}:{number}: {error.fault.pointer or '/'}: {error.fault.reason}", file=sys.stderr)
            failed += 1
            continue
        answer = {"line": number, "subject": ticket.subject} | _answer(ticket, world, rules, assigner)
        if as_json or not sys.stdout.isatty():
            sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        else:
            print("\n".join(_told(answer)))
    sys.stdout.flush()
    return 1 if failed else 0


def _answer(ticket: wire.TicketIn, world: _World, rules: Compiled, assigner: Assigner) -> dict[str, Any]:
    posted, at = msgspec.to_builtins(ticket), ticket.opened_at or world.now
    facts = rules.classifier.facts(posted, at)
    found = rules.classifier.classify(facts, world.predict)
    answer: dict[str, Any] = {
        "playbook_version": world.playbook.number,
        "lane": lane_rules(world.playbook).at_intake(posted),
        "classification": found.as_dict(),
        "promises": list(_promises(world.playbook, facts, found, at)),
    }
    if found.hold is not None and facts.get(found.hold.per) is not None:
        answer["held"] = f"acted on only from {found.hold.at_least} within {found.hold.within} by {found.hold.per}"
    request = Request(
        0, found.group.value, at, found.rank, found.weight, found.skills, found.preferred, found.effort_seconds, named=found.agent
    )  # fmt: skip
    if request.group not in rules.desks:
        return answer | {"assignment": None, "candidates": []}
    outcome = assigner.assign(request)
    reason = outcome.as_dict()
    agent = outcome.agent if isinstance(outcome, Assigned) else None
    offers = rules.groups[outcome.group].offer is not None
    kind = "ticket.queued" if agent is None else "ticket.offered" if offers else "ticket.assigned"
    assignment = {"type": kind, "group": outcome.group, "agent": agent, "reason": reason}
    return answer | {"assignment": assignment, "candidates": list(_candidates(reason))}


def _candidates(reason: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Everybody who was looked at, with the score or the filter that decided."""
    dropped = {agent: name for name, ids in reason["dropped"].items() for agent in ids}
    for agent in reason["considered"]:
        if agent not in dropped:
            yield {
                "agent": agent,
                "chosen": agent == reason.get("chosen"),
                "score": reason.get("scores", {}).get(agent),
            }
    yield from ({"agent": agent, "chosen": False, "dropped_by": name} for agent, name in dropped.items())


def _promises(playbook: Playbook, facts: dict[str, Any], found: Classified, at: datetime) -> Iterator[dict[str, Any]]:
    """By when what is promised, as the first policy that holds says."""
    for place, policy in enumerate(playbook.document.sla):
        if not playbook.condition(policy.when, f"sla[{place}].when")(facts):
            continue
        hours = playbook.calendars.get(policy.calendar or "")
        for metric in policy.targets:
            targets = policy.targets_of(metric)
            target = targets.get(found.priority.value, targets.get("default"))
            if isinstance(target, timedelta):
                due = at + target if hours is None else hours.add(at, target)
                yield {"policy": policy.name, "metric": metric, "due_at": due}
        return


def _told(answer: dict[str, Any]) -> Iterator[str]:
    yield f"Line {answer['line']}: {answer['subject']}"
    yield from telling.classification(answer["classification"])
    if "held" in answer:
        yield f"  held back: {answer['held']}"
    if answer["assignment"] is not None:
        one = answer["assignment"]
        yield telling.headline(one["type"], one | {"why": one["reason"].get("cause", "")}, one["reason"])
        yield from telling.candidates(one["reason"])
    for one in answer["promises"]:
        yield f"  {one['metric']} due {one['due_at']} (policy {one['policy']})"
