"""What the services keep of tickets, in memory: the same answers as their tables, for a history that is played in one process.

Each class does what the statements of its service's `store` do; `tests/e2e/test_replay.py` plays the same history through both.
With a mirror, every row that changes is handed on to be written behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec
from sqlalchemy import Connection

from services.escalation import store as escalation
from services.escalation.watched import Watched
from services.notifier import rows as notifier
from services.notifier.gathering import Window
from services.notifier.health import State
from services.notifier.planning import Waiting
from services.router import store as router
from services.router.domain.pool import Turns
from services.sla import store as sla
from services.sla.domain.kept import short
from services.sla.domain.ticket import SlaState
from shared.contracts.envelope import Recorded
from shared.oncall.schedule import Schedule
from shared.playbook.messages import Storm
from shared.playbook.model import Playbook
from shared.ticket.state import Ticket

Key = tuple[Any, ...]


class Mirror(Protocol):
    """Takes rows as they are now; the last of a key counts."""

    def put(self, table: str, key: Key, row: Any) -> None:
        """A row that is new or changed."""

    def drop(self, table: str, key: Key) -> None:
        """A row that is no more."""

    def event(self, event: Recorded) -> None:
        """An event was appended."""

    def digest(self, ticket_id: int, digest: int) -> None:
        """The digest of the body that a ticket was opened with."""


class Nowhere:
    """No mirror: what is only tried out is written nowhere."""

    def put(self, table: str, key: Key, row: Any) -> None:
        """Forget it."""

    def drop(self, table: str, key: Key) -> None:
        """Forget it."""

    def event(self, event: Recorded) -> None:
        """Forget it."""

    def digest(self, ticket_id: int, digest: int) -> None:
        """Forget it."""


_WAIT = ("ticket_id", "group_name", "rank", "queued_at", "cause", "demand", "failed")
_STALL = ("ticket_id", "node", "visit", "assignment", "due_at")
_STANDING = ("ticket_id", "group_name", "line", "rank", "queued_at", "demand")


@dataclass(slots=True)
class RouterTables:
    """Assignments that are open, loads, turns and the waiting list."""

    mirror: Mirror
    _held: dict[int, dict[int, dict[str, Any]]] = field(default_factory=dict)
    _waits: dict[int, dict[str, Any]] = field(default_factory=dict)
    _owners: dict[tuple[str, str], str] = field(default_factory=dict)
    _loads: dict[str, router.Load] = field(default_factory=dict)
    _turns: dict[str, Turns] = field(default_factory=dict)
    _given: dict[str, list[tuple[datetime, str]]] = field(default_factory=dict)

    def held(self, connection: Connection, ids: Sequence[int]) -> dict[int, list[router.Held]]:
        return {one: [_held(row) for row in self._held[one].values()] for one in ids if self._held.get(one)}

    def waits(self, connection: Connection, ids: Sequence[int]) -> dict[int, router.Wait]:
        return {
            one: router.Wait(*(row[name] for name in _WAIT)) for one in ids if (row := self._waits.get(one)) is not None
        }

    def lock_loads(
        self, connection: Connection, agents: Iterable[str], *, in_line: bool = False
    ) -> dict[str, router.Load]:
        return {one: self._loads.get(one) or router.Load(0, 0, 0.0) for one in sorted(set(agents))}

    def turns(self, connection: Connection, groups: Iterable[str]) -> dict[str, Turns]:
        wanted = sorted(set(groups))
        return {one: Turns(t.clock, dict(t.of)) for one in wanted if (t := self._turns.get(one)) is not None}

    def recent(self, connection: Connection, group: str, after: datetime) -> dict[str, int]:
        # a window only ever moves forward: what it has left behind is forgotten
        kept = self._given[group] = [one for one in self._given.get(group, []) if one[0] > after]
        counts: dict[str, int] = {}
        for _, agent in kept:
            counts[agent] = counts.get(agent, 0) + 1
        return counts

    def lines(
        self, connection: Connection, groups: Iterable[str], but: Sequence[int], limit: int
    ) -> list[router.Standing]:
        wanted, left_out = set(groups), set(but)
        heads: dict[tuple[str, str], router.Standing] = {}
        places = sorted(
            {(one["group_name"], one["line"]) for one in self._waits.values() if one["group_name"] in wanted}
        )
        for place in places[:limit]:
            first = self._in_line(*place, left_out)[:1]
            if first:
                heads[place] = first[0]
        return sorted(heads.values(), key=lambda one: (one.rank, one.queued_at))

    def standing(
        self, connection: Connection, wanted: Sequence[Mapping[str, Any]], but: Sequence[int]
    ) -> list[router.Standing]:
        left_out = set(but)
        return [s for one in wanted for s in self._in_line(one["group_name"], one["line"], left_out)[: one["n"]]]

    def last_owners(self, connection: Connection, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
        return {one: self._owners[one] for one in sorted(set(wanted)) if one in self._owners}

    def _in_line(self, group: str, line: str, but: set[int]) -> list[router.Standing]:
        found = [
            router.Standing(*(row[name] for name in _STANDING))
            for row in self._waits.values()
            if row["group_name"] == group and row["line"] == line and row["ticket_id"] not in but
        ]
        return sorted(found, key=lambda one: (one.rank, one.queued_at, one.ticket_id))

    def save(self, connection: Connection, changes: router.Changes, moved_turns: Mapping[str, Turns]) -> None:
        c = changes
        if not (c.ended or c.opened or c.reweighed or c.waits or c.served or c.loads):
            return
        for row in c.ended:
            known = self._held.get(row["ticket_id"], {}).pop(row["assignment"], None)
            if known is not None:
                self._put({**known, "ended_at": row["ended_at"]})
        for row in c.reweighed:
            known = self._held.get(row["ticket_id"], {}).get(row["assignment"])
            if known is not None:
                known.update(row)
                self._put(known)
        for row in c.opened:
            self._held.setdefault(row["ticket_id"], {})[row["assignment"]] = fresh = {**row, "ended_at": None}
            self._given.setdefault(row["group_name"], []).append((row["assigned_at"], row["agent"]))
            self._put(fresh)
        self._save_waits(c)
        for row in c.owners:
            self._owners[row["requester"], row["group_name"]] = row["agent"]
            self.mirror.put("router.last_owner", (row["requester"], row["group_name"]), row)
        for agent, load in c.loads.items():
            self._loads[agent] = load
            self.mirror.put("router.load", (agent,), {"agent": agent} | msgspec.structs.asdict(load))
        for group, turns in moved_turns.items():
            self._turns[group] = Turns(turns.clock, dict(turns.of))
            written = {"group_name": group, "turns": {"clock": turns.clock, "of": dict(turns.of)}}
            self.mirror.put("router.turn", (group,), written)

    def _save_waits(self, changes: router.Changes) -> None:
        for row in changes.waits:
            known = self._waits.get(row["ticket_id"])
            self._waits[row["ticket_id"]] = kept = row if known is None else {**row, "queued_at": known["queued_at"]}
            self.mirror.put("router.waiting", (row["ticket_id"],), kept)
        for number in changes.served:
            if self._waits.pop(number, None) is not None:
                self.mirror.drop("router.waiting", (number,))

    def _put(self, row: Mapping[str, Any]) -> None:
        self.mirror.put("router.assignment", (row["ticket_id"], row["assignment"]), row)

    def forget(self, ticket_id: int) -> None:
        """A ticket that nothing comes for any more."""
        self._held.pop(ticket_id, None)

    def trim(self, rated: Iterable[str]) -> None:
        """Forget who was given what in groups without a rate."""
        for group in set(self._given) - set(rated):
            del self._given[group]


def _held(row: Mapping[str, Any]) -> router.Held:
    return router.Held(
        row["ticket_id"], row["assignment"], row["node"], row["visit"], row["group_name"], row["agent"], row["base"],
        row["weight"], row["offer"], row["assigned_at"],
    )  # fmt: skip


@dataclass(slots=True)
class SlaTables:
    """States of clocks."""

    mirror: Mirror
    _states: dict[int, SlaState] = field(default_factory=dict)

    def load(self, connection: Connection, ids: Sequence[int]) -> dict[int, SlaState]:
        return {one: self._states[one] for one in ids if one in self._states}

    def save(self, connection: Connection, tickets: Iterable[sla.Saved]) -> None:
        for one in tickets:
            self._states[one.ticket_id] = one.state
            row: dict[str, Any] = {
                "ticket_id": one.ticket_id,
                "version": one.version,
                "next_due_at": one.next_due_at,
                "state": {},
                "kept": short(one.state),
            }
            self.mirror.put("sla.ticket", (one.ticket_id,), row)
            for clock in one.ended:
                key = (one.ticket_id, clock.metric, clock.cycle)
                ended = {"ticket_id": one.ticket_id, "metric": clock.metric, "cycle": clock.cycle, "clock": clock}
                self.mirror.put("sla.ended", key, ended | {"stopped_at": clock.stopped_at})

    def forget(self, ticket_id: int) -> None:
        self._states.pop(ticket_id, None)


@dataclass(slots=True)
class EscalationTables:
    """What is watched, and the stalls of tickets that may still be raised a level."""

    mirror: Mirror
    _states: dict[int, Watched] = field(default_factory=dict)
    _stalls: dict[int, dict[Key, dict[str, Any]]] = field(default_factory=dict)

    def load(self, connection: Connection, ids: Sequence[int]) -> dict[int, Watched]:
        return {one: self._states[one] for one in ids if one in self._states}

    def schedules(self, connection: Connection, playbook: Playbook) -> dict[str, Schedule]:
        """As the playbook has them: what people change about them is not part of a history."""
        return playbook.derived(
            "history-schedules", lambda one: {name: Schedule(spec) for name, spec in one.document.schedules.items()}
        )

    def save(self, connection: Connection, changes: escalation.Changes) -> None:
        for number in changes.gone:
            if self._states.pop(number, None) is not None:
                self.mirror.drop("escalation.ticket", (number,))
        for number, kept in changes.states.items():
            self._states[number] = kept.state
            written = {"ticket_id": number, "state": kept.state, "mover": kept.mover, "next_at": kept.next_at}
            self.mirror.put("escalation.ticket", (number,), written)
        for row in changes.rows:
            self.mirror.put("escalation.escalation", (row["ticket_id"], row["escalation"]), row)
        for row in changes.stalls:
            known = self._stalls.setdefault(row["ticket_id"], {})
            key = tuple(row[name] for name in _STALL)
            if key not in known:  # each stall is noted once
                known[key] = {**row, "level": 0}
                self.mirror.put("escalation.stall", key, known[key])
        for row in changes.levels:
            for key, stall in self._stalls.get(row["ticket_id"], {}).items():
                if all(stall[name] == row[name] for name in ("node", "visit", "due_at")):
                    stall["level"] = max(stall["level"], row["level"])
                    self.mirror.put("escalation.stall", key, stall)

    def forget(self, ticket_id: int) -> None:
        self._states.pop(ticket_id, None)
        self._stalls.pop(ticket_id, None)


class Step(NamedTuple):
    """A planned notification, with the members that planning asks of a waiting row."""

    id: int
    ticket_id: int
    event_kind: str
    event_item: int
    event_version: int
    event_type: str
    rule: str
    playbook: int
    recipient: str
    channel: str
    until: str | None
    due_at: datetime


_ORDER = {"sent": 1, "delivered": 2, "read": 3}
_OVER = frozenset({"sent", "failed", "suppressed", "cancelled", "unknown"})


class NotifierTables:
    """Waiting notifications by ticket, messages that are on their way, and how far each recipient was reached."""

    def __init__(self, mirror: Mirror, world: Tickets) -> None:
        self.mirror, self._world = mirror, world
        self._waiting: dict[int, dict[int, dict[str, Any]]] = {}
        self._about: dict[int, int] = {}
        """Waiting notification -> its ticket."""
        self._reached: dict[int, dict[tuple[str, str], str]] = {}
        self._messages: dict[int, dict[str, Any]] = {}
        self._on_way: dict[int, set[int]] = {}
        """Messages of a ticket that are not over yet."""
        self._windows: dict[str, datetime] = {}
        self._storms: dict[str, tuple[datetime, int, datetime | None]] = {}
        self._lately: dict[str, deque[tuple[str, int | None, datetime]]] = {}

    def plan(self, connection: Connection, changes: notifier.Changes, ready: notifier.Ready) -> set[int]:
        wanted: set[int] = set()
        seen: set[Key] = set()
        for row in changes.notifications:
            key = (row["event_kind"], row["event_item"], row["event_version"], row["recipient"], row["channel"])
            if key in seen:
                continue
            seen.add(key)
            if row["state"] == "planned":
                self._waiting.setdefault(row["ticket_id"], {})[row["id"]] = row
                self._about[row["id"]] = row["ticket_id"]
            if row["message_id"] is not None:
                wanted.add(row["message_id"])
            self.mirror.put("notifier.notification", (row["id"],), {**row, "updated_at": row["created_at"]})
        for turned in changes.turned:
            known = self._take(turned["id"])
            if known is not None:
                if turned["message_id"] is not None:
                    wanted.add(turned["message_id"])
                moved = {**known, **turned, "due_at": turned["due_at"] or known["due_at"]}
                if turned["state"] == "planned":
                    self._waiting.setdefault(known["ticket_id"], {})[known["id"]] = moved
                    self._about[known["id"]] = known["ticket_id"]
                self.mirror.put("notifier.notification", (known["id"],), moved)
        fresh = [message for message in changes.messages if message["id"] in wanted]
        ready(fresh)
        for message in fresh:
            self._kept({**message, "failures": 0, "bundle": None, "updated_at": message["created_at"]})
            if message["state"] == "sending":
                self._note_sent(message, message["sent_at"])
        return {message["id"] for message in fresh}

    def waiting(self, connection: Connection, ids: Sequence[int]) -> dict[int, list[tuple[Waiting, Any]]]:
        found: dict[int, list[tuple[Waiting, Any]]] = {}
        for number in ids:
            rows = self._waiting.get(number)
            if rows:
                steps = [Step(*(row[name] for name in Step._fields)) for row in rows.values()]
                steps.sort(key=lambda one: (one.due_at, one.id))
                found[number] = [
                    (Waiting(s.id, s.event_type, s.rule, s.recipient, s.channel, s.until, s.due_at), s) for s in steps
                ]
        return found

    def reached(self, connection: Connection, ids: Sequence[int]) -> dict[int, dict[tuple[str, str], str]]:
        return {number: dict(self._reached[number]) for number in ids if number in self._reached}

    def event(self, connection: Connection, kind: str, item_id: int, version: int) -> dict[str, Any]:
        return self._world.event(kind, item_id, version)

    def rows(self, connection: Connection, ids: Sequence[int]) -> list[notifier.Row]:
        names = notifier.Row.__struct_fields__
        found = (self._messages.get(one) for one in sorted(ids))
        return [notifier.Row(**{name: row[name] for name in names}) for row in found if row is not None]

    def locked(self, connection: Connection, ids: Sequence[int]) -> list[tuple[int, int, str, int]]:
        found = (self._messages.get(one) for one in sorted(ids))
        return [(row["id"], row["version"], row["state"], row["epoch"]) for row in found if row is not None]

    def _note_sent(self, row: Mapping[str, Any], at: datetime) -> None:
        lately = self._lately.setdefault(row["recipient"], deque(maxlen=200))
        lately.append((row["channel"], row["ticket_id"], at))

    def sending(self, connection: Connection, marked: Sequence[dict[str, Any]]) -> None:
        for one in marked:
            row = self._messages[one["id"]]
            self._note_sent(row, one["at"])
            row.update(
                state="sending", epoch=one["epoch"], provider=one["provider"], sent_at=one["at"], updated_at=one["at"]
            )

    def accepted(self, connection: Connection, one: notifier.Accepted) -> list[tuple[int, int]]:
        found = []
        for number in one.ids:
            row = self._messages.get(number)
            if row is not None and row["state"] == "sending" and row["epoch"] == one.epoch:
                version = row["version"] + 1
                found.append((number, version))
                self._kept(
                    row
                    | {"version": version, "state": "sent", "reason": None, "gather": None, "updated_at": one.at}
                    | {
                        "provider_id": one.provider_id or row["provider_id"],
                        "attempts": [*row["attempts"], one.attempt],
                    }
                )
        return found

    def record(self, connection: Connection, recorded: Sequence[notifier.Written]) -> None:
        for one in recorded:
            row = self._messages[one.id]
            self._kept(
                row
                | {name: getattr(one, name) for name in ("version", "state", "reason", "failures", "provider")}
                | {
                    "provider_id": one.provider_id or row["provider_id"],
                    "attempts": row["attempts"] if one.attempt is None else [*row["attempts"], one.attempt],
                    "gather": one.gather or row["gather"],
                    "bundle": one.bundle or row["bundle"],
                    "updated_at": one.at,
                }
            )

    def tickets(self, connection: Connection, ids: Sequence[int]) -> dict[int, Ticket]:
        return {one: ticket for one in ids if (ticket := self._world.ticket(one)) is not None}

    def keep_links(self, connection: Connection, linked: Sequence[dict[str, Any]]) -> None:
        for row in linked:
            self.mirror.put("access.action_link", (row["message_id"],), row)

    def unsent(self, number: int) -> None:
        """A message that nobody is to send."""
        row = self._messages.pop(number, None)
        if row is not None:
            self._on_way[row["ticket_id"]].discard(number)

    def early(self, connection: Connection, provider: str, provider_ids: Sequence[str]) -> Sequence[Any]:
        return ()

    def dead(self, connection: Connection, addresses: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
        return {}

    def health(self, connection: Connection) -> dict[str, State]:
        return {}

    def windows(
        self, connection: Connection, wanted: Iterable[Window], now: datetime
    ) -> Mapping[str, tuple[datetime, bool]]:
        found: dict[str, tuple[datetime, bool]] = {}
        for one in wanted:
            closes_at = self._windows.get(one.key)
            fresh = closes_at is None or closes_at <= now
            if one.key not in found:
                self._windows[one.key] = one.closes_at if closes_at is None or fresh else closes_at
                found[one.key] = (self._windows[one.key], fresh)
        return found

    def storms(
        self, connection: Connection, storm: Storm, counted: Mapping[str, int], now: datetime
    ) -> Mapping[str, datetime]:
        for source, count in counted.items():
            began_at, total, until = self._storms.get(source, (now, 0, None))
            if began_at + storm.per <= now:
                began_at, total = now, 0
            until = now + storm.per * 2 if total + count > storm.limit else until
            self._storms[source] = (began_at, total + count, until)
        return {source: until for source in counted if (until := self._storms[source][2]) is not None and until > now}

    def gathered(self, connection: Connection, key: str, carrier: int) -> list[notifier.Row]:
        ids = [
            row["id"]
            for row in self._messages.values()
            if row["gather"] == key and row["state"] == "held" and row["bundle"] is None and row["id"] != carrier
        ]
        return self.rows(connection, ids)

    def unsent_about(self, connection: Connection, ids: Sequence[int], types: Sequence[str]) -> list[notifier.Row]:
        on_way = [self._messages[number] for one in ids for number in self._on_way.get(one, ())]
        carriers = {row["bundle"] for row in self._messages.values()} if on_way else set()
        found = [
            row["id"]
            for row in on_way
            if row["state"] in ("planned", "held")
            and row["event_type"] in types
            and row["bundle"] is None
            and row["id"] not in carriers
        ]
        return self.rows(connection, found)

    def carried(self, connection: Connection, carriers: Sequence[int]) -> list[notifier.Row]:
        wanted = set(carriers)
        return (
            self.rows(connection, [row["id"] for row in self._messages.values() if row["bundle"] in wanted])
            if wanted
            else []
        )

    def sent_lately(
        self, connection: Connection, recipients: Sequence[str], after: datetime, limit: int
    ) -> dict[str, list[tuple[str, int | None, datetime]]]:
        return {name: [one for one in self._lately.get(name, ()) if one[2] > after] for name in recipients}

    def is_busy(self, ticket_id: int) -> bool:
        """Whether a message about the ticket is still to be sent."""
        return bool(self._on_way.get(ticket_id)) or bool(self._waiting.get(ticket_id))

    def forget(self, ticket_id: int) -> None:
        """A ticket that nothing comes for any more."""
        self._on_way.pop(ticket_id, None)
        self._reached.pop(ticket_id, None)
        for number in self._waiting.pop(ticket_id, ()):
            del self._about[number]

    def _take(self, number: int) -> dict[str, Any] | None:
        ticket_id = self._about.pop(number, None)
        if ticket_id is None:
            return None
        rows = self._waiting[ticket_id]
        row = rows.pop(number)
        if not rows:
            del self._waiting[ticket_id]
        return row

    def _kept(self, row: dict[str, Any]) -> None:
        """A message's row; one that is over is known by how far it reached, and no more."""
        states = self._reached.setdefault(row["ticket_id"], {})
        key = (row["rule"], row["recipient"])
        if _ORDER.get(row["state"], 0) >= _ORDER.get(states.get(key, ""), 0):
            states[key] = row["state"]
        on_way = self._on_way.setdefault(row["ticket_id"], set())
        if row["state"] in _OVER:
            self._messages.pop(row["id"], None)
            on_way.discard(row["id"])
        else:
            self._messages[row["id"]] = row
            on_way.add(row["id"])
        self.mirror.put("notifier.message", (row["id"],), {**row, "event": {}})  # its event stands in the log


class Tickets(Protocol):
    """Where tickets and their events are."""

    def ticket(self, ticket_id: int) -> Ticket | None:
        """The ticket as it is now."""

    def event(self, kind: str, item_id: int, version: int) -> dict[str, Any]:
        """The data of one of its events, as JSON has it."""
