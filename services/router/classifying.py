"""What the tickets of a batch are: openings read, rules run, models and outside systems asked, holds counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from services.router import answer_store as store
from services.router import holding, metrics
from services.router.answer_store import Answer, Deferred
from services.router.asking.fetcher import Question
from services.router.cases import Case
from services.router.domain.answers import Awaiting, Enriched, Predict
from services.router.domain.classify import Classified
from services.router.outside import Asker, heard
from shared.contracts import events as e
from shared.contracts.envelope import Recorded
from shared.ledger.claim import events_after
from shared.ledger.unit import Unit
from shared.playbook.enrichment import address
from shared.ticket.state import Ticket

log = structlog.get_logger()


@dataclass(slots=True)
class _Todo:
    """A ticket that is not classified yet."""

    case: Case
    opened: e.TicketOpened
    events: Sequence[Recorded]
    put_off: Deferred | None
    wanted: tuple[str, str] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Of a ticket that a rule holds back; nobody else asks for them again."""
    said: Classified | None = None


class Classifying:
    """Classifies the tickets of batches. Threads share one."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    def run(self, unit: Unit, cases: Sequence[Case], predict: Predict | None) -> None:
        """Append what was found to each case that is not classified yet, or put it off."""
        todo = self._todo(unit, cases)
        if not todo:
            return
        answers: dict[tuple[str, str], Answer] = {}
        pending = todo
        while pending:
            for one in pending:
                one.said = self._decide(one, unit.now, predict, answers)
            pending = self._answered(unit, [one for one in pending if one.said is None], answers)
        waiting = [one for one in todo if one.said is None]
        if waiting:
            self._put_off(unit, waiting)
        found = [(one.case, said, one.facts, one.events) for one in todo if (said := one.said) is not None]
        over = [one.case.work.id for one in todo if one.put_off is not None and one.said is not None]
        if over:
            store.forget_deferred(unit.connection, over)
        acting = holding.release(unit, found)
        for case, said, *_ in found:
            if case.work.id in acting:
                _classified(case, said, unit.now)

    def _todo(self, unit: Unit, cases: Sequence[Case]) -> list[_Todo]:
        new = [case for case in cases if not case.ticket.classified and case.ticket.is_open]
        if not new:
            return []
        again = [case.work.id for case in new if case.work.seen > 0]
        streams: dict[int, Sequence[Recorded]] = {case.work.id: case.work.events for case in new if case.work.seen == 0}
        put_off: Mapping[int, Deferred] = {}
        if again:
            streams |= events_after(unit.connection, "ticket", dict.fromkeys(again, 0))
            put_off = store.deferred(unit.connection, again)
        return [
            _Todo(case, opened, stream, put_off.get(case.work.id))
            for case in new
            if (stream := streams.get(case.work.id)) and isinstance(opened := stream[0].data, e.TicketOpened)
        ]

    def _decide(
        self, one: _Todo, now: datetime, predict: Predict | None, answers: Mapping[tuple[str, str], Answer]
    ) -> Classified | None:
        classifier, ticket = one.case.rules.classifier, one.case.ticket
        known = opening_facts(one.opened, ticket, with_text=classifier.with_text)
        classifier.timed(known, ticket.opened_at)
        one.wanted = None

        def enrich(name: str, facts: Mapping[str, Any]) -> Enriched | None:
            config = classifier.routing.enrichments[name]
            url = address(config.url, facts)
            answer = None if url is None else answers.get((name, url))
            found = heard(self._asker, name, config, url, answer, one.put_off, now)
            if found is None and url is not None:
                one.wanted = (name, url)
            return found

        said = classifier.begin(known, predict, enrich)
        if isinstance(said, Awaiting):
            return None
        if said.hold is not None:
            one.facts = known
        return said

    def _answered(self, unit: Unit, waiting: Sequence[_Todo], answers: dict[tuple[str, str], Answer]) -> list[_Todo]:
        """Read what somebody else asked before; return the tickets that have an answer now."""
        wanted = {one.wanted for one in waiting if one.wanted is not None} - set(answers)
        if not wanted:
            return []
        found = store.answers(unit.connection, wanted)
        fresh = {place: answer for place, answer in found.items() if place not in answers}
        answers |= fresh
        return [one for one in waiting if one.wanted in fresh]

    def _put_off(self, unit: Unit, waiting: Sequence[_Todo]) -> None:
        """Look again when the answer is there, at the latest when the ticket's budget is used up."""
        rows, questions = [], []
        for one in waiting:
            assert one.wanted is not None
            case, (name, url) = one.case, one.wanted
            until = one.put_off.until if one.put_off is not None else unit.now + case.rules.budget
            if one.put_off is None:
                rows.append({"ticket_id": case.work.id, "asked_at": unit.now, "until": until})
            case.wake_at(until)
            questions.append(Question(name, url, case.work.id, case.rules.classifier.routing.enrichments[name]))
        store.defer(unit.connection, rows)
        unit.after_commit.append(lambda: self._asker.ask(questions))


def _classified(case: Case, found: Classified, now: datetime) -> None:
    ticket = case.ticket
    case.classified = found
    if found.stopped is not None:
        metrics.RULES_STOPPED.inc()
        log.warning("rules_too_costly", ticket=case.work.id, rule=found.stopped)
    data = e.TicketClassified(
        labels={name: e.Label(one.value, str(one.source), one.rule) for name, one in found.labels.items()},
        priority=found.priority.value,
        group=found.group.value,
        kind=found.kind or ticket.kind or "general",
        lane=found.lane if found.lane != "normal" or ticket.lane != "bulk" else "bulk",
        skills=dict(found.skills),
        preferred=dict(found.preferred),
        weight=found.weight / 100 if found.weight_given else None,
        effort_seconds=found.effort_seconds,
    )
    case.append(data, now, found.as_dict())


def opening_facts(opened: e.TicketOpened, ticket: Ticket, *, with_text: bool) -> dict[str, Any]:
    """The facts of an opening with what people have set since: those of `ticketfacts.facts_of` for what was posted.

    Read off the event, because the shape in which tickets are posted would be built for each only to be taken apart again.
    """
    asked = opened.requester
    facts: dict[str, Any] = {
        "subject": opened.subject,
        "body": opened.body,
        "source": opened.source,
        "requester.id": asked.id,
        "requester.name": asked.name,
        "requester.email": asked.email,
        "requester.phone": asked.phone,
        "requester.tier": asked.tier,
        "requester.automated": asked.automated,
        "external_id": opened.external_id,
        "dedup_key": opened.dedup_key,
        "kind": opened.kind,
        "priority": ticket.priority,
        "group": ticket.group,
    }
    if asked.email is not None:
        facts["requester.domain"] = asked.email.rpartition("@")[2].lower()
    for name, label in ticket.labels.items():
        facts["labels." + name] = label.value
    for name, value in ticket.fields.items():
        facts["fields." + name] = value
    if with_text:
        facts["text"] = f"{opened.subject}\n{opened.body}" if opened.body else opened.subject
    return facts
