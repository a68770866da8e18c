"""Nodes of flows that an outside system completes: `kind: service` whose `service` is an enrichment of the playbook.

The system is asked when the case comes there (a kept answer counts until it expires), never inside a transaction; its facts
`enrich.NAME.…` hold for the transitions of that step and are kept with it. Without an answer within the enrichment's `timeout`
its `default` holds. A node that it cannot complete, because material or an outcome is missing, is given to whoever is responsible.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from services.router import answer_store as store
from services.router.answer_store import Answer
from services.router.asking.fetcher import Question
from services.router.cases import Case, Place
from services.router.domain.answers import Enriched
from services.router.outside import Asker, heard
from shared.directory.people import Directory
from shared.ledger.process import Deps
from shared.ledger.unit import Unit
from shared.playbook import flows
from shared.playbook.enrichment import address
from shared.playbook.livefacts import live_facts
from shared.playbook.model import Playbook
from shared.playbook.routing import Enrichment
from shared.ticket.course import Stopped, complete
from shared.ticket.state import Node

IN_A_ROW = 8
"""Service nodes that follow each other in one step; a flow that goes round between systems alone comes to rest here."""


@dataclass(frozen=True, slots=True)
class _Stop:
    """A case at such a node."""

    case: Case
    node: Node
    name: str
    config: Enrichment
    playbook: Playbook

    @property
    def place(self) -> Place:
        return self.node.name, self.node.visit

    @property
    def url(self) -> str | None:
        return address(self.config.url, live_facts(self.case.ticket))


class Stations:
    """Completes what outside systems complete. Threads share one."""

    def __init__(self, deps: Deps, asker: Asker) -> None:
        self._deps, self._asker = deps, asker

    def run(self, unit: Unit, cases: Sequence[Case], directory: Directory) -> None:
        """Complete what has an answer; put off the others (`case.asking`), which nobody is given meanwhile."""
        stops = [stop for case in cases for stop in self._stops(unit, case)]
        if not stops:
            return
        concerned = [stop.case for stop in stops]
        waiting = store.deferred(unit.connection, [case.work.id for case in concerned])
        answers: dict[tuple[str, str], Answer] = {}
        left: set[tuple[int, Place]] = set()
        awaited: list[_Stop] = []
        for _ in range(IN_A_ROW):
            read = {(stop.name, url) for stop in stops if (url := stop.url) is not None}
            answers |= store.answers(unit.connection, read - answers.keys())
            awaited, went = [], False
            for stop in stops:
                since = waiting.get(stop.case.work.id)
                said = heard(
                    self._asker, stop.name, stop.config, stop.url, _of(answers, stop), since, unit.now
                )  # fmt: skip
                if said is None:
                    awaited.append(stop)
                elif self._complete(unit, stop, said, directory):
                    went = True
                else:
                    left.add((stop.case.work.id, stop.place))
            if not went:
                break
            again = [stop for case in _each(concerned) for stop in self._stops(unit, case)]
            stops = [stop for stop in again if (stop.case.work.id, stop.place) not in left]
        self._put_off(unit, awaited, waiting)
        busy = {stop.case.work.id for stop in awaited}
        over = [number for number in waiting if number not in busy]
        if over:
            store.forget_deferred(unit.connection, over)

    def _stops(self, unit: Unit, case: Case) -> Iterator[_Stop]:
        ticket = case.ticket
        if ticket.flow is None or not ticket.nodes or not ticket.is_open or ticket.status == "pending":
            return
        playbook = self._deps.playbooks.get(unit.connection, ticket.flow.version)
        asked = playbook.derived("stations", _stations).get(ticket.flow.flow, {})
        for node in ticket.nodes:
            if node.name in asked:
                name, config = asked[node.name]
                yield _Stop(case, node, name, config, playbook)

    def _complete(self, unit: Unit, stop: _Stop, said: Enriched, directory: Directory) -> bool:
        """Whether the answer completes the node."""
        ticket = stop.case.ticket
        assert ticket.flow is not None
        more = {f"enrich.{stop.name}.{fact}": value for fact, value in said.facts.items()}
        course = flows.course(stop.playbook, ticket.flow.flow, unit.now, directory, more)
        assert course is not None  # the node was found in it
        offered = course.program.nodes[stop.node.name].outcomes
        outcome = said.facts.get("outcome")
        # whoever had the case in hand before has it again after
        owner = ticket.owner if ticket.owner in ticket.flow.completed_by.values() else None
        found = complete(
            ticket, course, stop.node.name, visit=stop.node.visit, by=owner or "", material={stop.name: dict(said.facts)},
            outcome=outcome if isinstance(outcome, str) and outcome in offered else None,
        )  # fmt: skip
        if isinstance(found, Stopped):
            return False
        for data in found:
            stop.case.append(data, unit.now, {"node": stop.node.name, "enriched": {stop.name: said.as_dict()}})
        return True

    def _put_off(self, unit: Unit, awaited: Sequence[_Stop], waiting: Mapping[int, store.Deferred]) -> None:
        rows, questions = {}, []
        for stop in awaited:
            number, url = stop.case.work.id, stop.url
            assert url is not None  # else the default was heard
            since = waiting.get(number)
            until = since.until if since is not None else unit.now + stop.config.timeout
            if since is None:
                rows[number] = {"ticket_id": number, "asked_at": unit.now, "until": until}
            stop.case.wake_at(until)
            stop.case.asking.add(stop.place)
            questions.append(Question(stop.name, url, number, stop.config))
        if questions:
            store.defer(unit.connection, list(rows.values()))
            unit.after_commit.append(lambda: self._asker.ask(questions))


def _stations(playbook: Playbook) -> dict[str, dict[str, tuple[str, Enrichment]]]:
    """By flow and node: the enrichment that completes it."""
    known = playbook.document.enrichments
    return {
        flow.name: {node.name: (node.service, known[node.service]) for node in flow.nodes if node.service in known}
        for flow in playbook.document.flows
    }


def _of(answers: Mapping[tuple[str, str], Answer], stop: _Stop) -> Answer | None:
    return answers.get((stop.name, stop.url)) if stop.url is not None else None


def _each(cases: Sequence[Case]) -> list[Case]:
    return list({case.work.id: case for case in cases}.values())
