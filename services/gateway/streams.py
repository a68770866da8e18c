"""The intake queues: the Redis stream `signalbox:intake` and the Dramatiq queue `intake`.

A message is acknowledged, and confirmed on `signalbox:intake:accepted`, after its ticket is committed; a worker that dies in
between leaves it pending, and another takes it up (idempotent by source + external_id). What cannot be a ticket goes to
`signalbox:intake:rejected` with the reason and the original.
"""

from __future__ import annotations

import threading
from typing import Any

import dramatiq
import orjson
import redis
import structlog
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import ShutdownNotifications
from dramatiq.worker import Worker

from services.gateway.intake import Intake, Submission
from shared.contracts import intake as wire
from shared.contracts.envelope import Actor
from shared.contracts.strict import Unacceptable, convert, decode
from shared.ledger.process import Deps
from shared.runtime import clock, metrics
from shared.runtime.ids import process_name
from shared.runtime.loops import beat, forget

log = structlog.get_logger()

STREAM = "signalbox:intake"
ACCEPTED = "signalbox:intake:accepted"
REJECTED = "signalbox:intake:rejected"
GROUP = "gateway"
COUNT = 500
CLAIM_IDLE_MS = 10_000
KEPT = 1_000_000
"""Entries kept of the confirmations and rejects (approximately)."""
ACTOR = Actor(kind="automation", id="intake")


