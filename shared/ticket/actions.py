"""The actions people may take on a ticket, as they are posted: `{"action": NAME, …}`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec


class ActorIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For whom a key acts."""

    kind: Literal["person", "customer", "automation"]
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    address: Annotated[str, msgspec.Meta(max_length=200)] | None = None


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="action"):
    """Base of all actions. `expected_version` makes it conditional; `actor` needs a key with the right `act_for`."""

    expected_version: int | None = None
    actor: ActorIn | None = None


class Accept(Command, frozen=True, kw_only=True, tag="accept"):
    """`node`: which of several open nodes; else the one the person has, the main path first."""

    node: str | None = None


class Decline(Command, frozen=True, kw_only=True, tag="decline"):
    reason: str = ""
    node: str | None = None


class Transfer(Command, frozen=True, kw_only=True, tag="transfer"):
    group: str | None = None
    agent: str | None = None
    reason: str = ""
    node: str | None = None


class Note(Command, frozen=True, kw_only=True, tag="note"):
    """An internal note. Everybody in `mentions` gets a todo, due at `due_at` (as the playbook says, without it)."""

    text: str
    mentions: tuple[str, ...] = ()
    due_at: datetime | None = None


class EditNote(Command, frozen=True, kw_only=True, tag="edit_note"):
    """`note`: the version at which it was written. Only people who were not mentioned in it before are told."""

    note: int
    text: str
    mentions: tuple[str, ...] = ()


class OpenTask(Command, frozen=True, kw_only=True, tag="open_task"):
    """A todo of `owner`, or with `members` a joint task group."""

    title: str
    owner: str
    members: tuple[str, ...] = ()
    due_at: datetime | None = None


class Progress(Command, frozen=True, kw_only=True, tag="progress"):
    """What the actor has done of a task, in percent; the owner may say it for a `person`."""

    task: int
    progress: int
    person: str | None = None
    text: str = ""


class CloseTask(Command, frozen=True, kw_only=True, tag="close_task"):
    task: int
    reason: str = ""


class Reply(Command, frozen=True, kw_only=True, tag="reply"):
    text: str


class CustomerReply(Command, frozen=True, kw_only=True, tag="customer_reply"):
    text: str = ""
    automated: bool = False


class Rate(Command, frozen=True, kw_only=True, tag="rate"):
    score: int
    comment: str = ""


class Set(Command, frozen=True, kw_only=True, tag="set"):
    """`append` adds entries to list fields."""

    labels: dict[str, str] = {}
    fields: dict[str, Any] = {}
    append: dict[str, list[Any]] = {}
    priority: str | None = None


class Pause(Command, frozen=True, kw_only=True, tag="pause"):
    reason: str = ""


class Resume(Command, frozen=True, kw_only=True, tag="resume"):
    pass


class CompleteNode(Command, frozen=True, kw_only=True, tag="complete_node"):
    """`material`: attachment ids and checks by the name of the need; `fields` are set on the ticket, `append` adds to lists."""

    node: str
    visit: int | None = None
    material: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    append: dict[str, list[Any]] = {}
    outcome: str | None = None


class Waive(Command, frozen=True, kw_only=True, tag="waive"):
    node: str
    material: str
    reason: str


class Jump(Command, frozen=True, kw_only=True, tag="jump"):
    """Send an open node elsewhere on purpose; `free`: although the flow declares no such jump (needs the right to waive)."""

    node: str
    to: str
    visit: int | None = None
    siblings: str | None = None
    free: bool = False
    reason: str = ""


class Acknowledge(Command, frozen=True, kw_only=True, tag="acknowledge"):
    """`escalation`: which of several; else the latest that nobody has acknowledged."""

    escalation: int | None = None


class Escalate(Command, frozen=True, kw_only=True, tag="escalate"):
    reason: str = ""


class Resolve(Command, frozen=True, kw_only=True, tag="resolve"):
    resolution: str = ""


class Reopen(Command, frozen=True, kw_only=True, tag="reopen"):
    reason: str = ""


class Close(Command, frozen=True, kw_only=True, tag="close"):
    reason: str = ""


class Watch(Command, frozen=True, kw_only=True, tag="watch"):
    """Hear of the ticket: who acts, or the person named."""

    person: str | None = None


class Unwatch(Command, frozen=True, kw_only=True, tag="unwatch"):
    person: str | None = None


class Merge(Command, frozen=True, kw_only=True, tag="merge"):
    into: str


AnyCommand = (
    Accept | Decline | Transfer | Note | Reply | CustomerReply | Rate | Set | Pause | Resume | CompleteNode | Waive | Jump
    | EditNote | OpenTask | Progress | CloseTask
    | Acknowledge | Escalate | Resolve | Reopen | Close | Merge | Watch | Unwatch
)  # fmt: skip
