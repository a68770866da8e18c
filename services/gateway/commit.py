"""Group commit: single requests that come while a commit is under way share the next one, urgent ones first.

`submit` is called on the event loop and answers there: one wake-up of the loop a batch, not one a request.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from services.gateway.intake import Answer, Intake, Submission
from shared.runtime.clock import monotonic
from shared.runtime.database import is_passing

MAX_BATCH = 500
SWEEP_SECONDS = 0.1


class Stopping(Exception):
    """This process takes nothing more; another does."""


@dataclass(slots=True, eq=False)
class _Waiting:
    submission: Submission
    future: asyncio.Future[Answer]
    deadline: float


class GroupCommit:
    """Hands submissions to `Intake` in batches, from `workers` threads. `submit` never blocks; how many may wait is the caller's.

    What has no answer after `answer_seconds` gets `TimeoutError`; it may be committed all the same, later.
    """

    def __init__(self, intake: Intake, workers: int = 2, *, answer_seconds: float = 1.8) -> None:
        self._intake = intake
        self._answer_seconds = answer_seconds
        self._urgent: deque[_Waiting] = deque()
        self._others: deque[_Waiting] = deque()
        self._unanswered: deque[_Waiting] = deque()
        """In order of their deadlines; only the loop touches it."""
        self._changed = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, name=f"commit-{number}", daemon=True) for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, submission: Submission, *, urgent: bool = False) -> asyncio.Future[Answer]:
        """A future of the answer, durable when it comes. Only on an event loop."""
        loop = asyncio.get_running_loop()
        one = _Waiting(submission, loop.create_future(), monotonic() + self._answer_seconds)
        with self._changed:
            if self._stopping:
                raise Stopping
            (self._urgent if urgent else self._others).append(one)
            self._changed.notify()
        if not self._unanswered:
            loop.call_later(SWEEP_SECONDS, self._sweep, loop)
        self._unanswered.append(one)
        return one.future

    def stop(self) -> None:
        """Commit what waits, then end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(5)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = monotonic()
        while self._unanswered and (self._unanswered[0].future.done() or self._unanswered[0].deadline <= now):
            one = self._unanswered.popleft()
            if not one.future.done():
                one.future.set_exception(TimeoutError())
        if self._unanswered:
            loop.call_later(SWEEP_SECONDS, self._sweep, loop)

    # ---- the threads -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._urgent or self._others or self._stopping):
                    self._changed.wait()
                if not (self._urgent or self._others):
                    return
                batch = self._take()
            if batch:
                self._commit(batch)

    def _take(self) -> list[_Waiting]:
        """The next batch, without those whose caller was told already that there is no answer."""
        batch: list[_Waiting] = []
        for waiting in (self._urgent, self._others):
            while waiting and len(batch) < MAX_BATCH:
                one = waiting.popleft()
                if not one.future.done():
                    batch.append(one)
        return batch

    def _commit(self, batch: list[_Waiting]) -> None:
        try:
            answers = self._intake.open_many([one.submission for one in batch])
        except Exception as error:
            if len(batch) > 1 and not is_passing(error):  # one bad submission must not fail its neighbours
                for one in batch:
                    self._commit([one])
                return
            self._tell(batch, [error] * len(batch))
            return
        self._tell(batch, answers)

    def _tell(self, batch: list[_Waiting], answers: Sequence[Answer | Exception]) -> None:
        def deliver() -> None:
            for one, answer in zip(batch, answers, strict=True):
                if one.future.done():
                    continue
                if isinstance(answer, Exception):
                    one.future.set_exception(answer)
                else:
                    one.future.set_result(answer)

        try:
            batch[0].future.get_loop().call_soon_threadsafe(deliver)
        except RuntimeError:
            return  # the loop has ended: nobody waits for answers any more
