"""Who had a ticket at which node since when, and how its time divides among them: the basis of performance records. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.escalation.watched import Expected, Share
from shared.contracts import events as e


def hands(data: e.Data, at: datetime) -> tuple[Share, ...]:
    """The change of hands that an event tells of, if it does."""
    match data:
        case e.TicketAssigned():
            return (Share(data.agent, at, data.node, data.visit),)
        case e.TicketDeclined() | e.TicketTransferred() | e.TicketQueued() | e.NodeCompleted():
            return (Share(None, at, data.node, data.visit),)
        case _:
            return ()


def divided(shares: Sequence[Share], about: Expected, now: datetime) -> dict[str, float]:
    """Seconds of the visit by owner, from its beginning to `now`."""
    mine = [one for one in shares if (one.node, one.visit) == (about.node, about.visit)]
    spans: dict[str, float] = {}
    for index, one in enumerate(mine):
        start = max(one.since, about.since)
        end = mine[index + 1].since if index + 1 < len(mine) else now
        if one.owner is not None and end > start:
            spans[one.owner] = spans.get(one.owner, 0.0) + (end - start).total_seconds()
    return spans
