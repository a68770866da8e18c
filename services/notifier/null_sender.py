"""A sender that calls nobody: every message is answered at once and recorded, for replay, demo and benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Engine

from services.notifier.channels.base import Kind, Outcome, receipt_of
from services.notifier.noting import Notes
from services.notifier.recording import record
from services.notifier.reports import report
from services.notifier.sender import RECORD_MOST
from services.notifier.sending import Job
from shared.contracts.providers.receipts import Receipt
from shared.ledger.process import Deps


def accepts(job: Job) -> Outcome:
    """The answer of a provider that takes everything and has no ids of its own."""
    return Outcome(Kind.ACCEPTED, provider_id=job.message.message_id)


class NullSender:
    """Answers at once without calling anybody, and records it: for replay and benchmarks."""

    def __init__(
        self,
        deps: Deps,
        engine: Engine,
        *,
        on_send: Callable[[Sequence[Job]], None] | None = None,
        answer: Callable[[Job], Outcome | None] = accepts,
    ) -> None:
        self._deps, self._engine, self._on_send, self._answer = deps, engine, on_send, answer
        self.notes = Notes()

    def room(self) -> Mapping[str, int]:
        """Always room."""
        return {}

    def hold_back(self, jobs: Sequence[Job]) -> None:
        """Nothing waits here."""

    @property
    def asks(self) -> bool:
        """One that takes everything has nothing to tell."""
        return self._answer is not accepts

    def poll(self, jobs: Sequence[Job]) -> None:
        """What the answers say of messages that were accepted."""
        told: dict[str, list[Receipt]] = {}
        for job in jobs:
            outcome = self._answer(job)
            if outcome is not None and (receipt := receipt_of(job.message, outcome)) is not None:
                told.setdefault(job.called, []).append(receipt)
        for provider, receipts in told.items():
            self._deps.bells.ring(report(self._deps, self._engine, provider, receipts))

    def take(self, jobs: Sequence[Job]) -> None:
        """Answer all and record that."""
        if self._on_send is not None:
            self._on_send(jobs)
        answers = [(job, self._answer(job)) for job in jobs]
        for start in range(0, len(answers), RECORD_MOST):
            self._deps.bells.ring(
                record(self._engine, self._deps, answers[start : start + RECORD_MOST], lambda: 0.5, self.notes)
            )
