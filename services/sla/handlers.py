"""One transaction over a batch of tickets: load, take the new facts, decide, keep."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from services.sla import metrics, store
from services.sla.domain.compiling import compile_rules
from services.sla.domain.decide import Decision, decide
from services.sla.domain.terms import Library, Rules
from services.sla.domain.ticket import SlaState, versions_of
from services.sla.factmaking import facts_of
from shared.contracts import events as e
from shared.contracts.envelope import New
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

    def __init__(self, deps: Deps, tables: store.Tables = store) -> None:
        self._deps, self._tables = deps, tables

    def handle(self, unit: Unit, batch: Sequence[Work]) -> list[Result]:
        """Decide each ticket's clocks as of now; a ticket that was not classified yet waits for that."""
        states = self._tables.load(unit.connection, [work.id for work in batch])
        library = self._library(unit, batch, states)
        results: list[Result] = []
        kept: list[store.Saved] = []
        for work in batch:
            result, saved = self._one(unit, work, states.get(work.id), library)
            results.append(result)
            if saved is not None:
                kept.append(saved)
        self._tables.save(unit.connection, kept)
        return results

    def _one(
        self, unit: Unit, work: Work, state: SlaState | None, library: Library
    ) -> tuple[Result, store.Saved | None]:
        facts, desk = facts_of(work.events, None if state is None else state.desk)
        if desk is None:
            return Result(work), None
        decision = decide(state, facts, unit.now, library)
        events = tuple(New(data, _reason(decision, data), at) for at, data in decision.events)
        for _, data in decision.events:
            if isinstance(data, e.SlaBreached):
                counter = metrics.BREACHES.labels(metrics.family(data.metric), data.priority or "none")
                unit.after_commit.append(counter.inc)
        result = Result(work, events, decision.next_due_at)
        kept = decision.state if decision.state.desk == desk else replace(decision.state, desk=desk)
        if kept is state:
            return result, None
        ended = tuple(clock for clock in decision.clocks if clock.stopped_at is not None)
        version = work.version + len(events)
        return result, store.Saved(work.id, version, decision.next_due_at, kept, ended)

    def _library(self, unit: Unit, batch: Sequence[Work], states: dict[int, SlaState]) -> Library:
        numbers = {unit.playbook, *(work.ticket.playbook for work in batch)}
        numbers |= {number for one in states.values() for number in versions_of(one)}
        playbooks = self._deps.playbooks
        versions = {number: rules_of(playbooks.get(unit.connection, number)) for number in numbers if number}
        return Library(unit.playbook, versions)


def _reason(decision: Decision, data: e.Data) -> dict[str, object] | None:
    if isinstance(data, e.SlaStarted) and decision.choice is not None:
        winner = decision.choice.policy
        return {
            "policy": None if winner is None else winner.name,
            "considered": [{"policy": name, "matched": matched} for name, matched in decision.choice.considered],
            "why": decision.reason.value,
        }
    return {"why": decision.reason.value}
