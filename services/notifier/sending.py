"""A batch of messages: claimed and marked `sending` in one transaction, called outside of any, recorded in another.

The lease is the agenda's own instant: a message in state `sending` that comes due again lost its sender, which is an outcome
(`unknown`) and decided as one. Every mark raises the epoch; a recorder whose epoch is not the row's any more writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from services.notifier import caps, receipt_store, store
from services.notifier.channels.base import Content, Driver, Kind, Message, Outcome, ReceiptMode
from services.notifier.channels.registry import driver_type
from services.notifier.composing import Composer
from services.notifier.errors import ConfigError, TemplateError
from services.notifier.handlers import Compiled, compiled
from services.notifier.limits import Limits
from services.notifier.noting import Notes
from services.notifier.outcomes import LOOKS, looked, lost, resend_safe
from services.notifier.planning import serving
from services.notifier.polling import is_over, next_poll, sent_at
from services.notifier.recording import FOLLOW_SECONDS, Changes, changed, event, judged
from services.notifier.routing import Budget, Routes, Wait
from services.notifier.rows import Row, Tables, Written
from shared.contracts.envelope import New
from shared.ledger.process import Deps
from shared.ledger.unit import Result, Unit, Work
from shared.playbook.messages import Provider
from shared.playbook.model import Playbook
from shared.runtime import chance
from shared.runtime.crash import crash_point
from shared.ticket.state import Ticket

_DONE = frozenset(("sent", "delivered", "read", "suppressed", "cancelled"))
USELESS = "no longer of use"
LEASE_SLACK = timedelta(seconds=7)
"""Beyond the provider's own time-out, before a message in `sending` counts as lost."""


class Job(msgspec.Struct, frozen=True):
    """One message on its way: what was committed as `sending`, and what is to be called."""

    row: Row
    epoch: int
    provider: Provider
    message: Message
    look: bool = False
    """Only ask the provider what it knows of the message."""
    can_look: bool = False
    carries: int = 0
    """How many others it carries."""
    polls: bool = False
    """Its provider is asked what became of it once it is accepted."""

    @property
    def called(self) -> str:
        """Name of the provider that is called."""
        return self.provider.name


class Marked(msgspec.Struct, frozen=True):
    """A message that its planning marked `sending`: the provider that is called, and when it counts as lost."""

    provider: str
    lease: datetime


class Sender(Protocol):
    """Takes jobs whose `sending` is committed; answers by calling `record` with their outcomes."""

    def take(self, jobs: Sequence[Job]) -> None:
        """Send, in its own time."""

    def hold_back(self, jobs: Sequence[Job]) -> None:
        """Wait a moment while there is no room for more like these."""

    def room(self) -> Mapping[str, int]:
        """How many more messages of each provider this process can take; one that is not named has room."""

    @property
    def asks(self) -> bool:
        """Whether it can ask providers what became of messages."""

    def poll(self, jobs: Sequence[Job]) -> None:
        """Ask providers how far accepted messages came; what they say is stored as receipts are."""


