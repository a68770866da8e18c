"""What a move of the running tickets to another playbook version would change of their clocks, without changing anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from services.sla import store
from services.sla.domain.moving import Change, Mode, preview
from services.sla.domain.terms import Library, Rules
from services.sla.domain.ticket import versions_of
from services.sla.handlers import rules_of
from shared.ledger.process import Deps
from shared.playbook.model import Playbook
from shared.ticket.state import Ticket

PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Ahead:
    """One running ticket that would be moved, and what people would see of it differently."""

    ticket: Ticket
    changes: tuple[Change, ...]


def look_ahead(deps: Deps, connection: Connection, candidate: Playbook, mode: Mode, now: datetime) -> Iterator[Ahead]:
    """Every open ticket under another version than `candidate`, in id order, a page at a time.

    Its clocks are taken as they were last looked at; what waits in the ledger to be looked at is not foreseen.
    """
    versions: dict[int, Rules] = {candidate.number: rules_of(candidate)}
    library = Library(candidate.number, versions)
    after = 0
    while page := store.running(connection, after, PAGE):
        after = page[-1][0].id
        for ticket, state in page:
            if ticket.playbook == candidate.number:
                continue
            if state is None:
                yield Ahead(ticket, ())
                continue
            for number in versions_of(state) - versions.keys():
                versions[number] = rules_of(deps.playbooks.get(connection, number))
            yield Ahead(ticket, preview(state, candidate.number, mode, now, library).changes)
