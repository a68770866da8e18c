"""The intake queues: the Redis stream `signalbox:intake`, and the Dramatiq queue `intake` (`dramatiq_queue`).

A message is confirmed on `signalbox:intake:accepted` and then acknowledged, after its ticket is committed; a gateway that dies in
between leaves it pending, and another takes it up. Taking it twice opens one ticket: by `source` and `external_id`, or by the
entry's own id where it has none. What cannot be a ticket goes to `signalbox:intake:rejected` with the reason and the original.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import redis
import structlog

from services.gateway.dramatiq_queue import DramatiqQueue
from services.gateway.intake import Intake, Submission
from services.gateway.queue_answers import ACTOR, QUEUES, confirm, reject, verdict
from shared.contracts import intake as wire
from shared.contracts.strict import Fault, Unacceptable, decode
from shared.ledger.process import Deps
from shared.runtime import clock, metrics
from shared.runtime.crash import crash_point
from shared.runtime.ids import process_name
from shared.runtime.loops import beat, forget

log = structlog.get_logger()

STREAM = "signalbox:intake"
GROUP = "gateway"
COUNT = 500
CLAIM_IDLE_MS = 10_000
CLAIM_SECONDS = 2.0
"""How often entries are looked for whose consumer has had them in hand for `CLAIM_IDLE_MS`."""
WAIT_SECONDS = 0.3

Entry = tuple[bytes, dict[bytes, bytes]]


class IntakeQueues:
    """Consumes both queues in threads of its own; a Redis that is away only stops it for as long."""

    def __init__(self, deps: Deps, intake: Intake, *, idle_ms: int = CLAIM_IDLE_MS) -> None:
        self._deps = deps
        self._intake = intake
        self._idle_ms = idle_ms
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._consume, name="intake-stream", daemon=True)
        self._dramatiq: DramatiqQueue | None = None

    def start(self) -> None:
        if self._deps.settings.redis_url is None:
            return
        self._thread.start()
        self._dramatiq = DramatiqQueue(self._deps.settings.redis_url, self._intake, self._stop)
        self._dramatiq.start()

    def stop(self) -> None:
        self._stop.set()
        if self._dramatiq is not None:
            self._dramatiq.stop()
        if self._thread.is_alive():
            self._thread.join(4)
        forget("gateway", "intake")

    # ---- the stream ------------------------------------------------------------------------------------------------------

    def _consume(self) -> None:
        client = redis.Redis.from_url(str(self._deps.settings.redis_url), socket_timeout=4, socket_connect_timeout=1)
        consumer = process_name()
        claimed_at = clock.monotonic() - CLAIM_SECONDS
        while not self._stop.is_set():
            try:
                entries: list[Entry] = []
                if clock.monotonic() - claimed_at >= CLAIM_SECONDS:
                    claimed_at = clock.monotonic()
                    entries = _abandoned(client, consumer, self._idle_ms)
                entries = entries or _next(client, consumer)
                metrics.REDIS_UP.set(1)
                beat("gateway", "intake", 1.0)
                if entries:
                    crash_point("stream.read")
                    self._take(client, entries)
            except redis.ResponseError as error:
                if "NOGROUP" in str(error):
                    _make_group(client)
                    continue
                self._trouble(error)
            except Exception as error:
                self._trouble(error)

    def _trouble(self, error: Exception) -> None:
        """Redis is away: nothing was acknowledged, so nothing is lost by waiting."""
        log.warning("intake_stream_waits", error=f"{type(error).__name__}: {error}"[:200])
        self._stop.wait(WAIT_SECONDS)

    def _take(self, client: redis.Redis, entries: Sequence[Entry]) -> None:
        """One batch: open and commit, then confirm and reject, then acknowledge."""
        submissions: list[Submission] = []
        faults: dict[int, Fault] = {}
        for index, (entry, members) in enumerate(entries):
            try:
                submissions.append(_submission(entry, members))
            except Unacceptable as error:
                faults[index] = error.fault
        answers = self._intake.open_patiently(submissions, self._stop) if submissions else []
        if answers is None:
            return  # this process stops while the database is away: the entries stay pending, for others
        crash_point("stream.committed")
        done = iter(zip(submissions, answers, strict=True))
        pipe = client.pipeline(transaction=False)
        for index, (_, members) in enumerate(entries):
            if (fault := faults.get(index)) is None:
                submission, answer = next(done)
                fault = verdict(answer)
                if fault is None:
                    confirm(pipe, submission, answer)
                    continue
            reject(pipe, fault, members.get(b"ticket", b""))
        pipe.execute()
        crash_point("stream.confirmed")
        ids = [entry for entry, _ in entries]
        pipe.xack(STREAM, GROUP, *ids)
        pipe.xdel(STREAM, *ids)
        pipe.execute()


def _submission(entry: bytes, members: dict[bytes, bytes]) -> Submission:
    if b"ticket" not in members:
        raise Unacceptable("", "the entry has no field `ticket`")
    ticket = decode(members[b"ticket"], wire.TicketIn)
    return Submission(ticket, ACTOR, idempotency=(QUEUES, f"stream:{entry.decode()}"))


def _make_group(client: redis.Redis) -> None:
    """Make the group (again: Redis was flushed), from the first entry there is."""
    try:
        client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


def _next(client: redis.Redis, consumer: str) -> list[Entry]:
    answer: Any = client.xreadgroup(GROUP, consumer, {STREAM: ">"}, count=COUNT, block=1000)
    if not answer:
        return []
    streams = answer.items() if isinstance(answer, dict) else answer
    return [entry for _, found in streams for entry in (found[0] if found and isinstance(found[0], list) else found)]


def _abandoned(client: redis.Redis, consumer: str, idle_ms: int) -> list[Entry]:
    """Entries whose consumer died with them in hand."""
    answer: Any = client.xautoclaim(STREAM, GROUP, consumer, idle_ms, count=COUNT)
    return [entry for entry in answer[1] if entry[1]]