class IntakeQueues:
    """Consumes both queues in threads of its own; a Redis that is away only stops it for as long."""

    def __init__(self, deps: Deps, intake: Intake) -> None:
        self._deps = deps
        self._intake = intake
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._worker: Worker | None = None

    def start(self) -> None:
        if self._deps.settings.redis_url is None:
            return
        thread = threading.Thread(target=self._consume, name="intake-stream", daemon=True)
        thread.start()
        self._threads.append(thread)
        self._worker = _dramatiq_worker(self._deps.settings.redis_url, self._intake, self._stop)
        self._worker.start()

    def stop(self) -> None:
        self._stop.set()
        if self._worker is not None:
            self._worker.stop(timeout=3_000)
        for thread in self._threads:
            thread.join(4)
        forget("gateway", "intake")

    # ---- the stream ------------------------------------------------------------------------------------------------------

    def _consume(self) -> None:
        client = redis.Redis.from_url(str(self._deps.settings.redis_url), socket_timeout=4, socket_connect_timeout=1)
        consumer = process_name()
        claimed_at = 0.0
        while not self._stop.is_set():
            try:
                entries = []
                if clock.monotonic() - claimed_at > CLAIM_IDLE_MS / 2000:
                    claimed_at = clock.monotonic()
                    entries = _abandoned(client, consumer)
                entries = entries or _next(client, consumer)
                metrics.REDIS_UP.set(1)
                beat("gateway", "intake", 1.0)
                if entries:
                    self._take(client, entries)
            except redis.ResponseError as error:
                if "NOGROUP" in str(error):
                    _make_group(client)
                    continue
                self._trouble(error)
            except Exception as error:
                self._trouble(error)

    def _trouble(self, error: Exception) -> None:
        """Redis or PostgreSQL is away: nothing was acknowledged, so nothing is lost by waiting."""
        log.warning("intake_stream_waits", error=f"{type(error).__name__}: {error}"[:200])
        self._stop.wait(0.5)

    def _take(self, client: redis.Redis, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        """One batch: open, commit, then confirm, reject and acknowledge in one pipeline."""
        submissions: list[tuple[int, Submission]] = []
        rejected: dict[int, str] = {}
        for index, (_, members) in enumerate(entries):
            try:
                submissions.append((index, Submission(decode(_body(members), wire.TicketIn), ACTOR)))
            except Unacceptable as error:
                rejected[index] = f"{error.fault.pointer or '/'}: {error.fault.reason}"
        answers = self._intake.open_many([one for _, one in submissions]) if submissions else []
        pipe = client.pipeline(transaction=False)
        for (index, one), answer in zip(submissions, answers, strict=True):
            if answer.fault is not None:
                rejected[index] = f"{answer.fault.pointer or '/'}: {answer.fault.reason}"
            elif answer.conflict:
                rejected[index] = "/external_id: came with another body before"
            else:
                assert answer.ticket is not None
                confirmation = {
                    "source": one.ticket.source,
                    "external_id": one.ticket.external_id or "",
                    "id": str(answer.ticket.id),
                }
                pipe.xadd(ACCEPTED, confirmation, maxlen=KEPT, approximate=True)  # type: ignore[arg-type]
        for index, reason in rejected.items():
            original = entries[index][1].get(b"ticket", b"")
            metrics.TICKETS.labels("other", "rejected").inc()
            pipe.xadd(REJECTED, {"reason": reason, "original": original[:65_536]}, maxlen=KEPT, approximate=True)
        ids = [entry for entry, _ in entries]
        pipe.xack(STREAM, GROUP, *ids)
        pipe.xdel(STREAM, *ids)
        pipe.execute()


def _body(members: dict[bytes, bytes]) -> bytes:
    if b"ticket" not in members:
        raise Unacceptable("", "the entry has no field `ticket`")
    return members[b"ticket"]


def _make_group(client: redis.Redis) -> None:
    try:
        client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


def _next(client: redis.Redis, consumer: str) -> list[Any]:
    answer: Any = client.xreadgroup(GROUP, consumer, {STREAM: ">"}, count=COUNT, block=1000)
    if not answer:
        return []
    streams = answer.items() if isinstance(answer, dict) else answer
    return [entry for _, found in streams for entry in (found[0] if found and isinstance(found[0], list) else found)]


def _abandoned(client: redis.Redis, consumer: str) -> list[Any]:
    """Entries whose consumer died with them in hand."""
    answer: Any = client.xautoclaim(STREAM, GROUP, consumer, CLAIM_IDLE_MS, count=COUNT)
    return [entry for entry in answer[1] if entry[1]]


# ---- the Dramatiq queue --------------------------------------------------------------------------------------------------


def _dramatiq_worker(url: str, intake: Intake, stop: threading.Event) -> Worker:
    """A standard Dramatiq worker on `intake`, with settings that bring a killed worker's messages back in seconds."""
    broker = RedisBroker(  # type: ignore[no-untyped-call]
        url=url,
        middleware=[ShutdownNotifications()],
        heartbeat_timeout=5_000,
        maintenance_chance=100_000,
        socket_timeout=4,
    )

    def submit_tickets(tickets: list[Any]) -> None:
        """Open tickets; returns when they are committed, which is when Dramatiq acknowledges."""
        submissions, bad = list[Submission](), list[tuple[Any, str]]()
        for one in tickets:
            try:
                submissions.append(Submission(convert(one, wire.TicketIn), ACTOR))
            except Unacceptable as error:
                bad.append((one, f"{error.fault.pointer or '/'}: {error.fault.reason}"))
        while not stop.is_set():
            try:
                answers = intake.open_many(submissions)
                break
            except Exception as error:  # PostgreSQL is away: keep the message in hand until it is back
                log.warning("intake_queue_waits", error=f"{type(error).__name__}: {error}"[:200])
                stop.wait(0.5)
        else:  # this process stops: hand the message back, for the next one
            actor.send(tickets)
            return
        for submission, answer in zip(submissions, answers, strict=True):
            if answer.fault is not None:
                bad.append((submission.ticket, f"{answer.fault.pointer or '/'}: {answer.fault.reason}"))
            elif answer.conflict:
                bad.append((submission.ticket, "/external_id: came with another body before"))
        for original, reason in bad:
            broker.client.xadd(
                REJECTED, {"reason": reason, "original": _shown(original)}, maxlen=KEPT, approximate=True
            )

    actor = dramatiq.actor(broker=broker, actor_name="submit_tickets", queue_name="intake")(submit_tickets)
    return Worker(broker, queues={"intake"}, worker_threads=1, worker_timeout=200)


def _shown(original: Any) -> bytes:
    try:
        return orjson.dumps(original)[:65_536]
    except TypeError:
        return repr(original).encode()[:65_536]
