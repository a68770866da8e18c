"""One-click actions: what a link shows, and what pressing it does.

Nothing is done for a request that does not carry the message's code or the person's own key. What is done is done once: the
link's row is locked first, then the ticket, and both change in one commit.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from services.gateway.actions import act
from shared.access import links
from shared.access.links import Link
from shared.contracts.envelope import Actor
from shared.directory.people import Directory
from shared.ledger import business, tickets
from shared.ledger.process import Deps
from shared.ticket import commands as c
from shared.ticket.commands import AnyCommand, Refused
from shared.ticket.state import Ticket


@dataclass(frozen=True, slots=True)
class Given:
    """What whoever pressed gave: the code, or (checked before) their person's key or a provider's signature; and the form."""

    code: str = ""
    proven: str | None = None
    """The person who is signed in, as the caller has verified."""
    to: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Pressed:
    """What became of it. `code`: open (not pressed yet), done, unknown, expired, used, locked, no_code, wrong_code, not_yours,
    stale, or the code of a refusal; `why` is a sentence of the refusal.
    """

    code: str
    link: Link | None = None
    ticket: Ticket | None = None
    why: str = ""


def look(connection: Connection, token: str) -> Pressed:
    """What a link would do now. Changes nothing."""
    link = links.find(connection, token)
    if link is None:
        return Pressed("unknown")
    ticket = tickets.read(connection, link.ticket_id)
    if ticket is None:
        return Pressed("unknown")
    code = _over(link, connection) or ("stale" if _stale(link, ticket) else "open")
    return Pressed(code, link, ticket)


def press(deps: Deps, connection: Connection, token: str, given: Given, correlation: str) -> Pressed:
    """Act, or say why not. Commits."""
    link = links.find(connection, token, lock=True)
    if link is None:
        return Pressed("unknown")
    refusal = _over(link, connection) or _unproven(link, given)
    if refusal == "wrong_code":
        links.note_wrong(connection, link)
        connection.commit()
    if refusal is not None:
        connection.rollback()
        return Pressed(refusal, link, tickets.read(connection, link.ticket_id))
    command = _command(link, given, deps.directory.get(connection))
    if isinstance(command, Refused):
        connection.rollback()
        return Pressed(command.code, link, tickets.read(connection, link.ticket_id), command.reason)
    links.use(connection, link, business.now(connection))
    actor = Actor(kind="person", id=link.person, via=f"link-{link.message_id}")
    outcome = act(
        deps, connection, link.ticket_id, command, actor, correlation, guard=lambda ticket: _refused(link, ticket)
    )
    if outcome.ticket is None:
        return Pressed("unknown")
    if outcome.refused is not None:
        return Pressed(outcome.refused.code, link, outcome.ticket, outcome.refused.reason)
    return Pressed("done", link, outcome.ticket)


def _unproven(link: Link, given: Given) -> str | None:
    if given.proven is not None:
        return None if given.proven == link.person else "not_yours"
    if link.wrong >= links.WRONG_CODES:
        return "locked"
    if not given.code:
        return "no_code"
    return None if link.knows(given.code) else "wrong_code"


def _over(link: Link, connection: Connection) -> str | None:
    if link.used_at is not None:
        return "used"
    return "expired" if business.now(connection) > link.expires_at else None


def _stale(link: Link, ticket: Ticket) -> bool:
    """Whether the assignment (or escalation) that the message was about is over. A note is never too late."""
    if link.action == "note":
        return False
    if link.action == "acknowledge":
        return ticket.escalation is None or ticket.escalation != link.escalation
    if link.node is not None and ticket.nodes:
        owner = next((one.assignee for one in ticket.nodes if one.name == link.node), None)
        if owner is not None and owner != link.person:
            return True
        if len(ticket.nodes) > 1:
            return owner is None
    return ticket.assignment != link.assignment


def _refused(link: Link, ticket: Ticket) -> Refused | None:
    if not _stale(link, ticket):
        return None
    if link.action == "acknowledge":
        return Refused("stale", "that escalation is over")
    holder = f"it is with {ticket.assignee}" if ticket.assignee else "it is with nobody"
    return Refused("stale", f"the assignment this message was about is over; {holder} now")


def _command(link: Link, given: Given, directory: Directory) -> AnyCommand | Refused:
    person = directory.person(link.person)
    if person is None or not person.active:
        return Refused("not_agent", f"{link.person} is no longer here")
    match link.action:
        case "accept":
            return c.Accept()
        case "decline":
            return c.Decline(reason=given.text[:1000])
        case "acknowledge":
            return c.Acknowledge()
        case "note":
            return c.Note(text=given.text[:10_000]) if given.text.strip() else Refused("invalid", "the note is empty")
    to = given.to.strip()
    if not to:
        return Refused("invalid", "say to whom: a group or a person")
    reason = given.text[:1000]
    return c.Transfer(group=to, reason=reason) if to in directory.groups else c.Transfer(agent=to, reason=reason)
