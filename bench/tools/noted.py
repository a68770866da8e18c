"""Tickets with a note on them: what a benchmark of messages tells everybody about."""

from __future__ import annotations

from shared.contracts.envelope import Actor, New
from shared.contracts.events import TicketNoted, TicketOpened
from shared.ledger import business
from shared.ledger.process import Deps
from shared.ledger.tickets import Opening, lock, open_tickets
from shared.ledger.unit import Unit

ANNA = Actor(kind="person", id="p000")


def note(deps: Deps, number: int) -> int:
    """A ticket with a note on it; its id."""
    with deps.engine.begin() as connection:
        unit = Unit(connection, business.now(connection), ANNA, 1, given=True)
        data = TicketOpened(subject=f"no paper in room {number}", source="bench", external_id=str(number))
        made = [one.ticket.id for one in open_tickets(unit, [Opening((New(data),), ANNA, number)], deps.ids)]
    with deps.engine.begin() as connection:
        unit = Unit(connection, business.now(connection), ANNA, 1, given=True)
        for ticket in lock(connection, made).values():
            unit.append_to_ticket(ticket, (New(TicketNoted(text="look at this")),))
        unit.flush()
    deps.bells.ring(unit.woken)
    return made[0]
