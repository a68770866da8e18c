"""Limits before the call: short windows are counted in Redis by all workers together, long ones from messages in PostgreSQL.

When Redis does not answer, each process counts for itself with half of each limit; when its counters are younger than a window
(first use, or a flush), half of the limit holds until they are a whole window old. A limit is never exceeded by forgetting.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import redis
import structlog
from sqlalchemy import Connection

from shared.runtime.clock import monotonic

log = structlog.get_logger()

LONG = 3_600.0
"""Windows longer than this are counted from messages."""
AWAY_SECONDS = 2.0
MARKER = "signalbox:quota:since"

# Sliding window of two buckets: what the previous one still weighs, and what the present one has.
# ARGV: now (seconds), then limit and window for each key after the marker. Nothing is counted unless all have room.
_TAKE = """
local now = tonumber(ARGV[1])
local since = tonumber(redis.call('get', KEYS[1]) or '-1')
if since < 0 then redis.call('set', KEYS[1], ARGV[1]); since = now end
local wait = 0
for i = 2, #KEYS do
  local limit, per = tonumber(ARGV[2 * i - 2]), tonumber(ARGV[2 * i - 1])
  if now - since < per then limit = math.max(1, math.floor(limit / 2)) end
  local slot = math.floor(now / per)
  local here = tonumber(redis.call('get', KEYS[i] .. ':' .. slot) or '0')
  local before = tonumber(redis.call('get', KEYS[i] .. ':' .. (slot - 1)) or '0')
  local weight = 1 - (now - slot * per) / per
  if here + before * weight + 1 > limit then
    wait = math.max(wait, here + 1 > limit and (slot + 1) * per - now or per * 0.1, 0.05)
  end
end
if wait > 0 then return tostring(wait) end
for i = 2, #KEYS do
  local per = tonumber(ARGV[2 * i - 1])
  local key = KEYS[i] .. ':' .. math.floor(now / per)
  redis.call('incr', key)
  redis.call('expire', key, math.ceil(per * 2))
end
return '0'
"""
_COUNT = """
select count(*) as sent, min(sent_at) as oldest from (
    select sent_at from notifier.message
    where recipient = %(recipient)s and provider = %(provider)s and sent_at > %(after)s
    order by id desc limit %(limit)s
) m
"""
_COUNT_ALL = """
select count(*) as sent, min(sent_at) as oldest from notifier.message where provider = %(provider)s and sent_at > %(after)s
"""


@dataclass(frozen=True, slots=True)
class Ask:
    """One message under one quota. `of` is the sender's or recipient's address; `recipient` the recipient's id."""

    provider: str
    scope: str
    of: str
    recipient: str
    limit: int
    per_seconds: float

    @property
    def key(self) -> str:
        return f"signalbox:quota:{self.provider}:{self.scope}:{self.of}:{self.per_seconds:g}"


@dataclass(slots=True)
class Limits:
    """Shared by the lanes of a process."""

    redis_url: str | None = None
    _client: redis.Redis | None = None
    _away_until: float = 0.0
    _own: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Key -> (slot, count in it, count in the one before), where Redis does not count."""
    _totals: dict[str, tuple[float, int, datetime | None]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, connection: Connection, asks: Sequence[Ask], now: datetime) -> float:
        """Count one message under all its quotas: 0 when it may go, else the seconds until it is worth asking again."""
        if not asks:
            return 0.0
        with self._lock:
            for ask in asks:
                if ask.per_seconds > LONG and (wait := self._long(connection, ask, now)) > 0:
                    return wait
            short = [ask for ask in asks if ask.per_seconds <= LONG]
            return self._short(short, now.timestamp()) if short else 0.0

    def _short(self, asks: Sequence[Ask], now: float) -> float:
        if self.redis_url is not None and monotonic() >= self._away_until:
            try:
                if self._client is None:
                    self._client = redis.Redis.from_url(self.redis_url, socket_timeout=0.5, socket_connect_timeout=0.5)
                keys = [MARKER, *(ask.key for ask in asks)]
                numbers = [now, *(number for ask in asks for number in (ask.limit, ask.per_seconds))]
                return float(self._client.eval(_TAKE, len(keys), *keys, *numbers))
            except redis.RedisError as error:
                self._away_until = monotonic() + AWAY_SECONDS
                log.warning("limits_count_alone", error=f"{type(error).__name__}: {error}"[:200])
        return self._alone(asks, now)

    def _alone(self, asks: Sequence[Ask], now: float) -> float:
        counts = {}
        for ask in asks:
            slot = int(now // ask.per_seconds)
            known = self._own.get(ask.key, (slot, 0, 0))
            here, before = (known[1], known[2]) if known[0] == slot else (0, known[1] if known[0] == slot - 1 else 0)
            weight = 1 - (now - slot * ask.per_seconds) / ask.per_seconds
            if here + before * weight + 1 > max(1, ask.limit // 2):
                return max(0.05, (slot + 1) * ask.per_seconds - now if here else ask.per_seconds * 0.1)
            counts[ask.key] = (slot, here + 1, before)
        if len(self._own) > 50_000:
            self._own.clear()
        self._own |= counts
        return 0.0

    def _long(self, connection: Connection, ask: Ask, now: datetime) -> float:
        """A daily cap counts messages; that of a whole account is remembered for some seconds and counted on."""
        after = now - timedelta(seconds=ask.per_seconds)
        values = {"provider": ask.provider, "after": after, "recipient": ask.recipient, "limit": ask.limit}
        if ask.scope == "recipient":
            row = connection.exec_driver_sql(_COUNT, values).one()
            sent, oldest = row.sent, row.oldest
        else:
            known = self._totals.get(ask.key)
            if known is None or abs(now.timestamp() - known[0]) > 10:
                row = connection.exec_driver_sql(_COUNT_ALL, values).one()
                known = (now.timestamp(), row.sent, row.oldest)
            sent, oldest = known[1], known[2]
            self._totals[ask.key] = (known[0], sent + (sent < ask.limit), oldest)
        if sent < ask.limit:
            return 0.0
        return max(1.0, min(LONG, ((oldest or now) + timedelta(seconds=ask.per_seconds) - now).total_seconds()))


class NoLimits(Limits):
    """Everything may go: nobody is called."""

    def take(self, connection: Connection, asks: Sequence[Ask], now: datetime) -> float:
        return 0.0
