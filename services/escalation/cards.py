"""A ticket on the board: a card for each open node visit; without a flow, its status is its stage. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from services.escalation.places import Place
from services.escalation.watched import Card, Expected
from shared.ticket.state import Ticket


def cards(ticket: Ticket, places: Iterable[Place], expected: Iterable[Expected]) -> Iterator[Card]:
    """The cards as they are to be shown, the main path's first."""
    noted = {(one.node, one.visit) for one in expected if one.noted}
    for place in places:
        yield Card(
            place.node,
            place.visit,
            ticket.status if place.entered_at is None else place.stage or place.node,
            place.group,
            place.assignee,
            place.entered_at or place.assigned_at or ticket.opened_at,
            place.due_at,
            (place.node, place.visit) in noted,
            place.assignee is not None and not place.accepted,
            ticket.escalation,
            ticket.status == "pending",
        )
