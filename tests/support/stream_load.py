"""A confirming producer on the intake stream: an `XADD` is a request, an entry of the accepted stream is its answer.

What is not confirmed within `resend_after_seconds` is sent again with the same `source` and `external_id`, whatever became of
Redis meanwhile: killed, flushed, full or away.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import redis

from tests.support.journal import Journal
from tests.support.load import LoadResult, Plan

INTAKE = "signalbox:intake"
ACCEPTED = "signalbox:intake:accepted"
REJECTED = "signalbox:intake:rejected"
_CHUNK = 500


@dataclass(slots=True)
class _Waiting:
    body: bytes
    due: float
    sent_at: float = 0.0
    attempts: int = 0


class ConfirmingProducer:
    """Sends a plan's tickets; at most `window` are unconfirmed at a time."""

    def __init__(
        self, redis_url: str, plan: Plan, journal: Journal, *, window: int = 1_000, resend_after_seconds: float = 3.0
    ) -> None:
        self._redis = redis.Redis.from_url(
            redis_url, protocol=2, socket_timeout=2, socket_connect_timeout=1, decode_responses=True
        )
        self._plan, self._journal, self._window, self._resend = plan, journal, window, resend_after_seconds
        self._waiting: dict[str, _Waiting] = {}
        self._cursors: dict[str, str] = {}
        self._next = 0
        self._result = LoadResult()
        self._start = 0.0

    def run(self) -> LoadResult:
        """Send, listen and send again until every ticket is confirmed or rejected, or the plan's time is up. Blocks."""
        self._start = time.monotonic()
        while self._next < self._plan.tickets or self._waiting:
            if time.monotonic() - self._start > self._plan.give_up_seconds:
                break
            try:
                if not self._cursors:
                    self._cursors = {name: self._last_id(name) for name in (ACCEPTED, REJECTED)}
                self._fill()
                self._send()
                self._listen()
            except redis.RedisError:
                time.sleep(0.1)
        self._redis.close()
        self._result.seconds = time.monotonic() - self._start
        self._result.open = self._plan.tickets - self._result.accepted - self._result.refused
        return self._result

    def _last_id(self, stream: str) -> str:
        newest: Any = self._redis.xrevrange(stream, count=1)
        return str(newest[0][0]) if newest else "0-0"

    def _fill(self) -> None:
        """Let further tickets become due, as many as the window and the rate allow."""
        now, rate = time.monotonic(), self._plan.rate_per_second
        while self._next < self._plan.tickets and len(self._waiting) < self._window:
            due = self._start + self._next / rate if rate else now
            if due > now:
                return
            ticket = self._plan.make(self._next)
            self._waiting[ticket["external_id"]] = _Waiting(orjson.dumps(ticket), due)
            self._next += 1

    def _send(self) -> None:
        now = time.monotonic()
        late = [
            (external_id, one)
            for external_id, one in self._waiting.items()
            if not one.attempts or now - one.sent_at > self._resend
        ][:_CHUNK]
        if not late:
            return
        pipe = self._redis.pipeline(transaction=False)
        for external_id, one in late:
            one.attempts, one.sent_at = one.attempts + 1, now
            self._journal.write("asked", self._plan.source, external_id, number=one.attempts)
            pipe.xadd(INTAKE, {"ticket": one.body})
        self._result.attempts += len(late)
        pipe.execute()  # an error leaves them sent as far as we know; they are sent again when no confirmation comes

    def _listen(self) -> None:
        answer: Any = self._redis.xread(self._cursors, count=1_000, block=50)  # type: ignore[arg-type]
        for stream, entries in answer or []:
            for entry, members in entries:
                self._cursors[stream] = entry
                if stream == ACCEPTED:
                    self._accept(members)
                else:
                    self._reject(members)

    def _accept(self, members: Mapping[str, str]) -> None:
        external_id = members.get("external_id", "")
        if members.get("source") != self._plan.source:
            return
        one = self._waiting.pop(external_id, None)
        seconds = time.monotonic() - one.due if one else 0.0
        # A second confirmation is written down too: it must name the same ticket.
        self._journal.write("accepted", self._plan.source, external_id, id=members.get("id"), seconds=seconds)
        if one:
            self._result.accepted += 1
            self._result.latencies.append(seconds)

    def _reject(self, members: Mapping[str, str]) -> None:
        try:
            original = orjson.loads(members.get("original", ""))
            external_id = original["external_id"] if original["source"] == self._plan.source else ""
        except (ValueError, KeyError, TypeError):
            return
        if self._waiting.pop(external_id, None):
            self._journal.write("refused", self._plan.source, external_id, note=members.get("reason", ""))
            self._result.refused += 1
