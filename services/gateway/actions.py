"""People's actions: lock the ticket, decide (pure), append, commit, ring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection

from services.gateway import attachments
from shared.access.principals import Principal
from shared.contracts.envelope import Actor, New
from shared.contracts.events import TicketWatched
from shared.contracts.strict import Unacceptable
from shared.directory.people import Directory
from shared.ledger import business
from shared.ledger.process import Deps
from shared.ledger.tickets import lock
from shared.ledger.unit import Unit
from shared.playbook import flows
from shared.playbook.intakecheck import check_values
from shared.playbook.lanes import lane_rules
from shared.playbook.model import Playbook
from shared.runtime.crash import crash_point
from shared.ticket.commands import AnyCommand, CompleteNode, Merge, Refused, Surroundings, decide, parse_id
from shared.ticket.course import Course
from shared.ticket.state import Ticket


@dataclass(frozen=True, slots=True)
class Outcome:
    """`ticket` as it is afterwards (None: there is none); `refused` says why nothing was done."""

    ticket: Ticket | None
    refused: Refused | None = None


def act(
    deps: Deps,
    connection: Connection,
    ticket_id: int,
    command: AnyCommand,
    actor: Actor,
    correlation: str,
    guard: Callable[[Ticket], Refused | None] = lambda _: None,
) -> Outcome:
    """Carry out one command and commit. Waits for the batch that holds the ticket; two people never both succeed.

    `guard` may refuse first, knowing the ticket as it is under the lock. What is refused is rolled back whole.
    """
    playbook: Playbook = deps.playbooks.current(connection)
    directory = deps.directory.get(connection)
    into = parse_id(command.into) if isinstance(command, Merge) else None
    held = lock(connection, [ticket_id, *([into] if into is not None else [])])
    ticket = held.get(ticket_id)
    if ticket is None:
        connection.rollback()
        return Outcome(None)
    now = business.now(connection)
    around = surroundings(directory, playbook, now, _course(deps, connection, ticket, directory, now))
    if isinstance(command, CompleteNode):
        command = replace(command, material=_shown(connection, ticket, command, around.course))
    outcome = guard(ticket) or decide(ticket, command, actor, around)
    if isinstance(outcome, Refused):
        connection.rollback()
        return Outcome(ticket, outcome)
    unit = Unit(connection, now, actor, playbook.number, given=True, correlation=correlation)
    watching = tuple(one for one in ticket.watchers if into in held and one not in held[into].watchers) if into else ()
    if into is not None and watching and outcome.events:  # whoever watched the merged ticket watches the one it became
        unit.append_to_ticket(held[into], (New(TicketWatched(people=watching)),))
    ticket = unit.append_to_ticket(ticket, tuple(New(data) for data in outcome.events))
    unit.flush()
    connection.commit()
    unit.committed()
    crash_point("command.committed")
    deps.bells.ring(unit.woken)
    return Outcome(ticket)


def surroundings(directory: Directory, playbook: Playbook, now: datetime, course: Course | None = None) -> Surroundings:
    """What a decision may know besides the ticket."""
    return Surroundings(
        groups=frozenset(directory.groups),
        agents={one.id: one.groups[0] if one.groups else "" for one in directory.people.values() if one.active},
        heads={
            one.id: frozenset(name for name in (one.lead, one.interface) if name) for one in directory.groups.values()
        },
        now=now,
        lanes=lane_rules(playbook).by_priority,
        priorities=frozenset(map(str, playbook.document.taxonomy.priority.values)),
        course=course,
        fields=lambda fields: _misfit(playbook, fields),
        reads=lambda person: _reads(directory, person),
        task_due=playbook.document.tasks.due,
        on_end=playbook.document.tasks.on_end,
    )


def _course(deps: Deps, connection: Connection, ticket: Ticket, directory: Directory, now: datetime) -> Course | None:
    """The ticket's flow in the version its case runs on; a case that begins again does so in the ticket's own version."""
    if ticket.in_flow and ticket.flow is not None:
        return flows.course(deps.playbooks.get(connection, ticket.flow.version), ticket.flow.flow, now, directory)
    if ticket.kind is None:
        return None
    return flows.course(deps.playbooks.get(connection, ticket.playbook), ticket.kind, now, directory)


def _reads(directory: Directory, person: str) -> bool:
    """Whether a person may read tickets at all, by their roles."""
    known = directory.person(person)
    return known is not None and known.active and "read" in Principal(0, frozenset(known.roles), person=person).rights


def _shown(connection: Connection, ticket: Ticket, command: CompleteNode, course: Course | None) -> dict[str, Any]:
    """The material, its attachments as they are on this ticket: what is named but not there does not count."""
    node = course.program.nodes.get(command.node) if course is not None else None
    names = {need.attachment for need in node.needs if need.attachment is not None} if node is not None else set()
    if not names & set(command.material):
        return command.material
    known = {one.id: one.media_type for one in attachments.listing(connection, [ticket.id])}
    shown = dict(command.material)
    for name in names & set(shown):
        given = shown[name] if isinstance(shown[name], list) else [shown[name]]
        ids = dict.fromkeys(one.get("id") if isinstance(one, dict) else one for one in given)
        shown[name] = [{"id": one, "type": known[one]} for one in ids if isinstance(one, str) and one in known]
    return shown


def _misfit(playbook: Playbook, fields: dict[str, Any]) -> str | None:
    try:
        check_values(playbook, fields=fields, labels={})
    except Unacceptable as error:
        return str(error)
    return None
