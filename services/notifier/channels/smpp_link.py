"""One bound SMPP connection: a window of unanswered PDUs, keep-alive, receipts answered only once they are stored."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple, cast

from services.notifier.channels import smpp_pdu as pdu
from services.notifier.errors import NoAnswer, NotWritten, TokenRefused
from shared.contracts.providers.receipts import Receipt

REFUSED_BINDS = frozenset((0x05, 0x0D, 0x0E, 0x0F))


class Answer(NamedTuple):
    """The status of a submit_sm and the id it was given."""

    status: int
    message_id: str


Store = Callable[[Receipt], Awaitable[None]]


class SmppLink(asyncio.Protocol):
    """Bound or lost; `submit` waits for a place in the window. `enquire_seconds` is how long the line may be silent."""

    def __init__(self, store: Store | None, window: int, timeout: float, enquire_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._store = store
        self._widest = window
        self._window = float(window)
        self._timeout = timeout
        self._enquire_seconds = enquire_seconds
        self._buffer = b""
        self._sequence = 0
        self._waiting: dict[int, asyncio.Future[pdu.Pdu]] = {}
        self._turns: deque[asyncio.Future[None]] = deque()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._storing: set[asyncio.Task[None]] = set()
        self.closed = False

    # protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(self._enquire_seconds, self._tick)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        try:
            found, self._buffer = pdu.unpack(self._buffer + data)
        except ValueError:
            self.abort()
            return
        for one in found:
            self._handle(one)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(NoAnswer("connection lost with the message unanswered"))
        self._waiting.clear()
        self._wake(len(self._turns))

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None and not self.closed:
            self._transport.abort()

    def _handle(self, one: pdu.Pdu) -> None:
        if one.command & pdu.RESPONSE:
            future = self._waiting.pop(one.sequence, None)
            if future is not None and not future.done():
                future.set_result(one)
            self._wake(1)
        elif one.command == pdu.DELIVER_SM:
            task = self._loop.create_task(self._deliver(one))
            self._storing.add(task)
            task.add_done_callback(self._storing.discard)
        elif one.command == pdu.ENQUIRE_LINK:
            self._write(pdu.pack(pdu.ENQUIRE_LINK | pdu.RESPONSE, one.sequence))
        elif one.command == pdu.UNBIND:
            self._write(pdu.pack(pdu.UNBIND | pdu.RESPONSE, one.sequence))
            assert self._transport is not None
            self._transport.close()
        else:
            self._write(pdu.pack(pdu.GENERIC_NACK, one.sequence, status=0x03))

    async def _deliver(self, one: pdu.Pdu) -> None:
        """Answer after storing; without that, or when it fails, say so, and the centre sends it again."""
        status = 0
        try:
            receipt = pdu.receipt_of(one.body)
            if receipt is not None:
                if self._store is None:
                    status = pdu.RX_T_APPN
                else:
                    await self._store(receipt)
        except (ValueError, IndexError):
            status = 0x08  # not a deliver_sm at all
        except Exception:
            status = pdu.RX_T_APPN
        self._write(pdu.pack(pdu.DELIVER_SM | pdu.RESPONSE, one.sequence, b"\0", status))

    def _tick(self) -> None:
        """Ask when the line is silent; a line silent for three times as long is dead."""
        silent = self._loop.time() - self._heard_at
        if silent > 3 * self._enquire_seconds:
            self.abort()
            return
        if silent >= self._enquire_seconds * 0.9:
            self._sequence += 1
            self._write(pdu.pack(pdu.ENQUIRE_LINK, self._sequence))
        self._timer = self._loop.call_later(self._enquire_seconds, self._tick)

    # requests

    async def bind(self, system_id: str, password: str, system_type: str) -> None:
        """Bind as a transceiver; raises `TokenRefused` or `NotWritten`."""
        try:
            answer = await self._ask(pdu.BIND_TRANSCEIVER, pdu.bind(system_id, password, system_type))
        except NoAnswer as error:
            raise NotWritten(f"no answer to the bind: {error}") from error
        if answer.status in REFUSED_BINDS:
            raise TokenRefused(f"0x{answer.status:02x}", "the centre refused the bind")
        if answer.status:
            raise NotWritten(f"bind status 0x{answer.status:02x}")

    async def submit(self, body: bytes) -> Answer:
        """Send one submit_sm; raises `NotWritten` when it did not leave, `NoAnswer` when it did and nothing came back."""
        if len(self._waiting) >= self._window:
            await self._turn()
        answer = await self._ask(pdu.SUBMIT_SM, body)
        message_id = "" if answer.status or not answer.body else answer.body.split(b"\0")[0].decode("latin-1")
        return Answer(answer.status, message_id)

    def narrow(self) -> None:
        """The centre is throttling: half the window."""
        self._window = max(1.0, self._window / 2)

    def widen(self) -> None:
        """It takes messages: a little more, up to the configured window."""
        self._window = min(float(self._widest), self._window + 1 / self._window)

    async def _turn(self) -> None:
        while not self.closed and len(self._waiting) >= self._window:
            turn: asyncio.Future[None] = self._loop.create_future()
            self._turns.append(turn)
            await turn

    async def _ask(self, command: int, body: bytes) -> pdu.Pdu:
        if self.closed or self._transport is None or self._transport.is_closing():
            raise NotWritten("the connection is closed")
        self._sequence = sequence = self._sequence % 0x7FFFFFFF + 1
        future: asyncio.Future[pdu.Pdu] = self._loop.create_future()
        self._waiting[sequence] = future
        timer = self._loop.call_later(self._timeout, self._expired, sequence)
        self._transport.write(pdu.pack(command, sequence, body))
        try:
            return await future
        finally:
            timer.cancel()
            self._waiting.pop(sequence, None)

    def _expired(self, sequence: int) -> None:
        future = self._waiting.pop(sequence, None)
        if future is not None and not future.done():
            future.set_exception(NoAnswer("timed out waiting for the answer"))
        self._wake(1)

    def _wake(self, count: int) -> None:
        while count > 0 and self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                count -= 1

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self.closed:
            self._transport.write(data)

    def unbind(self) -> None:
        """Leave politely."""
        self._sequence += 1
        self._write(pdu.pack(pdu.UNBIND, self._sequence))
        if self._transport is not None:
            self._transport.close()
