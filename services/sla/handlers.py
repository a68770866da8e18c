"""One transaction over a batch of tickets: load, take the new facts, decide, keep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from itertools import chain

from msgspec.structs import replace
from sqlalchemy import Connection

from services.sla import metrics, store
from services.sla.domain.compiling import compile_rules
from services.sla.domain.decide import Decision, decide
from services.sla.domain.moving import Undone, take_back
from services.sla.domain.terms import Library, Rules
from services.sla.domain.ticket import SlaState, versions_of
from services.sla.factmaking import facts_of, standing
from services.sla.forecast.live import Forecaster, Looked
from shared.contracts import events as e
from shared.contracts.envelope import New, Recorded
from shared.ledger.claim import events_after
from shared.ledger.process import Deps
from shared.ledger.unit import Result, Unit, Work
from shared.playbook.model import Playbook


def rules_of(playbook: Playbook) -> Rules:
    """The compiled policies of a version, made once in each process."""
    return playbook.derived("sla", _compile)


def _compile(playbook: Playbook) -> Rules:
    matchers = [playbook.condition(policy.when) if policy.when else None for policy in playbook.document.sla]
    return compile_rules(playbook.number, playbook.document.sla, playbook.calendars, matchers)


class KeepClocks:
    """The handler of tickets."""

    service = "sla"
    kind = "ticket"

    def __init__(self, deps: Deps, tables: store.Tables = store, forecaster: Forecaster | None = None) -> None:
        self._deps, self._tables, self._forecaster = deps, tables, forecaster

    def handle(self, unit: Unit, batch: Sequence[Work]) -> list[Result]:
        """Decide each ticket's clocks as of now; a ticket that was not classified yet waits for that."""
        states = self._tables.load(unit.connection, [work.id for work in batch if work.seen > 0])
        moved = [(work.id, one) for work in batch for one in work.events if one.type == e.TicketRepinned.type]
        logs = _logs(unit, [number for number, one in moved if _takes_back(one)])
        library = self._library(unit, batch, states, [one for _, one in moved], logs)
        results: list[Result] = []
        kept: list[store.Saved] = []
        present: list[tuple[int, SlaState]] = []
        for work in batch:
            result, saved = self._one(unit, work, states.get(work.id), library, logs.get(work.id))
            results.append(result)
            if saved is not None:
                kept.append(saved)
            state = states.get(work.id) if saved is None else saved.state
            if state is not None:
                present.append((work.id, state))
        if self._forecaster is not None:
            looked = self._forecaster.look(unit.connection, present, library, unit.now)
            if looked.events or looked.next_at:  # else no model is published, or nothing runs
                results = [_with_forecast(result, looked) for result in results]
        self._tables.save(unit.connection, kept)
        _count(unit, results)
        return results

    def _one(
        self, unit: Unit, work: Work, state: SlaState | None, library: Library, log: list[Recorded] | None
    ) -> tuple[Result, store.Saved | None]:
        facts, desk = facts_of(work.events, None if state is None else state.desk, work.ticket)
        if desk is None:
            return Result(work), None
        lifted: datetime | None = None
        undone = None if state is None or log is None else _undone(state, work, log, unit.now, library)
        if undone is None:
            decision = decide(state, facts, unit.now, library)
        else:
            decision, lifted = undone.decision, undone.lifted
        events = tuple(New(data, _reason(decision, data), at) for at, data in decision.events)
        result = Result(work, events, decision.next_due_at)
        kept = decision.state if decision.state.desk == desk else replace(decision.state, desk=desk)
        if kept is state:
            return result, None
        ended = tuple(clock for clock in decision.clocks if clock.stopped_at is not None)
        version = work.version + len(events)
        return result, store.Saved(work.id, version, decision.next_due_at, kept, ended, lifted, fresh=state is None)

    def _library(
        self,
        unit: Unit,
        batch: Sequence[Work],
        states: dict[int, SlaState],
        moved: Sequence[Recorded],
        logs: dict[int, list[Recorded]],
    ) -> Library:
        numbers = {unit.playbook, *[work.ticket.playbook for work in batch]}
        numbers |= {number for one in states.values() for number in versions_of(one)}
        numbers |= {
            number
            for one in chain(moved, *logs.values())
            if isinstance(one.data, e.TicketRepinned)
            for number in (one.data.version, one.data.from_version)
        }
        return library_of(self._deps, unit.connection, numbers, unit.playbook)


def library_of(deps: Deps, connection: Connection, numbers: Iterable[int], current: int) -> Library:
    """The compiled policies of these versions."""
    versions = {number: rules_of(deps.playbooks.get(connection, number)) for number in numbers if number}
    return Library(current, versions)


def _logs(unit: Unit, ids: Sequence[int]) -> dict[int, list[Recorded]]:
    """The whole log of each ticket of which a move to another version is taken back."""
    return events_after(unit.connection, "ticket", dict.fromkeys(ids, 0)) if ids else {}


def _count(unit: Unit, results: Sequence[Result]) -> None:
    """Count breaches, once they are committed."""
    counts = Counter(
        (metrics.family(new.data.metric), new.data.priority or "none")
        for result in results
        for new in result.events
        if isinstance(new.data, e.SlaBreached)
    )
    for labels, count in counts.items():
        unit.after_commit.append(partial(metrics.BREACHES.labels(*labels).inc, count))


def _takes_back(event: Recorded) -> bool:
    return isinstance(event.data, e.TicketRepinned) and event.data.undoes is not None


def _undone(state: SlaState, work: Work, log: list[Recorded], now: datetime, library: Library) -> Undone | None:
    """The clocks without the move that the batch takes back; None when the log holds no such move."""
    undo = next(one for one in work.events if _takes_back(one))
    assert isinstance(undo.data, e.TicketRepinned)
    moves = [
        one
        for one in log
        if isinstance(one.data, e.TicketRepinned)
        and one.data.version == undo.data.undoes
        and one.version < undo.version
    ]
    if not moves:
        return None
    facts, _ = facts_of(standing(log), None)
    return take_back(state, facts, moves[-1].happened_at, undo.happened_at, now, library)


def _reason(decision: Decision, data: e.Data) -> dict[str, object] | None:
    if isinstance(data, e.SlaStarted) and decision.choice is not None:
        winner = decision.choice.policy
        return {
            "policy": None if winner is None else winner.name,
            "considered": [{"policy": name, "matched": matched} for name, matched in decision.choice.considered],
            "why": decision.reason.value,
        }
    return {"why": decision.reason.value}


def _with_forecast(result: Result, looked: Looked) -> Result:
    """The result with what the forecast tells, to be seen again when it wants to look again."""
    number = result.work.id
    dues = [at for at in (result.due_at, looked.next_at.get(number)) if at is not None]
    return Result(result.work, (*result.events, *looked.events.get(number, ())), min(dues, default=None))
