"""What happened, in numbers and in three stories that need no knowledge of the system."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from rich.table import Table
from sqlalchemy import Connection

from services.control.demo.play import Day
from services.control.narrate import by_link, sentence
from shared.contracts.envelope import Recorded
from shared.ledger import reader

ZONE = ZoneInfo("Asia/Shanghai")


def summary(connection: Connection, day: Day) -> Table:
    """The day in numbers, from the database."""

    def ask(statement: str) -> Any:
        return connection.exec_driver_sql(statement).scalar_one()

    table = Table(title="What happened", show_header=False)
    rows: list[tuple[str, Any]] = [
        ("tickets opened", ask("select count(*) from ledger.ticket")),
        ("assigned at least once", ask("select count(distinct ticket_id) from router.assignment")),
        ("accepted", ask("select count(*) from ledger.event where type = 'ticket.accepted'")),
        ("of these by the link in a message", _by_link(connection)),
        (
            "handed over to another group",
            ask("select count(*) from ledger.event where type = 'ticket.transferred' and given"),
        ),
        ("resolved", ask("select count(*) from ledger.ticket where status = 'resolved'")),
        (
            "still open at midnight",
            ask("select count(*) from ledger.ticket where status not in ('resolved', 'closed', 'merged')"),
        ),
        ("warnings before a deadline", ask("select count(*) from ledger.event where type = 'sla.warned'")),
        ("deadlines missed", ask("select count(*) from ledger.event where type = 'sla.breached'")),
        ("escalation steps", ask("select count(*) from ledger.event where type = 'escalation.stepped'")),
        ("messages delivered", ask("select count(*) from ledger.event where type = 'delivery.sent'")),
        ("of these by SMS and mail", sum(day.sent.values())),
        ("events in the ledger", ask("select count(*) from ledger.event")),
        ("median minutes to the first response", _median(connection)),
    ]
    for name, value in rows:
        table.add_row(name, str(value))
    return table


def _by_link(connection: Connection) -> int:
    return int(
        connection.exec_driver_sql(
            "select count(*) from ledger.event where type = 'ticket.accepted' and actor ->> 'via' like 'link-%%'"
        ).scalar_one()
    )


def _median(connection: Connection) -> str:
    seconds = connection.exec_driver_sql(
        """select percentile_cont(0.5) within group (order by extract(epoch from r.at - t.opened_at)) from ledger.ticket t
        join (select id, min(happened_at) as at from ledger.event where type = 'ticket.replied' and data ->> 'author' = 'agent'
            group by id) r on r.id = t.id"""
    ).scalar_one()
    return "-" if seconds is None else f"{float(seconds) / 60:.0f}"


def stories(connection: Connection, ids: Sequence[int]) -> list[str]:
    """A normal ticket, a breached and escalated one, and one accepted by link: each what it shows, then minute by minute."""
    told: set[int] = set()
    found = []
    for title, moral, wanted in STORIES:
        for ticket_id in ids:
            events = reader.stream(connection, "ticket", ticket_id)
            if ticket_id not in told and wanted(events):
                told.add(ticket_id)
                lines = [f"  {_clock(event.happened_at)}  {line}" for event in events if (line := sentence(event))]
                found.append("\n".join(["", f"[bold]{title} (T-{ticket_id})[/bold]", moral, *lines]))
                break
    return found


def _types(events: Sequence[Recorded]) -> set[str]:
    return {event.type for event in events}


def _is_ordinary(events: Sequence[Recorded]) -> bool:
    types = _types(events)
    return (
        not _is_linked(events)
        and {"ticket.accepted", "ticket.resolved"} <= types
        and not {
            "sla.breached",
            "escalation.raised",
            "ticket.paused",
            "ticket.transferred",
        }
        & types
    )


def _is_breached(events: Sequence[Recorded]) -> bool:
    return {"sla.breached", "escalation.stepped"} <= _types(events)


def _is_linked(events: Sequence[Recorded]) -> bool:
    return any(event.type == "ticket.accepted" and by_link(event) for event in events)


def _clock(at: datetime) -> str:
    return at.astimezone(ZONE).strftime("%H:%M:%S")


STORIES = (
    (
        "An ordinary ticket",
        "Somebody reports, the right person gets it, answers and solves it before any deadline.",
        _is_ordinary,
    ),
    (
        "A ticket nobody moved",
        "Its owner does not react, so that it climbs from chief to chief until somebody does.",
        _is_breached,
    ),
    ("A ticket accepted by link", "Its owner is on the move: one press on the link in the SMS accepts it.", _is_linked),
)
