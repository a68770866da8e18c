"""Doorbells: a Dramatiq broker over blocking pops on Redis lists.

A doorbell says only *there is work for service S in lane L*. It carries nothing, so it needs no acknowledgement, no retry, no
result and no delay; a lost one costs a sweep. Dramatiq's own Redis broker polls with a back-off (0.26 s at the median for a
lone message) and acknowledges; this one picks up in well under a millisecond and is done.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from queue import Empty, PriorityQueue
from typing import Any, cast

import dramatiq
import redis
from dramatiq.errors import BrokerConnectionError

from shared.runtime import metrics
from shared.runtime.clock import monotonic

MAX_BELLS = 16
"""Unheard bells kept for each lane: one for each worker that might wake, and then some."""
BLOCK_SECONDS = 20.0
"""How long a pop waits for a bell: each return without one is work for nothing, in this process and in Redis."""
BREAK_SECONDS = 1.0
"""How long ringing is given up after a failure, so that a dead Redis costs a request nothing."""


def queue_name(service: str, lane: str) -> str:
    """`router.urgent`."""
    return f"{service}.{lane}"


class Bells:
    """Rings doorbells after a commit: best effort, at most half a second, behind a breaker. Threads may share one."""

    def __init__(self, url: str | None, namespace: str = "signalbox") -> None:
        self._client = (
            None
            if url is None
            else redis.Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.3, health_check_interval=0)
        )
        self._namespace = namespace
        self._closed_until = 0.0
        self._encoded: dict[tuple[str, str], bytes] = {}

    @property
    def healthy(self) -> bool:
        """False while the breaker is open (or there is no Redis at all)."""
        return self._client is not None and monotonic() >= self._closed_until

    def ring(self, targets: Iterable[tuple[str, str]]) -> bool:
        """Ring each (service, lane); False when Redis could not be reached. Never raises for a broken Redis."""
        if not self.healthy or self._client is None:
            return False
        pipe = self._client.pipeline(transaction=False)
        for service, lane in targets:
            key = f"{self._namespace}:{queue_name(service, lane)}"
            pipe.rpush(key, self._message(service, lane))
            pipe.ltrim(key, -MAX_BELLS, -1)
        try:
            pipe.execute()
        except redis.RedisError:
            self._closed_until = monotonic() + BREAK_SECONDS
            metrics.REDIS_UP.set(0)
            return False
        metrics.REDIS_UP.set(1)
        return True

    def _message(self, service: str, lane: str) -> bytes:
        known = self._encoded.get((service, lane))
        if known is None:
            name = queue_name(service, lane)
            message: dramatiq.Message[Any] = dramatiq.Message(
                queue_name=name, actor_name=name, args=(), kwargs={}, options={}, message_id="bell", message_timestamp=0
            )
            known = self._encoded[(service, lane)] = message.encode()
        return known


class DoorbellBroker(dramatiq.Broker):
    """The broker that a service's worker listens on. Delays and retries are refused: time lives in the agenda."""

    def __init__(self, url: str, namespace: str = "signalbox") -> None:
        super().__init__(middleware=[])
        self.url = url
        self.namespace = namespace
        self._listening: list[DoorbellConsumer] = []

    def declare_queue(self, queue_name: str) -> None:
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = None
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        if delay is not None:
            raise NotImplementedError("doorbells know no delay: set due_at in the agenda")
        client = redis.Redis.from_url(self.url, socket_timeout=0.5)
        client.rpush(f"{self.namespace}:{message.queue_name}", message.encode())
        return message

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 1000) -> dramatiq.Consumer:
        consumer = DoorbellConsumer(self.url, f"{self.namespace}:{queue_name}", max(timeout, BLOCK_SECONDS * 1000))
        self._listening.append(consumer)
        return consumer

    def hang_up(self) -> None:
        """End every pop that waits, for good."""
        for consumer in self._listening:
            consumer.hang_up()

    def get_declared_queues(self) -> set[str]:
        return set(self.queues)

    def flush(self, queue_name: str) -> None:
        redis.Redis.from_url(self.url).delete(f"{self.namespace}:{queue_name}")

    def flush_all(self) -> None:
        for name in self.queues:
            self.flush(name)


class Heard(PriorityQueue[Any]):
    """What a Dramatiq worker's threads wait on: until a bell is heard or it is closed, however long that is.

    By themselves each of them comes round every second to see whether it is to stop, in an idle process for nothing.
    """

    _closed = False

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The next bell; a time-out is not minded.

        Raises:
            Empty: it is closed, or there is none and `block` is false.
        """
        with self.not_empty:
            while block and not self._closed and not self._qsize():
                self.not_empty.wait()
            if not self._qsize():
                raise Empty
            return self._get()

    def close(self) -> None:
        """Wake whoever waits, for good."""
        with self.not_empty:
            self._closed = True
            self.not_empty.notify_all()


class DoorbellConsumer(dramatiq.Consumer):
    """Blocks on one list. Bells that lie behind the one it takes are left: other workers of the lane may hear them."""

    def __init__(self, url: str, key: str, timeout_ms: float) -> None:
        self._timeout = max(0.1, timeout_ms / 1000)
        # the socket's time-out must outlast the blocking pop, or an idle queue looks like a broken one
        self._client = redis.Redis.from_url(url, socket_timeout=self._timeout + 2, socket_connect_timeout=1)
        self._key = key
        self._closed = threading.Event()

    def __next__(self) -> dramatiq.MessageProxy | None:
        if self._closed.is_set():
            return None
        try:
            popped = self._client.blpop([self._key], timeout=self._timeout)
        except (redis.RedisError, OSError) as error:
            if self._closed.is_set():
                return None  # the socket was taken from under the pop: this process stops
            metrics.REDIS_UP.set(0)
            raise BrokerConnectionError(str(error)) from error  # type: ignore[no-untyped-call]
        metrics.REDIS_UP.set(1)
        if popped is None:
            return None
        try:
            return dramatiq.MessageProxy(dramatiq.Message.decode(cast(bytes, popped[1])))
        except Exception:
            return None  # a foreign or broken bell: nothing depends on it

    def ack(self, message: dramatiq.MessageProxy) -> None:
        """Nothing to do: the agenda knows what was done."""

    def nack(self, message: dramatiq.MessageProxy) -> None:
        """Nothing to do: the sweep rings again."""

    def requeue(self, messages: Iterable[dramatiq.MessageProxy]) -> None:
        """Nothing to do: the sweep rings again."""

    def hang_up(self) -> None:
        """End the pop that waits, from another thread."""
        self._closed.set()
        self._client.connection_pool.disconnect(inuse_connections=True)

    def close(self) -> None:
        self._closed.set()
        self._client.close()
