"""The forecast in the running service: the published model, the load of each group, the probabilities that are kept and told.

Nothing is asked and nothing costs anything while no model is published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, Engine

from services.sla.domain.arming import terms_of
from services.sla.domain.clock import Clock
from services.sla.domain.terms import Library
from services.sla.domain.ticket import SlaState
from services.sla.forecast import store
from services.sla.forecast.features import features, foreseeable, next_look
from services.sla.forecast.model import Forecast, load
from shared.contracts import events as e
from shared.contracts.envelope import New
from shared.runtime.clock import monotonic
from shared.runtime.loops import Loop

MODEL_SECONDS = 1.0
"""How long a process believes that the model it has is the current one."""
LOAD_SECONDS = 30.0
SHARE = 200
"""Counting loads reads every open ticket; it is not done again for `SHARE` times as long as it took."""


@dataclass(slots=True)
class Looked:
    """What came of looking at a batch: by ticket the events to append and when to look again."""

    events: dict[int, list[New]] = field(default_factory=dict)
    next_at: dict[int, datetime] = field(default_factory=dict)


class Forecaster:
    """Asks the current model about the tickets of a batch; one object serves all threads of a process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._model: Forecast | None = None
        self._number = 0
        self._read_at = -1e9
        self._loads: dict[str, float] | None = None
        self.loop = Loop("sla", "loads", LOAD_SECONDS, self.count_loads)

    def count_loads(self) -> float:
        """Read the load of each group, if a model is there to ask for it; returns how long to wait, in seconds."""
        started = monotonic()
        with self._engine.connect() as connection:
            if self.model(connection) is not None:
                self._loads = store.loads(connection)
        return max(LOAD_SECONDS, SHARE * (monotonic() - started))

    def model(self, connection: Connection) -> Forecast | None:
        """The current model, or None while none is published."""
        if monotonic() - self._read_at >= MODEL_SECONDS:
            number = store.current(connection)
            if number != self._number:
                self._model = None if number == 0 else load(store.read(connection, number))
            self._number, self._read_at = number, monotonic()
        return self._model

    def look(
        self, connection: Connection, batch: Sequence[tuple[int, SlaState]], library: Library, now: datetime
    ) -> Looked:
        """Keep the probability of each running clock, and tell of those that reached what their policy calls at risk."""
        looked = Looked()
        model = self.model(connection)
        if model is None:
            return looked
        if self._loads is None:
            self._loads = store.loads(connection)
        rows: list[store.Row] = []
        risky: list[tuple[store.Row, Clock]] = []
        for ticket_id, state in batch:
            crowd = self._loads.get(state.group or "", 0.0)
            for clock in state.clocks:
                if not foreseeable(clock):
                    continue
                chance = model.probability(features(state, clock, library, now, crowd))
                row = store.Row(ticket_id, clock.metric, clock.cycle, clock.generation, round(chance, 4), now)
                rows.append(row)
                bar = terms_of(clock, library)[0].at_risk
                if bar is not None and chance >= bar and not clock.paused:
                    risky.append((row, clock))
            at = next_look(state, library, now)
            if at is not None:
                looked.next_at[ticket_id] = at
        told = store.told(connection, [row.ticket_id for row, _ in risky]) if risky else {}
        for row, clock in risky:
            if told.get((row.ticket_id, row.metric, row.cycle)) == row.generation:
                continue
            row.told = row.generation
            looked.events.setdefault(row.ticket_id, []).append(_at_risk(row, clock, self._number))
        store.save(connection, [ticket_id for ticket_id, _ in batch], rows)
        return looked


def _at_risk(row: store.Row, clock: Clock, model: int) -> New:
    data = e.SlaAtRisk(
        metric=row.metric,
        cycle=row.cycle,
        generation=row.generation,
        policy=clock.span.policy,
        due_at=clock.due_at,
        probability=row.probability,
    )
    return New(data, {"why": "at_risk", "model": model})
