"""A batch of tickets being planned: notifications, and messages for what goes now; what is held or suppressed says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from services.notifier import metrics
from services.notifier.audience import REQUESTER, ROBOT, Recipient, of_person, resolve
from services.notifier.calling_off import CLOCK_EVENTS, OFF, call_off, cancelled_in
from services.notifier.errors import TemplateError
from services.notifier.facts import NO_LINKS, facts
from services.notifier.gathering import Window, due_at, window
from services.notifier.handlers import Compiled, Sending, compiled
from services.notifier.planning import Planned, address_of, choose, over, plan, serving
from services.notifier.rows import Changes, Tables, of_planned
from services.notifier.wishes import Wish, wish
from shared.contracts import events as e
from shared.contracts.envelope import New, Recorded
from shared.directory.people import Directory
from shared.ledger.process import Deps
from shared.ledger.unit import Result, Unit, Work
from shared.playbook.messages import Rule, Target
from shared.ticket.state import Ticket

NONE_YET: list[dict[str, Any]] = []
"""The attempts of every message that was not sent yet: one object, so that it is written as JSON once for a batch."""


class PlannedBatch:
    """One claimed batch being planned."""

    def __init__(self, deps: Deps, unit: Unit, batch: Sequence[Work], tables: Tables, sending: Sending | None) -> None:
        self.deps, self.unit, self.batch, self.tables, self.sending = deps, unit, batch, tables, sending
        self.directory: Directory = deps.directory.get(unit.connection)
        self.changes = Changes()
        self.ids: list[int] = []
        self.inbox: list[int] = []
        self.send: dict[int, tuple[str, dict[str, Any], datetime | None]] = {}
        self.rules: dict[int, Compiled] = {}
        self.dead: Mapping[tuple[str, str], str] = {}
        self.skipped: set[tuple[int, int, str]] = set()
        """(ticket, event, recipient) whose present step could not be taken: their next step comes at once."""
        self.storms: Mapping[str, datetime] = {}
        self.windows: Mapping[str, tuple[datetime, bool]] = {}
        self.begun: set[str] = set()
        self.masks: dict[int, Any] = {}
        self.told: tuple[Recorded | None, dict[str, Any]] = (None, {})
        self.counts: Counter[tuple[str, str, str]] = Counter()
        """(channel, provider, outcome): shown once it is committed."""

    def run(self) -> list[Result]:
        unit, seen = self.unit, [work.id for work in self.batch if work.seen > 0]
        waiting = self.tables.waiting(unit.connection, seen) if seen else {}
        reached = self.tables.reached(unit.connection, list(waiting)) if waiting else {}
        planned = [(work, self._plan(work)) for work in self.batch]
        count = 2 * sum(len(found) for _, found in planned) + sum(len(found) for found in waiting.values())
        self.ids = self.deps.ids.take(unit.connection, count) if count else []
        self.dead = self.tables.dead(unit.connection, self._addresses(planned, waiting))
        self._open_windows(planned, waiting)
        results = []
        for work, found in planned:
            dues = [self._keep(work, one) for one in found]
            dues += self._turn(work, waiting.get(work.id, []), reached.get(work.id, {}))
            results.append(Result(work, (), min((due for due in dues if due is not None), default=None)))
        call_off(unit, self.batch, self.tables)
        self._deliver(self.tables.plan(unit.connection, self.changes, self._at_once))
        if self.counts:
            unit.after_commit.append(self._show)
        return results

    def _show(self) -> None:
        for (channel, provider, outcome), count in self.counts.items():
            metrics.DELIVERIES.labels(channel, provider, outcome).inc(count)
            if outcome == "accepted":  # of the inbox: there with the commit
                metrics.DELIVERY_SECONDS.labels(channel).observe_many(0.0, count)

    def _addresses(
        self, planned: Sequence[tuple[Work, Sequence[Planned]]], waiting: Mapping[int, Sequence[tuple[Any, Any]]]
    ) -> list[tuple[str, str]]:
        """Every (channel, address) that this batch may write to."""
        pairs = {
            (one.channel, self._address(work.ticket, one.recipient.id, one.channel, one.address))
            for work, found in planned
            for one in found
            if one.channel != "inbox"
        }
        for work, _ in planned:
            for step, _row in waiting.get(work.id, ()):
                recipient = self._recipient(work.ticket, step.recipient) if step.due_at <= self.unit.now else None
                if recipient is not None and step.channel != "inbox":
                    own = recipient.address(step.channel)
                    pairs.add((step.channel, self._address(work.ticket, recipient.id, step.channel, own)))
        return [(channel, address) for channel, address in pairs if address is not None]

    def _address(self, ticket: Ticket, recipient: str, channel: str, own: str | None) -> str | None:
        """Where a message goes; `own` is the recipient's address for the channel."""
        if not recipient.startswith(ROBOT):
            return own
        return address_of(recipient, own, self._compiled(ticket.playbook).providers.get(channel, ()))

    def _compiled(self, number: int) -> Compiled:
        if number not in self.rules:
            self.rules[number] = compiled(self.deps.playbooks.get(self.unit.connection, number))
        return self.rules[number]

    def _plan(self, work: Work) -> list[Planned]:
        return plan(work.events, work.ticket, self._compiled(work.ticket.playbook).rules, self.directory)

    def _keep(self, work: Work, one: Planned) -> datetime | None:
        """A notification row; a message where its turn is now. Returns when its turn comes otherwise."""
        ticket, now, event, recipient = work.ticket, self.unit.now, one.event, one.recipient
        number = self.ids.pop()
        message_id, state, reason, due_at = None, "planned", None, None
        place = (ticket.id, event.version, recipient.id)
        if one.address is None:
            state, reason = "suppressed", f"no address for {one.channel}"
        elif one.due_at > now and place not in self.skipped:
            due_at = one.due_at
        else:
            self.skipped.discard(place)
            wished = self._wish(one.rule, event.type, recipient, one.channel)
            if wished.hold_until is not None:
                due_at, reason = wished.hold_until, wished.reason
            else:
                message_id, reason = (
                    (None, wished.off)
                    if wished.off is not None
                    else self._message(
                        ticket, one.rule, event.type, event.version, self._data(event), recipient, one.channel, one.address
                    )
                )  # fmt: skip
                state = "suppressed" if message_id is None else "sent"
        if state == "suppressed" and one.due_at <= now:
            self.skipped.add(place)
        self.changes.notifications.append(
            {
                "id": number,
                "ticket_id": ticket.id,
                "event_kind": "ticket",
                "event_item": event.id,
                "event_version": event.version,
                "event_type": event.type,
                "rule": one.rule.name,
                "playbook": ticket.playbook,
                "recipient": recipient.id,
                "channel": one.channel,
                "state": state,
                "reason": reason,
                "until": one.until,
                "due_at": due_at,
                "message_id": message_id,
                "created_at": now,
            }
        )
        if state == "suppressed":
            self.counts[one.channel, "none", "suppressed"] += 1
        return due_at

    def _turn(
        self, work: Work, waiting: list[tuple[Any, Any]], reached: Mapping[tuple[str, str], str]
    ) -> list[datetime | None]:
        """Waiting steps: cancelled by what happened meanwhile, sent when due, else waited for."""
        dues: list[datetime | None] = []
        ticket = work.ticket
        cancelled = cancelled_in(work) if waiting else {}
        for step, row in waiting:
            why = over(step, ticket, reached)
            if why is None and cancelled and step.event_type in CLOCK_EVENTS and self._metric(row) in cancelled:
                why = OFF
            message_id, state, due_at = None, "cancelled", None
            if why is None:
                if step.due_at > self.unit.now:
                    dues.append(step.due_at)
                    continue
                message_id, why, due_at = self._late(ticket, row)
                state = "planned" if due_at is not None else "suppressed" if message_id is None else "sent"
                dues.append(due_at)
            self.changes.turned.append(
                {
                    "id": step.id,
                    "state": state,
                    "reason": why,
                    "message_id": message_id,
                    "due_at": due_at,
                    "updated_at": self.unit.now,
                }
            )
        return dues

    def _metric(self, row: Any) -> str | None:
        """Which clock a waiting step is about."""
        data = self.tables.event(self.unit.connection, row.event_kind, row.event_item, row.event_version)
        return data.get("metric")

    def _late(self, ticket: Ticket, row: Any) -> tuple[int | None, str | None, datetime | None]:
        """A step whose turn has come: (message, why not, when instead)."""
        recipient, rule = self._recipient(ticket, row.recipient), self._rule(ticket, row.event_type, row.rule)
        if recipient is None or rule is None:
            return None, "nobody of that name any more" if recipient is None else "its rule is gone", None
        wished = self._wish(rule, row.event_type, recipient, row.channel)
        if wished.off is not None:
            return None, wished.off, None
        if wished.hold_until is not None:
            return None, wished.reason, wished.hold_until
        data = self.tables.event(self.unit.connection, row.event_kind, row.event_item, row.event_version)
        own = recipient.address(row.channel)
        made = self._message(ticket, rule, row.event_type, row.event_version, data, recipient, row.channel, own)
        return *made, None

    def _data(self, event: Recorded) -> dict[str, Any]:
        """An event's data as templates name it: built once for all who are told of it, one after the other."""
        if self.told[0] is not event:
            self.told = event, msgspec.to_builtins(event.data)
        return self.told[1]

    def _rule(self, ticket: Ticket, event_type: str, name: str) -> Rule | None:
        rules = self._compiled(ticket.playbook).rules.get(event_type, ())
        return next((one.rule for one in rules if one.rule.name == name), None)

    def _wish(self, rule: Rule, event_type: str, recipient: Recipient, channel: str) -> Wish:
        return wish(rule, event_type, channel, self.directory.person(recipient.id), self.directory, self.unit.now)

    # ---- windows -----------------------------------------------------------------------------------------------------

    def _open_windows(
        self, planned: Sequence[tuple[Work, Sequence[Planned]]], waiting: Mapping[int, Sequence[tuple[Any, Any]]]
    ) -> None:
        """Count events towards storms, and open or join the windows of everything that would go now."""
        unit, now = self.unit, self.unit.now
        storm = self.deps.playbooks.current(unit.connection).document.messages.storm
        if storm is not None:
            counted: Counter[str] = Counter()
            for work, found in planned:
                counted[work.ticket.source] += len({one.event.version for one in found})
            self.storms = self.tables.storms(unit.connection, storm, +counted, now)
        wanted = [
            self._window(work.ticket, one.rule, one.recipient.id, one.channel, getattr(one.event.data, "late", False))
            for work, found in planned
            for one in found
            if one.due_at <= now and (self.storms or one.rule.digest or getattr(one.event.data, "late", False))
        ]
        for work, _ in planned:
            for step, _row in waiting.get(work.id, ()):
                rule = self._rule(work.ticket, step.event_type, step.rule) if step.due_at <= now else None
                if rule is not None:
                    wanted.append(self._window(work.ticket, rule, step.recipient, step.channel, False))
        self.windows = self.tables.windows(unit.connection, [one for one in wanted if one is not None], now)

    def _window(self, ticket: Ticket, rule: Rule, recipient: str, channel: str, late: bool) -> Window | None:
        return window(
            rule, recipient, channel, late=late, source=ticket.source, storm_until=self.storms.get(ticket.source),
            now=self.unit.now,
        )  # fmt: skip

    def _collected(
        self, ticket: Ticket, rule: Rule, recipient: str, channel: str, late: bool
    ) -> tuple[Window, datetime] | None:
        """The window that a message waits in, and until when; None when it goes now."""
        found = self._window(ticket, rule, recipient, channel, late) if self.windows else None
        if found is None or found.key not in self.windows:
            return None
        due = due_at(found, self.windows[found.key], found.key not in self.begun, self.unit.now)
        self.begun.add(found.key)
        return None if due is None else (found, due)

    # ---- rows --------------------------------------------------------------------------------------------------------

    def _recipient(self, ticket: Ticket, name: str) -> Recipient | None:
        if name == REQUESTER:
            return next(iter(resolve([Target("requester", "")], None, ticket, self.directory)), None)  # type: ignore[arg-type]
        if name.startswith(ROBOT):
            return next(iter(resolve([Target("robot", name.removeprefix(ROBOT))], None, ticket, self.directory)), None)  # type: ignore[arg-type]
        person = self.directory.person(name)
        return None if person is None or not person.active else of_person(person)

    def _message(
        self,
        ticket: Ticket,
        rule: Rule,
        event_type: str,
        event_version: int,
        event: dict[str, Any],
        recipient: Recipient,
        channel: str,
        own: str | None,
    ) -> tuple[int | None, str | None]:
        """A message now: (its id, None), or (None, why not)."""
        known, now = self._compiled(ticket.playbook), self.unit.now
        address, number = self._address(ticket, recipient.id, channel, own), self.ids.pop()
        provider = choose(serving(known.providers.get(channel, ()), recipient.id), number)
        if address is None or provider is None or (channel, address) in self.dead:
            return None, self._unreachable(channel, address)
        inbox = provider.driver == "inbox"
        collected = None
        if not inbox:
            collected = self._collected(ticket, rule, recipient.id, channel, bool(event.get("late")))
        content = None
        if inbox:
            try:
                content = self._content(ticket, rule.name, event_type, event, recipient, channel)
            except TemplateError as error:
                return None, f"template: {error}"[:300]
            self.inbox.append(number)
        row = {
            "id": number,
            "version": 1 if inbox else 0,
            "ticket_id": ticket.id,
            "rule": rule.name,
            "playbook": ticket.playbook,
            "event_type": event_type,
            "event": event,
            "recipient": recipient.id,
            "channel": channel,
            "provider": provider.name,
            "address": address,
            "locale": recipient.locale,
            "urgency": rule.urgency,
            "on_unknown": rule.on_unknown,
            "state": "sent" if inbox else "planned" if collected is None else "held",
            "reason": None if collected is None else collected[0].reason,
            "gather": None if collected is None else collected[0].key,
            "valid_until": None if rule.valid_for is None else now + rule.valid_for,
            "attempts": [{"at": now, "provider": provider.name, "outcome": "accepted"}] if inbox else NONE_YET,
            "provider_id": str(number) if inbox else None,
            "event_version": event_version,
            "content": content,
            "epoch": 0,
            "sent_at": None,
            "created_at": now,
        }
        self.changes.messages.append(row)
        self.send[number] = (rule.urgency, row, None if collected is None else collected[1])
        return number, None

    def _unreachable(self, channel: str, address: str | None) -> str:
        """Why nobody can be reached there."""
        if address is None:
            return f"no address for {channel}"
        return self.dead.get((channel, address)) or f"no provider serves {channel}"

    def _content(
        self,
        ticket: Ticket,
        rule: str,
        event_type: str,
        event: dict[str, Any],
        recipient: Recipient,
        channel: str,
    ) -> dict[str, Any]:
        """What the inbox shows. Its reader is signed in, so that its buttons are actions and need no link."""
        known = self._compiled(ticket.playbook)
        if ticket.playbook not in self.masks:
            version = self.deps.playbooks.get(self.unit.connection, ticket.playbook)
            self.masks[ticket.playbook] = version.document.access.masks
        masks = self.masks[ticket.playbook]
        shown = {
            "id": recipient.id, "name": recipient.name, "locale": recipient.locale, "zone": recipient.zone or "UTC",
        }  # fmt: skip
        given = facts(ticket, event_type, event, shown, masks) | NO_LINKS | {"action_values": {}}
        made = known.catalogue.render(rule, channel, recipient.locale, given)
        buttons = [{"label": one.label, "action": one.value, "url": one.url} for one in made.buttons]
        return {"title": made.title, "text": made.text or made.markdown, "url": made.url, "actions": buttons}

    def _at_once(self, rows: list[dict[str, Any]]) -> None:
        """What can go now is written as being sent. What failed before goes the long way, on which one message fails alone."""
        if self.sending is None:
            return
        shaky = {work.id for work in self.batch if work.failures or work.crashes}
        found = [of_planned(row) for row in rows if row["state"] == "planned" and row["ticket_id"] not in shaky]
        tickets = {work.id: work.ticket for work in self.batch}
        marked = self.sending.at_once(self.unit, found, tickets)
        for row in rows:
            one = marked.get(row["id"])
            if one is not None:
                row["state"], row["epoch"], row["provider"], row["sent_at"] = "sending", 1, one.provider, self.unit.now
                self.send[row["id"]] = row["urgency"], row, one.lease

    def _deliver(self, fresh: set[int]) -> None:
        """Events of what this commit delivers; agenda rows of what the sender has to do."""
        inbox = set(self.inbox)
        for number in sorted(fresh):
            urgency, row, due = self.send[number]
            if number in inbox:
                sent = e.DeliverySent(
                    ticket=row["ticket_id"], recipient=row["recipient"], channel=row["channel"], provider=row["provider"],
                    attempt=1, provider_id=row["provider_id"],
                )  # fmt: skip
                self.unit.append("delivery", number, 0, [New(sent)], correlation=f"ticket-{row['ticket_id']}")
                self.counts[row["channel"], row["provider"], "accepted"] += 1
            else:
                self.unit.wake("notifier", "delivery", number, urgency, due, fresh=True)
