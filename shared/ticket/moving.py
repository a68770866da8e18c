"""A ticket's case moved to another version of its flow, and put back. Pure; the caller holds the ticket's lock.

A visit whose node is there under the same name goes on as the same visit, with its owner, its due instant and what was waived;
its timers begin anew when the new version has others. A visit that is mapped to another node ends, and the next visit of that
node begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as at

from msgspec.structs import replace

from shared.contracts import events as e
from shared.ticket.course import Course, Events, Stopped, events_of, firing
from shared.ticket.flow.migrate import Move, NodeMapping, Obstacle, migrate
from shared.ticket.flow.state import FlowState, Result, Visit
from shared.ticket.state import Ticket


@dataclass(frozen=True, slots=True)
class Moved:
    """The events of a move (none with obstacles, or when nothing changes), and what becomes of each open visit."""

    events: Events = ()
    moves: tuple[Move, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()


def move(ticket: Ticket, old: Course, new: Course, mapping: NodeMapping | None = None) -> Moved:
    """The ticket's case on `new`, another version of the flow it runs on now (`old`).

    `mapping` is `moved` of the new flow unless given. Running it without using the events is the dry run.
    """
    state = ticket.flow
    if state is None or state.done:
        return Moved()
    chosen = new.program.flow.moved if mapping is None else mapping
    known = {name: to for name, to in chosen.items() if name in old.program.nodes}
    plan = migrate(state, old.program, new.program, known, version=new.version, facts=new.facts(ticket))
    if not plan.possible or plan.state == state:
        return Moved((), plan.moves, plan.obstacles)
    gone = tuple(one.visit for one in plan.moves if not one.kept)
    came = tuple(one.to for one in plan.moves if one.to is not None and not one.kept)
    cancelled = (*gone, *plan.result.cancelled)
    result = Result(
        state=plan.state, entered=(*came, *plan.result.entered), cancelled=cancelled, joined=plan.result.joined
    )
    return Moved(_events(ticket, old, new, result), plan.moves)


def put_back(ticket: Ticket, before: FlowState, old: Course, new: Course) -> Moved:
    """The case as it was `before` it was moved from `new` to `old`, when it has taken no step since.

    What is still open goes on; what the move had ended begins again as the next visit of its node.
    """
    state = ticket.flow
    if state is None or state.done:
        return Moved()
    open_now = {(one.node, one.visit) for one in state.open}
    visits, entered, tokens, moves = dict(state.visits), list[Visit](), [], list[Move]()
    for token in before.tokens:
        number = token.visit
        if number and (token.node, number) not in open_now:
            number = visits[token.node] = visits.get(token.node, 0) + 1
            entered.append(Visit(token.node, number))
        elif number:
            moves.append(Move(Visit(token.node, number), Visit(token.node, number), True))
        tokens.append(replace(token, visit=number))
    kept = {(one.visit.node, one.visit.visit) for one in moves}
    cancelled = tuple(Visit(*one) for one in sorted(open_now - kept))
    back = replace(before, tokens=tuple(tokens), visits=visits, serial=max(before.serial, state.serial))
    result = Result(state=back, entered=tuple(entered), cancelled=cancelled)
    moves += (Move(one, None, False) for one in cancelled)
    return Moved(_events(ticket, old, new, result), tuple(moves))


def reverse(mapping: NodeMapping) -> dict[str, str]:
    """The way back of a mapping: where two nodes became one, the first that is named."""
    back: dict[str, str] = {}
    for name, to in mapping.items():
        if to is not None:
            back.setdefault(to, name)
    return back


def _events(ticket: Ticket, old: Course, new: Course, result: Result) -> Events:
    found = events_of(ticket, new, result, "migrated", nodes=_anew(ticket, old, new, result))
    assert not isinstance(found, Stopped)  # a plan without obstacles is not refused
    return found


def _anew(ticket: Ticket, old: Course, new: Course, result: Result) -> tuple[e.NodeDue, ...]:
    """Visits that go on, at nodes that have other timers now. Those of a ticket that waits count from where it stopped."""
    since = new if ticket.paused_at is None else at(new, now=ticket.paused_at)
    ended = {(one.node, one.visit) for one in result.cancelled}
    found = []
    for node in ticket.nodes:
        was, is_now = old.program.nodes.get(node.name), new.program.nodes.get(node.name)
        if (node.name, node.visit) in ended or was is None or is_now is None or was.timers == is_now.timers:
            continue
        found.append(e.NodeDue(node=node.name, visit=node.visit, due_at=node.due_at, timers=firing(is_now, since)))
    return tuple(found)