class SendMessages:
    """The handler of deliveries: marks and hands over."""

    service = "notifier"
    kind = "delivery"

    def __init__(
        self,
        deps: Deps,
        sender: Sender,
        *,
        tables: Tables = store,
        notes: Notes | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._deps, self._tables, self._sender = deps, tables, sender
        self._notes = notes or Notes()
        self._budget = Budget()
        self._limits = limits or Limits(deps.settings.redis_url)
        self._key = b""

    def handle(self, unit: Unit, batch: Sequence[Work]) -> list[Result]:
        """Mark what can be sent, record what was lost, hold what its provider cannot take now."""
        found = {row.id: row for row in self._tables.rows(unit.connection, [work.id for work in batch])}
        wanted = [row.ticket_id for row in found.values() if row.ticket_id is not None]
        return _Batch(self, unit, found, self._tables.tickets(unit.connection, wanted)).run(batch)

    def at_once(self, unit: Unit, rows: Sequence[Row], tickets: Mapping[int, Ticket]) -> dict[int, Marked]:
        """Mark messages that this very transaction plans, as far as they can go now; what is not in the answer is left to its lane.

        It saves their claim and the writing of a state. Half of each provider's room is left to those that wait already.
        """
        return _Batch(self, unit, {row.id: row for row in rows}, tickets, share=2).at_once() if rows else {}

    def link_key(self) -> bytes:
        """What links are sealed with."""
        if not self._key:
            settings = self._deps.settings
            self._key = (settings.link_key or chance.kept_secret(settings.home, "link.key")).encode()
        return self._key

    def hand_over(self, jobs: list[Job], *, patient: bool = True) -> None:
        """Called after the commit. `patient`: claims no more for a moment while their providers have no room."""
        crash_point("delivery.claimed")
        self._sender.take(jobs)
        if patient:
            self._sender.hold_back(jobs)

    @property
    def parts(self) -> tuple[Deps, Tables, Sender, Notes, Budget, Limits]:
        return self._deps, self._tables, self._sender, self._notes, self._budget, self._limits


@dataclass(slots=True)
class _Found:
    jobs: list[Job] = field(default_factory=list)
    polls: list[Job] = field(default_factory=list)
    bundled: list[Written] = field(default_factory=list)


class _Batch:
    """Messages being decided: a claimed batch, or what a batch of tickets has just planned."""

    def __init__(
        self,
        handler: SendMessages,
        unit: Unit,
        rows: Mapping[int, Row],
        tickets: Mapping[int, Ticket],
        *,
        share: int = 1,
    ) -> None:
        self.handler, self.unit, self.rows = handler, unit, rows
        self.deps, self.tables, self.sender, notes, budget, limits = handler.parts
        states = self.tables.health(unit.connection)
        notes.watch(states.values())
        room = {name: left // share for name, left in self.sender.room().items()}
        self.routes = Routes(unit.connection, unit.now, states, room, budget, limits)
        self.composer = Composer(
            self.deps.settings, handler.link_key(), self.deps.directory.get(unit.connection), tickets, unit.now
        )
        self.changes, self.marked = Changes(self.tables), _Found()
        self.carried: set[int] = set()
        self.gates: dict[str, Wait] = {}
        self.playbooks: dict[int, tuple[Playbook, Compiled]] = {}
        self.leases: dict[str, tuple[datetime, bool, bool]] = {}

    def run(self, batch: Sequence[Work]) -> list[Result]:
        unit = self.unit
        over = {work.id: done for work in batch if (done := self._over(work, self.rows[work.id])) is not None}
        left = [work for work in batch if work.id not in over]
        capped = caps.waits(unit, self.deps, [self.rows[work.id] for work in left], self.tables)
        for work in left:
            row = self.rows[work.id]
            if work.id in self.carried:
                continue
            over[work.id] = self._wait(work, row, capped[work.id]) if work.id in capped else self._send(work, row)
        if self.marked.jobs:
            jobs = self.marked.jobs
            marked = [{"id": one.row.id, "epoch": one.epoch, "provider": one.called, "at": unit.now} for one in jobs]
            self.tables.sending(unit.connection, marked)
            self.tables.keep_links(unit.connection, self.composer.linked)
            unit.after_commit.append(lambda: self.handler.hand_over(jobs))
        if self.marked.polls:
            polls = self.marked.polls
            unit.after_commit.append(lambda: self.sender.poll(polls))
        if self.marked.bundled:
            self.tables.record(unit.connection, self.marked.bundled)
        self.changes.write(unit)
        return [over[work.id] if work.id in over else Result(work, (), None) for work in batch]

    def at_once(self) -> dict[int, Marked]:
        """Whatever can go now; where anything speaks against it, its lane decides."""
        unit, rows = self.unit, list(self.rows.values())
        capped = caps.waits(unit, self.deps, rows, self.tables)
        for row in rows:
            if row.id not in capped:
                self._goes(row)
        jobs = self.marked.jobs
        if not jobs:
            return {}
        self.tables.keep_links(unit.connection, self.composer.linked)
        unit.after_commit.append(lambda: self.handler.hand_over(jobs, patient=False))
        marks = {name: Marked(name, lease) for name, (lease, _, _) in self.leases.items()}
        return {job.row.id: marks[job.called] for job in jobs}

    def _goes(self, row: Row) -> None:
        """Mark a message that can go now."""
        playbook, known = self._known(row)
        candidates = serving(known.providers.get(row.channel, ()), row.recipient)
        found = self.routes.choose(row, candidates, chance.fraction()) if candidates else None
        if not isinstance(found, Provider):
            return
        try:
            content = self.composer.content(row, playbook, found)
        except TemplateError:
            return  # its lane says what is wrong with it
        self._mark(row, found, content)

    # ---- what is not sent --------------------------------------------------------------------------------------------

    def _over(self, work: Work, row: Row) -> Result | None:
        """What is to be done with a message that is not to be sent now, or None."""
        now = self.unit.now
        if row.state == "sending":
            driver = self._driver(row)
            safe = driver is not None and driver.has_idempotency and driver.idempotent_in_batch
            can_look = driver is not None and driver.has_lookup
            return judged(work, row, row.provider, lost(safe), now, 0.5, self.changes, can_look=can_look)
        if row.state == "failed":
            return self._follow(work, row)
        if row.state in _DONE or row.bundle is not None:
            return self._poll(work, row)
        if row.valid_until is not None and now > row.valid_until:
            self.changes.counts[row.channel, row.provider, "suppressed"] += 1
            self.changes.rows.append(changed(row, work.version + 1, "suppressed", USELESS, now))
            return Result(work, (New(event("suppressed", row, row.provider, USELESS)),))
        return None

    def _poll(self, work: Work, row: Row) -> Result:
        """An accepted message whose provider tells only when it is asked."""
        driver, accepted_at = self._driver(row), sent_at(row)
        if driver is None or accepted_at is None or not self.sender.asks or is_over(row, driver):
            return Result(work, (), None)
        message = Message(f"sb-{row.id}", row.address, Content(), provider_id=row.provider_id)
        provider = self._known(row)[1].provider(row.provider)
        self.marked.polls.append(Job(row, row.epoch, provider, message, look=True, polls=True))
        return Result(work, (), next_poll(accepted_at, self.unit.now))

    def _follow(self, work: Work, row: Row) -> Result:
        """A failed message sees to it that the next step of its plan is taken up: its ticket may have been busy."""
        left = receipt_store.overdue(self.unit.connection, [row], self.unit.now)
        self.unit.rouse("notifier", left)
        return Result(work, (), self.unit.now + timedelta(seconds=FOLLOW_SECONDS) if left else None)

    def _wait(self, work: Work, row: Row, wait: Wait) -> Result:
        """Held, with the reason; the row is written only where that says something new."""
        state = "unknown" if row.state == "unknown" else "held"
        if wait.briefly and row.gather is None:
            return Result(work, (), wait.until)
        if (row.state, row.reason) != (state, wait.reason) or (wait.gather is not None and row.gather is None):
            kept = changed(row, work.version, state, wait.reason, self.unit.now)
            kept.gather = wait.gather
            self.changes.rows.append(kept)
        return Result(work, (), max(wait.until, self.unit.now + timedelta(milliseconds=20)))

    # ---- what is sent ------------------------------------------------------------------------------------------------

    def _send(self, work: Work, row: Row) -> Result:
        if row.gather is not None and row.gather in self.gates:
            return self._wait(work, row, self.gates[row.gather])
        playbook, known = self._known(row)
        candidates = serving(known.providers.get(row.channel, ()), row.recipient)
        if not candidates:
            none = Outcome(Kind.BAD_MESSAGE, code="no_provider", detail=f"no provider serves {row.channel}")
            return judged(work, row, row.provider, none, self.unit.now, 0.5, self.changes)
        if row.state == "unknown" and (look := self._look(work, row, playbook)) is not None:
            return look
        if row.state == "unknown" and resend_safe(row) and row.on_unknown != "resend":
            # only its own provider folds the second copy
            candidates = tuple(one for one in candidates if one.name == row.provider) or candidates
        found = self.routes.choose(row, candidates, chance.fraction())
        if isinstance(found, Wait):
            if row.gather is not None:
                self.gates[row.gather] = found
            return self._wait(work, row, found)
        try:
            others = self._others(row, row.gather) if row.gather is not None else []
            content = self._content(row, playbook, found, others)
        except TemplateError as error:
            refused = Outcome(Kind.BAD_MESSAGE, code="template", detail=str(error)[:200])
            return judged(work, row, row.provider, refused, self.unit.now, 0.5, self.changes)
        if others:
            self._carry(row, others)
        return Result(work, (), self._mark(row, found, content, carries=len(others)))

    def _look(self, work: Work, row: Row, playbook: Playbook) -> Result | None:
        """Ask the provider that may have the message, while there are look-ups left."""
        provider = self._known(row)[1].provider(row.provider)
        driver = self._driver(row)
        if driver is None or not driver.has_lookup or provider.name != row.provider or looked(row) >= LOOKS:
            return None
        return Result(work, (), self._mark(row, provider, Content(), look=True))

    def _others(self, row: Row, key: str) -> list[Row]:
        connection = self.unit.connection
        waiting = self.tables.gathered(connection, key, row.id)
        found = [*waiting, *self.tables.carried(connection, [row.id])]
        return sorted(found, key=lambda one: one.id)

    def _content(self, row: Row, playbook: Playbook, provider: Provider, others: Sequence[Row]) -> Content:
        if not others:
            return self.composer.content(row, playbook, provider)
        pairs = sorted([(row, playbook), *((one, self._known(one)[0]) for one in others)], key=lambda one: one[0].id)
        missing = [one.ticket_id for one, _ in pairs if one.ticket_id is not None]
        known = dict(self.composer.tickets) | self.tables.tickets(self.unit.connection, missing)
        self.composer.tickets = known
        return self.composer.bundle(row, pairs, provider, playbook.document.messages.digest.max_items)

    def _carry(self, row: Row, others: Sequence[Row]) -> None:
        """Those that this message carries wait for what becomes of it, and for nothing else."""
        for one in others:
            self.carried.add(one.id)
            if one.bundle is None:
                told = f"goes out with message {row.id}"
                kept = changed(one, one.version, "held", told, self.unit.now)
                kept.bundle = row.id
                self.marked.bundled.append(kept)
                if one.id not in self.rows:
                    work = Work("delivery", one.id, one.urgency, one.version, one.version, 0, 0, self.unit.now, None)
                    self.unit.settle("notifier", Result(work, (), None))

    def _mark(
        self, row: Row, provider: Provider, content: Content, *, look: bool = False, carries: int = 0
    ) -> datetime:
        """Gather a call of this message; returns when its lease ends."""
        ticket = self.composer.tickets.get(row.ticket_id or 0)
        known = self.leases.get(provider.name)
        if known is None:
            known = self.leases[provider.name] = self._lease(provider)
        first = row.attempts[0].get("at") if row.attempts else None
        message = Message(
            message_id=f"sb-{row.id}",
            address=row.address,
            content=content,
            urgency=row.urgency,
            valid_until=row.valid_until,
            thread="" if ticket is None else ticket.number,
            attempted_at=None if first is None else datetime.fromisoformat(str(first)),
            provider_id=row.provider_id,
        )
        self.marked.jobs.append(Job(row, row.epoch + 1, provider, message, look, known[1], carries, known[2]))
        return known[0]

    def _lease(self, provider: Provider) -> tuple[datetime, bool, bool]:
        """How long its messages may take, whether it can be asked about those without an answer, and about those that it took."""
        driver = driver_type(provider.driver)
        polls = driver.receipts is ReceiptMode.POLL and self.sender.asks
        return (
            self.unit.now + timedelta(seconds=provider.timeout.total_seconds()) + LEASE_SLACK, driver.has_lookup, polls,
        )  # fmt: skip

    def _driver(self, row: Row) -> type[Driver] | None:
        try:
            return driver_type(self._known(row)[1].provider(row.provider).driver)
        except ConfigError:
            return None

    def _known(self, row: Row) -> tuple[Playbook, Compiled]:
        """The version a message was planned under."""
        found = self.playbooks.get(row.playbook)
        if found is None:
            playbook: Playbook = self.deps.playbooks.get(self.unit.connection, row.playbook)
            found = self.playbooks[row.playbook] = playbook, compiled(playbook)
        return found
