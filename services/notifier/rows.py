"""A notifier's rows as planning, sending and recording have them, and what they ask of whoever keeps them.

`store` keeps them in PostgreSQL; a comparison of playbooks keeps the same in memory (`services/control/replay/tables.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from sqlalchemy import Connection

from services.notifier.planning import Waiting
from shared.playbook.messages import Storm
from shared.ticket.state import Ticket

if TYPE_CHECKING:
    from services.notifier.gathering import Window
    from services.notifier.health import State
    from services.notifier.receipts import Kept


@dataclass(slots=True)
class Changes:
    """What planning a batch writes."""

    notifications: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    turned: list[dict[str, Any]] = field(default_factory=list)
    """Waiting notifications whose turn came, or which are not wanted any more."""


class Row(msgspec.Struct, frozen=True):
    """A message as the sender needs it. Made for each look at one, so a struct: a dataclass costs twenty times more."""

    id: int
    version: int
    ticket_id: int | None
    rule: str
    playbook: int
    event_type: str
    event: dict[str, Any]
    recipient: str
    channel: str
    provider: str
    address: str
    locale: str | None
    urgency: str
    on_unknown: str
    state: str
    epoch: int
    failures: int
    provider_id: str | None
    valid_until: datetime | None
    attempts: list[dict[str, Any]]
    created_at: datetime
    event_version: int | None = None
    gather: str | None = None
    bundle: int | None = None
    reason: str | None = None


class Written(msgspec.Struct):
    """What becomes of a message: what `record` writes of it. `attempt` is added to those it has; None adds none."""

    id: int
    version: int
    state: str
    reason: str | None
    failures: int
    provider_id: str | None
    provider: str
    attempt: dict[str, Any] | None
    at: datetime
    gather: str | None = None
    bundle: int | None = None


class Accepted(msgspec.Struct):
    """Messages of one epoch that a provider took with the same words: all that is written of them is the same."""

    ids: list[int]
    epoch: int
    provider_id: str | None
    attempt: dict[str, Any]
    at: datetime


def of_planned(row: Mapping[str, Any]) -> Row:
    """A message that is about to be written, as the sender needs it."""
    return Row(
        row["id"], row["version"], row["ticket_id"], row["rule"], row["playbook"], row["event_type"], row["event"],
        row["recipient"], row["channel"], row["provider"], row["address"], row["locale"], row["urgency"], row["on_unknown"],
        row["state"], row["epoch"], 0, row["provider_id"], row["valid_until"], row["attempts"], row["created_at"],
        row["event_version"], row["gather"], None, row["reason"],
    )  # fmt: skip


Ready = Callable[[list[dict[str, Any]]], None]
"""Given the rows of new messages."""


class Tables(Protocol):
    """What planning and sending ask of the tables: this module, or whoever keeps the same in memory."""

    def plan(self, connection: Connection, changes: Changes, ready: Ready) -> set[int]: ...
    def waiting(self, connection: Connection, ids: Sequence[int]) -> dict[int, list[tuple[Waiting, Any]]]: ...
    def reached(self, connection: Connection, ids: Sequence[int]) -> dict[int, dict[tuple[str, str], str]]: ...
    def event(self, connection: Connection, kind: str, item_id: int, version: int) -> dict[str, Any]: ...
    def rows(self, connection: Connection, ids: Sequence[int]) -> list[Row]: ...
    def locked(self, connection: Connection, ids: Sequence[int]) -> list[tuple[int, int, str, int]]: ...
    def sending(self, connection: Connection, marked: Sequence[dict[str, Any]]) -> None: ...
    def accepted(self, connection: Connection, one: Accepted) -> list[tuple[int, int]]: ...
    def record(self, connection: Connection, recorded: Sequence[Written]) -> None: ...
    def unsent_about(self, connection: Connection, ids: Sequence[int], types: Sequence[str]) -> list[Row]: ...
    def tickets(self, connection: Connection, ids: Sequence[int]) -> dict[int, Ticket]: ...
    def keep_links(self, connection: Connection, linked: Sequence[dict[str, Any]]) -> None: ...
    def early(self, connection: Connection, provider: str, provider_ids: Sequence[str]) -> Sequence[Kept]: ...
    def windows(
        self, connection: Connection, wanted: Iterable[Window], now: datetime
    ) -> Mapping[str, tuple[datetime, bool]]: ...
    def storms(
        self, connection: Connection, storm: Storm, counted: Mapping[str, int], now: datetime
    ) -> Mapping[str, datetime]: ...
    def health(self, connection: Connection) -> dict[str, State]: ...
    def gathered(self, connection: Connection, key: str, carrier: int) -> list[Row]: ...
    def carried(self, connection: Connection, carriers: Sequence[int]) -> list[Row]: ...
    def sent_lately(
        self, connection: Connection, recipients: Sequence[str], after: datetime, limit: int
    ) -> dict[str, list[tuple[str, int | None, datetime]]]: ...
    def dead(self, connection: Connection, addresses: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]: ...
