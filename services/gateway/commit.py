"""Group commit: single requests that come while a commit is under way share the next one."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future

from services.gateway.intake import Answer, Intake, Submission

MAX_BATCH = 500
MAX_WAITING = 5_000


class Overloaded(Exception):
    """More requests wait than can be answered in time."""


class GroupCommit:
    """Hands submissions to `Intake` in batches, from `workers` threads. `submit` never blocks."""

    def __init__(self, intake: Intake, workers: int = 2) -> None:
        self._intake = intake
        self._waiting: deque[tuple[Submission, Future[Answer]]] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, name=f"commit-{number}", daemon=True) for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, submission: Submission) -> Future[Answer]:
        """A future of the answer, durable when it comes. Raises `Overloaded` instead of queueing without bound."""
        future: Future[Answer] = Future()
        with self._changed:
            if self._stopping or len(self._waiting) >= MAX_WAITING:
                raise Overloaded
            self._waiting.append((submission, future))
            self._changed.notify()
        return future

    def stop(self) -> None:
        """Commit what waits, then end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(5)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._stopping:
                    self._changed.wait()
                if not self._waiting:
                    return
                batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
            self._commit([pair for pair in batch if pair[1].set_running_or_notify_cancel()])

    def _commit(self, batch: list[tuple[Submission, Future[Answer]]]) -> None:
        if not batch:
            return
        try:
            answers = self._intake.open_many([submission for submission, _ in batch])
        except Exception as error:
            if len(batch) > 1 and not _is_database(error):  # one bad submission must not fail its neighbours
                for pair in batch:
                    self._commit([pair])
                return
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            future.set_result(answer)


def _is_database(error: Exception) -> bool:
    from shared.runtime.database import is_passing

    return is_passing(error)
