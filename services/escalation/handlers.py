"""One transaction over a batch of tickets: load what is watched, decide (pure), keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from services.escalation import metrics, store
from services.escalation.domain.chain.view import DirectoryView
from services.escalation.domain.oncall.schedule import Schedule
from services.escalation.watching import WatchRule, decide
from shared.contracts import events as e
from shared.ledger.process import Deps
from shared.ledger.unit import Result, Unit, Work
from shared.playbook.model import Playbook


@dataclass(frozen=True, slots=True)
class Compiled:
    """Watch rules and schedules of a version."""

    rules: tuple[WatchRule, ...]
    schedules: dict[str, Schedule]
    priorities: tuple[str, ...]


def compiled(playbook: Playbook) -> Compiled:
    """The version, compiled once in each process."""
    return playbook.derived("escalation", _compile)


def _compile(playbook: Playbook) -> Compiled:
    chains = {chain.name: chain for chain in playbook.document.chains}
    rules = tuple(
        WatchRule(
            one.on,
            chains[one.chain],
            playbook.condition(one.when, f"watch[{index}].when"),
            timedelta(0) if one.after is None else timedelta(seconds=one.after.total_seconds()),
        )
        for index, one in enumerate(playbook.document.watch)
    )
    schedules = {name: Schedule(spec) for name, spec in playbook.document.schedules.items()}
    return Compiled(rules, schedules, tuple(map(str, playbook.document.taxonomy.priority.values)))


class WatchTickets:
    """The handler of tickets."""

    service = "escalation"
    kind = "ticket"

    def __init__(self, deps: Deps, tables: store.Tables = store) -> None:
        self._deps, self._tables = deps, tables

    def handle(self, unit: Unit, batch: Sequence[Work]) -> list[Result]:
        """Decide a batch; a ticket's chains run under the playbook version it was opened with."""
        states = self._tables.load(unit.connection, [work.id for work in batch])
        directory = self._deps.directory.get(unit.connection)
        changes, results = store.Changes(), list[Result]()
        views: dict[int, tuple[Compiled, DirectoryView]] = {}
        for work in batch:
            number = work.ticket.playbook
            if number not in views:
                playbook = self._deps.playbooks.get(unit.connection, number)
                rules = compiled(playbook)
                views[number] = rules, DirectoryView(directory, rules.schedules, playbook.calendars)
            rules, view = views[number]
            known = states.get(work.id)
            outcome = decide(known, work.ticket, work.events, rules.rules, view, unit.now, rules.priorities)
            if outcome.state is None:
                if known is not None:
                    changes.gone.append(work.id)
            elif outcome.state != known:
                changes.states[work.id] = outcome.state
            changes.rows += outcome.rows
            changes.stalls += outcome.stalls
            _count(unit, [new.data for new in outcome.events] + [event.data for event in work.events if event.given])
            results.append(Result(work, tuple(outcome.events), outcome.due_at))
        self._tables.save(unit.connection, changes)
        return results


_OUTCOMES: dict[type[e.Data], str] = {
    e.EscalationRaised: "raised",
    e.EscalationStepped: "stepped",
    e.EscalationAcknowledged: "acknowledged",
    e.EscalationExhausted: "exhausted",
    e.EscalationEnded: "ended",
}


def _count(unit: Unit, happened: Sequence[e.Data]) -> None:
    """Count what this batch decided and what people did about it, once it is committed. Levels beyond 9 count as 9."""
    for data in happened:
        outcome = _OUTCOMES.get(type(data))
        if outcome is not None:
            level = min(data.level, 9) if isinstance(data, e.EscalationStepped) else 0
            unit.after_commit.append(metrics.ESCALATIONS.labels(str(level), outcome).inc)
