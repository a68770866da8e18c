"""One transaction over a batch of tickets: load what is watched, decide (pure), keep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from services.escalation import metrics, store
from services.escalation.domain.chain.view import DirectoryView
from services.escalation.watched import Card, Outcome, Watched, Watching, WatchRule
from services.escalation.watching import decide
from shared.contracts import events as e
from shared.directory.people import Directory
from shared.ledger.process import Deps
from shared.ledger.unit import Result, Unit, Work
from shared.playbook import flows
from shared.playbook.lanes import lane_rules
from shared.playbook.model import Playbook
from shared.ticket.course import Course
from shared.ticket.state import Ticket


def compiled(playbook: Playbook) -> Watching:
    """The version's watch rules and chains, compiled once in each process."""
    return playbook.derived("escalation", _compile)


def _compile(playbook: Playbook) -> Watching:
    chains = {chain.name: chain for chain in playbook.document.chains}
    rules = tuple(
        WatchRule(
            one.on,
            chains[one.chain],
            playbook.condition(one.when, f"watch[{index}].when") if one.when else None,
            timedelta(0) if one.after is None else timedelta(seconds=one.after.total_seconds()),
        )
        for index, one in enumerate(playbook.document.watch)
    )
    priorities = tuple(map(str, playbook.document.taxonomy.priority.values))
    return Watching(rules, chains, priorities, lane_rules(playbook).by_priority)


class WatchTickets:
    """The handler of tickets."""

    service = "escalation"
    kind = "ticket"

    def __init__(self, deps: Deps, tables: store.Tables = store) -> None:
        self._deps, self._tables = deps, tables

    def handle(self, unit: Unit, batch: Sequence[Work]) -> list[Result]:
        """Decide a batch; a ticket's chains run under the playbook version it was opened with."""
        states = self._tables.load(unit.connection, [work.id for work in batch if work.seen > 0])
        directory = self._deps.directory.get(unit.connection)
        changes, results, happened = store.Changes(), list[Result](), list[e.Data]()
        versions: dict[int, tuple[Watching, DirectoryView]] = {}
        for work in batch:
            number = work.ticket.playbook
            if number not in versions:
                versions[number] = self._version(unit, number, directory)
            watching, view = versions[number]
            known = states.get(work.id)
            outcome = decide(known, work.ticket, work.events, watching, view, unit.now)
            _keep(changes, work.id, known, outcome)
            happened += [new.data for new in outcome.events]
            happened += [event.data for event in work.events if event.given]
            results.append(Result(work, tuple(outcome.events), outcome.due_at))
        self._tables.save(unit.connection, changes)
        _count(unit, happened)
        return results

    def _version(self, unit: Unit, number: int, directory: Directory) -> tuple[Watching, DirectoryView]:
        playbooks = self._deps.playbooks
        playbook: Playbook = playbooks.get(unit.connection, number)

        def course(ticket: Ticket) -> Course | None:
            if ticket.flow is None:
                return None
            return flows.course(
                playbooks.get(unit.connection, ticket.flow.version), ticket.flow.flow, unit.now, directory
            )

        on_call = self._tables.schedules(unit.connection, playbook)
        known = compiled(playbook)
        watching = Watching(known.rules, known.chains, known.priorities, known.lanes, course)
        return watching, DirectoryView(directory, on_call, playbook.calendars)


def _keep(changes: store.Changes, ticket: int, known: Watched | None, outcome: Outcome) -> None:
    before = known.cards if known is not None else ()
    after = outcome.state.cards if outcome.state is not None else ()
    if before != after:
        changes.uncarded += [
            {"ticket_id": ticket, "node": one.node, "visit": one.visit} for one in _gone(before, after)
        ]
        changes.cards += [(ticket, one) for one in after if one not in before]
    if outcome.state is None:
        if known is not None:
            changes.gone.append(ticket)
    else:
        changes.states[ticket] = store.Row(outcome.state, outcome.mover, outcome.due_at, fresh=known is None)
    changes.rows += outcome.rows
    changes.stalls += outcome.stalls
    changes.levels += outcome.levels


def _gone(before: tuple[Card, ...], after: tuple[Card, ...]) -> list[Card]:
    stay = {(one.node, one.visit) for one in after}
    return [one for one in before if (one.node, one.visit) not in stay]


_OUTCOMES: dict[type[e.Data], str] = {
    e.EscalationRaised: "raised",
    e.EscalationStepped: "stepped",
    e.EscalationAcknowledged: "acknowledged",
    e.EscalationHeld: "held",
    e.EscalationExhausted: "exhausted",
    e.EscalationEnded: "ended",
}


def _count(unit: Unit, happened: Sequence[e.Data]) -> None:
    """Count what this batch decided and what people did about it, once it is committed. Levels beyond 9 count as 9."""
    found = [data for data in happened if type(data) in _OUTCOMES]
    if not found:
        return
    counts = Counter(
        (min(data.level, 9) if isinstance(data, e.EscalationStepped) else 0, _OUTCOMES[type(data)]) for data in found
    )
    for (level, outcome), count in counts.items():
        unit.after_commit.append(partial(metrics.ESCALATIONS.labels(str(level), outcome).inc, count))
