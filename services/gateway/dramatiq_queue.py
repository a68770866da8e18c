"""The Dramatiq queue `intake` with its actor `submit_tickets`: for producers that speak Dramatiq already.

A message is acknowledged when its tickets are committed, confirmed and rejected. A killed gateway's messages come back to the queue
within seconds, by the message's own id as one ticket each.
"""

from __future__ import annotations

import threading
from typing import Any, cast

import dramatiq
import orjson
import redis
import structlog
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import CurrentMessage, ShutdownNotifications
from dramatiq.worker import Worker

from services.gateway.intake import Intake, Submission
from services.gateway.queue_answers import ACTOR, ORIGINAL_BYTES, QUEUES, confirm, reject, verdict
from shared.contracts import intake as wire
from shared.contracts.strict import Fault, Unacceptable, take

log = structlog.get_logger()

HEARTBEAT_MS = 5_000
"""After so long without a sign of life a gateway's messages belong to others."""
WAIT_SECONDS = 0.3
BATCH = 500


class DramatiqQueue:
    """A standard Dramatiq worker on `intake`, with settings that bring a killed worker's messages back in seconds."""

    def __init__(self, url: str, intake: Intake, stop: threading.Event) -> None:
        self._intake = intake
        self._stop = stop
        self._broker = RedisBroker(  # type: ignore[no-untyped-call]
            url=url,
            middleware=[ShutdownNotifications(), CurrentMessage()],
            heartbeat_timeout=HEARTBEAT_MS,
            maintenance_chance=100_000,
            socket_timeout=4,
        )
        dramatiq.actor(broker=self._broker, actor_name="submit_tickets", queue_name="intake")(self._submit)
        self._worker = Worker(self._broker, queues={"intake"}, worker_threads=1, worker_timeout=200)

    def start(self) -> None:
        self._worker.start()

    def stop(self) -> None:
        self._worker.stop(timeout=3_000)

    def _submit(self, tickets: Any = None, *more: Any, **named: Any) -> None:
        """Open tickets; returns when they are committed, which is when Dramatiq acknowledges. Never raises for what they hold."""
        message = CurrentMessage.get_current_message()
        assert message is not None
        if more or named or not isinstance(tickets, list):
            self._tell([], [(Fault("", "submit_tickets takes one list of tickets"), [tickets, *more, named])])
            return
        for start in range(0, len(tickets), BATCH):
            if not self._submit_some(message.message_id, start, tickets[start : start + BATCH]):
                # this process stops while the database is away: back to the queue under its own id, for the next one
                self._broker.enqueue(cast(Any, message))
                return

    def _submit_some(self, message_id: str, start: int, tickets: list[Any]) -> bool:
        submissions: list[Submission] = []
        bad: list[tuple[Fault, Any]] = []
        originals: list[Any] = []
        for index, one in enumerate(tickets, start):
            try:
                ticket = take(one, wire.TicketIn)
            except Unacceptable as error:
                bad.append((error.fault, one))
                continue
            originals.append(one)
            submissions.append(Submission(ticket, ACTOR, idempotency=(QUEUES, f"dramatiq:{message_id}:{index}")))
        answers = self._intake.open_patiently(submissions, self._stop) if submissions else []
        if answers is None:
            return False
        taken = []
        for submission, original, answer in zip(submissions, originals, answers, strict=True):
            fault = verdict(answer)
            if fault is None:
                taken.append((submission, answer))
            else:
                bad.append((fault, original))
        self._tell(taken, bad)
        return True

    def _tell(self, taken: list[Any], bad: list[tuple[Fault, Any]]) -> None:
        """Confirm and reject; waits for a Redis that is away, since the message is acknowledged afterwards."""
        while True:
            pipe = self._broker.client.pipeline(transaction=False)
            for submission, answer in taken:
                confirm(pipe, submission, answer)
            for fault, original in bad:
                reject(pipe, fault, _shown(original))
            try:
                pipe.execute()
                return
            except redis.RedisError as error:
                log.warning("intake_queue_waits", error=f"{type(error).__name__}: {error}"[:200])
                if self._stop.wait(WAIT_SECONDS):
                    return


def _shown(original: Any) -> bytes:
    try:
        return orjson.dumps(original)[:ORIGINAL_BYTES]
    except TypeError:
        return repr(original).encode("utf-8", "backslashreplace")[:ORIGINAL_BYTES]
