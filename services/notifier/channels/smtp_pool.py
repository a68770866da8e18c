"""The pool of SMTP connections to one server: one queue of mails, taken by whichever connection is free."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque

from services.notifier.channels.smtp_client import Job, Reply, Server, SmtpConnection
from services.notifier.errors import NotWritten, TokenRefused


class SmtpPool:
    """At most `limit` connections to one server; mails wait in one queue and are taken by whichever connection is free."""

    def __init__(self, server: Server, limit: int, idle_seconds: float = 60.0) -> None:
        self._server = server
        self._limit = limit
        self._idle_seconds = idle_seconds
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Job] = deque()
        self._idle: list[tuple[SmtpConnection, float]] = []
        self._open = 0
        self._opening: set[asyncio.Task[None]] = set()
        self._closed = False

    def submit(self, sender: bytes, recipient: bytes, data: bytes, envelope_id: bytes) -> asyncio.Future[Reply]:
        """Queue one mail; the future has the server's answer, or fails with `NotWritten`, `NoAnswer` or `TokenRefused`."""
        done: asyncio.Future[Reply] = self._loop.create_future()
        job = Job(sender, recipient, data, envelope_id, done)
        connection = self._rested()
        if connection is not None:
            connection.start(job)
            return done
        self._queue.append(job)
        self._grow()
        return done

    def _rested(self) -> SmtpConnection | None:
        horizon = self._loop.time() - self._idle_seconds
        while self._idle:
            connection, since = self._idle.pop()
            if connection.closed:
                continue
            if since >= horizon:
                return connection
            self._open -= 1
            connection.quit()
        return None

    def _grow(self) -> None:
        if self._open < self._limit and len(self._opening) < len(self._queue):
            self._open += 1
            task = self._loop.create_task(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        server = self._server
        connection: SmtpConnection | None = None
        try:
            async with asyncio.timeout(server.connect):
                context = (server.context or ssl.create_default_context()) if server.tls else None
                _, connection = await self._loop.create_connection(
                    lambda: SmtpConnection(self, server), server.host, server.port, ssl=context
                )
                await connection.greet()
        except asyncio.CancelledError:
            self._refused(connection, NotWritten("the channel is closing"))
            raise
        except TimeoutError:
            self._refused(connection, NotWritten("timed out connecting"))
        except OSError as error:
            self._refused(connection, NotWritten(f"cannot connect: {error.strerror or type(error).__name__}"))
        except (NotWritten, TokenRefused) as error:
            self._refused(connection, error)
        else:
            job = self.next_job()
            if job is not None:
                connection.start(job)
            else:
                self.rests(connection)

    def _refused(self, connection: SmtpConnection | None, error: Exception) -> None:
        self._open -= 1
        if connection is not None:
            connection.abort()
        if self._open == 0 or isinstance(error, TokenRefused):  # nobody is left to take what waits
            self._fail_queue(error)

    def _fail_queue(self, error: Exception) -> None:
        while self._queue:
            job = self._queue.popleft()
            if not job.done.done():
                job.done.set_exception(error)

    # what connections call

    def next_job(self) -> Job | None:
        """The next mail somebody still waits for."""
        while self._queue:
            job = self._queue.popleft()
            if not job.done.done():
                return job
        return None

    def rests(self, connection: SmtpConnection) -> None:
        """A connection has nothing to do."""
        if self._closed:
            self._open -= 1
            connection.quit()
        else:
            self._idle.append((connection, self._loop.time()))

    def ended(self, connection: SmtpConnection, unfinished: list[Job]) -> None:
        """A connection is gone; a mail whose data was not written goes to another one, once."""
        kept = [entry for entry in self._idle if entry[0] is not connection]
        self._idle = kept
        self._open -= 1
        for job in unfinished:
            if job.done.done():
                continue
            if job.again and not self._closed:
                job.again, job.refusal = False, None
                self._queue.appendleft(job)
            else:
                job.done.set_exception(NotWritten("connection lost before the mail was written"))
        if self._queue:
            self._grow()

    async def close(self) -> None:
        """End connections at rest; what is in flight is finished first by its callers."""
        self._closed = True
        for connection, _ in self._idle:
            connection.quit()
        self._idle.clear()
        for task in tuple(self._opening):
            task.cancel()
        self._fail_queue(NotWritten("the channel is closing"))
