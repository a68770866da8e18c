"""Taking tickets in: from a validated message to a committed ticket. One transaction for any number of tickets.

Every door calls `Intake.open_many`; what came through HTTP, a queue or a file is treated alike.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import msgspec
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.gateway import repeats
from shared.contracts import events as e
from shared.contracts import intake as wire
from shared.contracts.envelope import Actor, New
from shared.contracts.strict import Fault, Unacceptable
from shared.ledger import business
from shared.ledger.process import Deps
from shared.ledger.tickets import Opening, digest, lock, open_tickets
from shared.ledger.unit import Unit, dumps
from shared.playbook import flows
from shared.playbook.intakecheck import check_fields
from shared.playbook.lanes import lane_rules
from shared.playbook.model import Playbook
from shared.playbook.store import NothingPublished
from shared.playbook.ticketfacts import facts_of
from shared.runtime import metrics
from shared.runtime.crash import crash_point
from shared.runtime.database import is_passing
from shared.ticket.flow import engine as flow_engine
from shared.ticket.state import Ticket

log = structlog.get_logger()

WAIT_SECONDS = 0.3
"""Between two tries while the database is away."""
_decoder = msgspec.json.Decoder(wire.TicketIn)
GATEWAY = Actor(kind="service", id="gateway")


@dataclass(frozen=True, slots=True)
class Submission:
    """One ticket on its way in, with who sends it."""

    ticket: wire.TicketIn
    actor: Actor
    correlation: str = ""
    idempotency: tuple[int, str] | None = None
    """(principal's key id, Idempotency-Key)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a submission: `ticket` and whether it is new, or `fault`, or `conflict` with another body."""

    ticket: Ticket | None = None
    new: bool = False
    conflict: bool = False
    fault: Fault | None = None
    code: str = "accepted"
    missing: tuple[str, ...] = ()
    """Material without which a ticket of this kind is not opened."""


class Intake:
    """Opens tickets. Threads may share one."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def lane(self, ticket: wire.TicketIn) -> str:
        """The first lane by the playbook that is known here already; `normal` while none is."""
        playbook: Playbook | None = self._deps.playbooks.known
        return "normal" if playbook is None else lane_rules(playbook).at_intake(_facts(ticket))

    def is_urgent(self, body: bytes) -> bool:
        """Whether a posted body, not checked yet, is an urgent ticket's."""
        try:
            return self.lane(_decoder.decode(body)) == "urgent"
        except (msgspec.DecodeError, ValueError, RecursionError):
            return False

    def open_many(self, submissions: Sequence[Submission]) -> list[Answer]:
        """Open all in one transaction and commit; answers in order. Raises the database's error when nothing was written."""
        with self._deps.engine.connect() as connection:
            unit, answers = self.open_on(connection, submissions)
            crash_point("intake.before_commit")
            connection.commit()
        unit.committed()
        crash_point("intake.committed")
        self._deps.bells.ring(unit.woken)
        self._count(unit, submissions, answers)
        return answers

    def open_patiently(self, submissions: Sequence[Submission], stop: threading.Event) -> list[Answer] | None:
        """The same for what can wait: until the database is there, and one by one down to the culprit where a batch fails.

        None when `stop` was set before the answers were known; then they may be there or not.
        """
        while not stop.is_set():
            try:
                return self._open_or_split(submissions)
            except Exception as error:
                if not (is_passing(error) or isinstance(error, PoolTimeout | NothingPublished)):
                    raise
                log.warning("intake_waits", count=len(submissions), error=f"{type(error).__name__}: {error}"[:200])
                stop.wait(WAIT_SECONDS)
        return None

    def _open_or_split(self, submissions: Sequence[Submission]) -> list[Answer]:
        try:
            return self.open_many(submissions)
        except Exception as error:
            if is_passing(error) or isinstance(error, PoolTimeout | NothingPublished):
                raise
            if len(submissions) == 1:
                log.error("ticket_cannot_be_opened", exc_info=error)
                return [Answer(fault=Fault("", "it cannot be taken as it is"), code="invalid")]
            half = len(submissions) // 2
            return self._open_or_split(submissions[:half]) + self._open_or_split(submissions[half:])

    def open_on(self, connection: Connection, submissions: Sequence[Submission]) -> tuple[Unit, list[Answer]]:
        """The same inside the caller's transaction; the caller commits and rings."""
        playbook: Playbook = self._deps.playbooks.current(connection)
        unit = Unit(connection, business.now(connection), GATEWAY, playbook.number, given=True)
        answers: list[Answer | None] = [self._check(one, unit, playbook) for one in submissions]
        self._repeated_keys(connection, submissions, answers)
        twice = _same_keys(submissions, answers)
        self._repeats(unit, submissions, answers, playbook, set(twice))
        later = self._later_repeats(submissions, answers, set(twice))
        self._open(unit, submissions, answers, playbook, later | set(twice))
        if later:
            self._repeats(unit, submissions, answers, playbook, set(twice))
            self._open(unit, submissions, answers, playbook, set(twice))  # whose first one was refused
        for index, first in twice.items():
            answers[index] = _repeated(answers[first], submissions[first], submissions[index])
        done = [answer for answer in answers if answer is not None]
        self._remember_keys(connection, submissions, done)
        unit.flush()
        return unit, done

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _check(self, one: Submission, unit: Unit, playbook: Playbook) -> Answer | None:
        try:
            wire.check(one.ticket, unit.now)
            check_fields(playbook, one.ticket)
        except Unacceptable as error:
            return Answer(fault=error.fault, code="invalid")
        program = flows.programs(playbook).get(one.ticket.kind or "")
        missing = () if program is None else flow_engine.opening(program, facts_of(_facts(one.ticket)))
        if missing:
            reason = f"a ticket of kind {one.ticket.kind!r} is not opened without {', '.join(missing)}"
            return Answer(fault=Fault(f"/fields/{missing[0]}", reason), code="invalid", missing=missing)
        return None

    def _open(
        self,
        unit: Unit,
        submissions: Sequence[Submission],
        answers: list[Answer | None],
        playbook: Playbook,
        but: set[int],
    ) -> None:
        todo = [index for index, answer in enumerate(answers) if answer is None and index not in but]
        earlier = repeats.earlier(unit.connection, playbook, [submissions[index].ticket for index in todo], unit.now)
        openings = [
            self._opening(submissions[index], unit, playbook, fields=fields)
            for index, fields in zip(todo, earlier, strict=True)
        ]
        for index, opened in zip(todo, open_tickets(unit, openings, self._deps.ids), strict=True):
            answers[index] = Answer(opened.ticket, opened.new, opened.conflict, code=_code(opened.new, opened.conflict))

    def _opening(
        self, one: Submission, unit: Unit, playbook: Playbook, *then: New, fields: Mapping[str, Any] | None = None
    ) -> Opening:
        """`fields`: what is known of the ticket beyond what was sent."""
        ticket = one.ticket
        lane = lane_rules(playbook).at_intake(_facts(ticket))
        at = ticket.opened_at.astimezone(UTC) if ticket.opened_at else None
        opened = wire.opened(ticket, lane)
        if fields:
            opened = msgspec.structs.replace(opened, fields={**opened.fields, **fields})
        return Opening((New(opened, happened_at=at), *then), one.actor, body_digest(ticket), one.correlation)

    def _later_repeats(
        self, submissions: Sequence[Submission], answers: Sequence[Answer | None], but: set[int]
    ) -> set[int]:
        """Of several first alarms of one kind in one submission, those after the first: they repeat it."""
        first: dict[str, int] = {}
        for index, one in enumerate(submissions):
            if answers[index] is None and one.ticket.dedup_key is not None and index not in but:
                first.setdefault(one.ticket.dedup_key, index)
        return {
            index
            for index, one in enumerate(submissions)
            if one.ticket.dedup_key in first
            and answers[index] is None
            and first[one.ticket.dedup_key] != index
            and index not in but
        }

    def _repeats(
        self,
        unit: Unit,
        submissions: Sequence[Submission],
        answers: list[Answer | None],
        playbook: Playbook,
        but: set[int],
    ) -> None:
        """Alarms whose `dedup_key` an open ticket has already: noted on that one, and over at once, merged into it.

        The repeat is a ticket of its own all the same, so that sending it again (same source and external id) changes nothing.
        Nobody is woken for it: no timers, no messages, no load.
        """
        keyed: dict[str, list[int]] = {}
        for index, one in enumerate(submissions):
            if answers[index] is None and one.ticket.dedup_key is not None and index not in but:
                keyed.setdefault(one.ticket.dedup_key, []).append(index)
        if not keyed:
            return
        targets = self._open_with(unit.connection, sorted(keyed))
        pairs = [(index, key) for key in sorted(targets) for index in keyed[key]]
        openings = [
            self._opening(submissions[index], unit, playbook, New(e.TicketMerged(into=targets[key].id)))
            for index, key in pairs
        ]
        for (index, key), opened in zip(pairs, open_tickets(unit, openings, self._deps.ids, quiet=True), strict=True):
            one, target = submissions[index], targets[key]
            answers[index] = Answer(
                opened.ticket, code="conflict" if opened.conflict else "repeat", conflict=opened.conflict
            )
            if opened.new:
                noted = e.TicketNoted(text=one.ticket.subject, repeat=msgspec.to_builtins(one.ticket))
                targets[key] = unit.append_to_ticket(
                    target, (New(noted),), actor=one.actor, correlation=one.correlation
                )
                if not target.classified:  # held, perhaps: one more may be what a hold rule waits for
                    unit.wake("router", "ticket", target.id, target.lane)

    def _open_with(self, connection: Connection, keys: list[str]) -> dict[str, Ticket]:
        """The oldest open ticket of each `dedup_key`, locked.

        One intake at a time for each key, in key order: two first alarms of one kind must not both open a ticket.
        """
        connection.exec_driver_sql(
            "select pg_advisory_xact_lock(20834, hashtext(k)) from (select unnest(%s::text[]) k order by 1) keys",
            (keys,),
        )
        rows = connection.exec_driver_sql(
            """select dedup_key, min(id) as id from ledger.ticket
            where dedup_key = any(%s) and status in ('new', 'assigned', 'in_progress', 'pending') group by 1""",
            (keys,),
        ).all()
        tickets = lock(connection, (row.id for row in rows))
        return {row.dedup_key: tickets[row.id] for row in rows if tickets[row.id].is_open}

    def _repeated_keys(
        self, connection: Connection, submissions: Sequence[Submission], answers: list[Answer | None]
    ) -> None:
        wanted: dict[tuple[int, str], list[int]] = {}
        for index, one in enumerate(submissions):
            if one.idempotency and answers[index] is None:
                wanted.setdefault(one.idempotency, []).append(index)
        if not wanted:
            return
        # two requests with one key at the same time: the second waits here, and then finds what the first did
        connection.exec_driver_sql(
            "select pg_advisory_xact_lock(20835, hashtext(k)) from (select unnest(%s::text[]) k order by 1) keys",
            ([f"{principal}:{key}" for principal, key in sorted(wanted)],),
        )
        rows = connection.exec_driver_sql(
            """select i.principal, i.key, i.digest, i.ticket
            from json_to_recordset(%s) as x (principal integer, key text)
            join gateway.idempotency i on i.principal = x.principal and i.key = x.key""",
            (dumps([{"principal": principal, "key": key} for principal, key in wanted]),),
        ).all()
        states = {t.id: t for t in lock(connection, [row.ticket for row in rows]).values()} if rows else {}
        for row in rows:
            for index in wanted[row.principal, row.key]:
                same = row.digest == body_digest(submissions[index].ticket)
                answers[index] = Answer(states[row.ticket], conflict=not same, code=_code(False, not same))

    def _remember_keys(
        self, connection: Connection, submissions: Sequence[Submission], answers: Sequence[Answer]
    ) -> None:
        rows: list[dict[str, Any]] = [
            {
                "principal": one.idempotency[0],
                "key": one.idempotency[1],
                "digest": body_digest(one.ticket),
                "ticket": a.ticket.id,
            }
            for one, a in zip(submissions, answers, strict=True)
            if one.idempotency and a.ticket is not None and not a.conflict
        ]
        if rows:
            connection.exec_driver_sql(
                """insert into gateway.idempotency (principal, key, digest, ticket)
                select distinct on (principal, key) principal, key, digest, ticket
                from json_to_recordset(%s) as x (principal integer, key text, digest bigint, ticket bigint)
                order by principal, key on conflict do nothing""",
                (dumps(rows),),
            )

    def _count(self, unit: Unit, submissions: Sequence[Submission], answers: Sequence[Answer]) -> None:
        declared = self._deps.playbooks.get(unit.connection, unit.playbook).document.sources
        for one, answer in zip(submissions, answers, strict=True):
            source = one.ticket.source if one.ticket.source in declared else "other"
            metrics.TICKETS.labels(source, answer.code).inc()


def body_digest(ticket: wire.TicketIn) -> int:
    """The digest by which a repeat is told from a conflict; members that are left out equal their defaults."""
    return digest(msgspec.json.encode(ticket, order="deterministic"))


def _same_keys(submissions: Sequence[Submission], answers: Sequence[Answer | None]) -> dict[int, int]:
    """Submissions of one batch that carry the Idempotency-Key of an earlier one, and which one that is."""
    first: dict[tuple[int, str], int] = {}
    keyed = [
        (index, one.idempotency) for index, one in enumerate(submissions) if one.idempotency and answers[index] is None
    ]
    return {index: first[key] for index, key in keyed if first.setdefault(key, index) != index}


def _repeated(first: Answer | None, submission: Submission, again: Submission) -> Answer:
    assert first is not None
    if first.ticket is None:
        return first
    conflict = first.conflict or body_digest(submission.ticket) != body_digest(again.ticket)
    return Answer(first.ticket, conflict=conflict, code=_code(False, conflict))


def _facts(ticket: wire.TicketIn) -> dict[str, Any]:
    facts: dict[str, Any] = msgspec.to_builtins(ticket)
    return facts


def _code(new: bool, conflict: bool) -> str:
    return "conflict" if conflict else "accepted" if new else "repeat"
