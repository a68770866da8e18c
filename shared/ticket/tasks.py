"""Working together: notes whose mentions make todos, joint task groups, progress. Pure deciders, called by `commands`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from shared.contracts import events as e
from shared.contracts.envelope import Actor
from shared.ticket.actions import CloseTask, EditNote, Note, OpenTask, Progress
from shared.ticket.outcomes import Accepted, Outcome, Refused, Surroundings
from shared.ticket.state import Task, Ticket

MOST = 200
"""Todos and task groups of one ticket, over its whole life."""


def note(t: Ticket, c: Note, actor: Actor, around: Surroundings) -> Outcome:
    """A note; everybody mentioned gets a todo. Refused whole when somebody may not read the ticket."""
    if (refused := _unfit(t, c.mentions, around)) is not None:
        return refused
    said: tuple[e.Data, ...] = (e.TicketNoted(text=c.text),)
    return Accepted((*said, *_mentioned(t, c.mentions, c.text, t.version + 1, c.due_at, around)))


def edit_note(t: Ticket, c: EditNote, actor: Actor, around: Surroundings) -> Outcome:
    """Another text; who was mentioned in the note before, is not told again."""
    if not 1 <= c.note <= t.version:
        return Refused("invalid", f"the ticket has no note {c.note}")
    if (refused := _unfit(t, c.mentions, around)) is not None:
        return refused
    before = {one.owner for one in t.tasks if one.note == c.note}
    new = tuple(one for one in c.mentions if one not in before)
    edited = e.TicketNoteEdited(note=c.note, text=c.text)
    return Accepted((edited, *_mentioned(t, new, c.text, c.note, None, around)))


def open_task(t: Ticket, c: OpenTask, actor: Actor, around: Surroundings) -> Outcome:
    """A todo of its owner, or with members a joint task group."""
    if not t.is_open:
        return Refused("not_open", f"the ticket is {t.status}")
    if not c.title.strip():
        return Refused("invalid", "a task has a title")
    if (refused := _unfit(t, (c.owner, *c.members), around)) is not None:
        return refused
    members = tuple(one for one in dict.fromkeys(c.members) if one != c.owner)
    return Accepted(
        (
            e.TaskOpened(
                task=_next(t), title=c.title, owner=c.owner, members=members, due_at=c.due_at or _due(around)
            ),
        )
    )  # fmt: skip


def progress(t: Ticket, c: Progress, actor: Actor, around: Surroundings) -> Outcome:
    """A member says how far they are; the owner may say it for them."""
    task = _task(t, c.task)
    if task is None:
        return _none(c.task)
    if not 0 <= c.progress <= 100:
        return Refused("invalid", "progress is 0 to 100")
    person = c.person or actor.id
    known = next((one for one in task.members if one.person == person), None)
    if known is None:
        return Refused("not_member", f"{person} does not work on task {c.task}")
    if person != actor.id and actor.id != task.owner:
        return Refused("not_owner", f"only {person} and {task.owner} say how far {person} is")
    if task.state == "closed":
        return Refused("not_open", f"task {c.task} is closed")
    if known.progress == c.progress:
        return Accepted()
    return Accepted((e.TaskProgressed(task=c.task, person=person, progress=c.progress, text=c.text),))


def close_task(t: Ticket, c: CloseTask, actor: Actor, around: Surroundings) -> Outcome:
    """Given up, or no longer needed."""
    task = _task(t, c.task)
    if task is None:
        return _none(c.task)
    return Accepted() if task.state != "open" else Accepted((e.TaskClosed(task=c.task, why=c.reason),))


def _mentioned(
    t: Ticket, people: Sequence[str], text: str, number: int, due_at: datetime | None, around: Surroundings
) -> list[e.Data]:
    wanted = tuple(dict.fromkeys(people))
    if not wanted:
        return []
    told: list[e.Data] = [e.TicketMentioned(people=wanted, text=text)]
    for place, person in enumerate(wanted):
        told.append(
            e.TaskOpened(
                task=_next(t) + place, title=text[:200], owner=person, due_at=due_at or _due(around), note=number
            )
        )
    return told


def _unfit(t: Ticket, people: Sequence[str], around: Surroundings) -> Refused | None:
    strangers = [one for one in dict.fromkeys(people) if not around.reads(one)]
    if strangers:
        return Refused("cannot_read", f"may not read this ticket: {', '.join(strangers)}")
    if len(t.tasks) + len(set(people)) > MOST:
        return Refused("too_many", f"a ticket has at most {MOST} todos and task groups")
    return None


def _task(t: Ticket, number: int) -> Task | None:
    return next((one for one in t.tasks if one.id == number), None)


def _none(number: int) -> Refused:
    return Refused("no_such_task", f"the ticket has no task {number}")


def _next(t: Ticket) -> int:
    return max((one.id for one in t.tasks), default=0) + 1


def _due(around: Surroundings) -> datetime | None:
    return None if around.now is None or around.task_due is None else around.now + around.task_due
