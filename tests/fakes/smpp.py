"""A fake message centre: binds, windows, statuses on demand, parts put together, receipts that are sent again until
answered.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from typing import ClassVar, Self

from tests.fakes.server import Taken, Window


class FakeSmpp:
    throttle_code: ClassVar = "0x58"
    errors: ClassVar = {
        "0x58": "throttled",
        "0x14": "throttled",
        "0x0b": "bad_recipient",
        "0x50": "bad_recipient",
        "0x51": "bad_recipient",
        "0x01": "bad_message",
        "0x43": "bad_message",
        "0x62": "bad_message",
        "0xc0": "bad_message",
        "0xc4": "bad_message",
        "0x0a": "bad_account",
        "0x08": "transient",
        "0x45": "transient",
        "0x64": "transient",
        "0xfe": "transient",
    }

    def __init__(self, system_id: str, password: str) -> None:
        self.system_id, self.password = system_id, password
        self.taken: list[Taken] = []
        self.codings: list[int] = []
        self.parts: dict[tuple[str, int], dict[int, bytes]] = {}
        self.refused_signatures = 0
        self.next_errors: deque[str] = deque()
        self.error_of_address: dict[str, str] = {}
        self.window: Window | None = None
        self.delay_seconds = 0.0
        self.cut_after_body = 0
        self.connections = 0
        self.most_unanswered = 0
        self.receipt_answers: list[int] = []
        self.enquiries = 0
        self.url = ""
        self._ids = 0x1F00
        self._unanswered = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self._replies: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"smpp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.connections += 1
        try:
            while True:
                size, command, status, sequence = struct.unpack(">IIII", await reader.readexactly(16))
                body = await reader.readexactly(size - 16)
                if not self._handle(writer, command, status, sequence, body):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _handle(self, writer: asyncio.StreamWriter, command: int, status: int, sequence: int, body: bytes) -> bool:
        if command == 9:
            system_id, password = body.split(b"\0")[:2]
            good = (system_id.decode(), password.decode()) == (self.system_id, self.password)
            self.refused_signatures += not good
            self._reply(writer, 0x80000009, 0 if good else 0x0E, sequence, b"fake\0" if good else b"")
        elif command == 4:
            self._unanswered += 1
            self.most_unanswered = max(self.most_unanswered, self._unanswered)
            task = asyncio.get_running_loop().create_task(self._submit(writer, sequence, body))
            self._replies.add(task)
            task.add_done_callback(self._replies.discard)
        elif command == 0x15:
            self.enquiries += 1
            self._reply(writer, 0x80000015, 0, sequence, b"")
        elif command == 0x80000005:
            self.receipt_answers.append(status)
        elif command == 6:
            self._reply(writer, 0x80000006, 0, sequence, b"")
            return False
        return True

    async def _submit(self, writer: asyncio.StreamWriter, sequence: int, body: bytes) -> None:
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        else:
            await asyncio.sleep(0)
        status, message_id = self._take(body)
        self._unanswered -= 1
        if self.cut_after_body > 0:
            self.cut_after_body -= 1
            writer.transport.abort()
            return
        self._reply(writer, 0x80000004, status, sequence, b"" if status else message_id.encode() + b"\0")

    def _take(self, body: bytes) -> tuple[int, str]:
        _service, rest = body.split(b"\0", 1)
        _sender, rest = rest[2:].split(b"\0", 1)
        raw, rest = rest[2:].split(b"\0", 1)
        address = raw.decode()
        esm_class = rest[0]
        _schedule, rest = rest[3:].split(b"\0", 1)
        _validity, rest = rest.split(b"\0", 1)
        coding, size = rest[2], rest[4]
        message = rest[5 : 5 + size]
        if self.window is not None and not self.window.admit(time.monotonic()):
            return 0x58, ""
        if self.next_errors:
            return int(self.next_errors.popleft(), 16), ""
        if code := self.error_of_address.get(address):
            return int(code, 16), ""
        self._ids += 1
        message_id = f"{self._ids:08X}"
        self.codings.append(coding)
        if esm_class & 0x40:
            reference, total, number = message[3], message[4], message[5]
            known = self.parts.setdefault((address, reference), {})
            known[number] = message[6:]
            if len(known) < total:
                return 0, message_id
            message = b"".join(known[index] for index in sorted(known))
        text = message.decode("utf-16-be") if coding == 8 else message.decode("latin-1")
        self.taken.append(Taken("+" + address, message_id, text))
        return 0, message_id

    def _reply(self, writer: asyncio.StreamWriter, command: int, status: int, sequence: int, body: bytes) -> None:
        writer.write(struct.pack(">IIII", 16 + len(body), command, status, sequence) + body)

    def send_receipt(self, taken: Taken, stat: str = "DELIVRD", *, decimal: bool = True) -> None:
        """A deliver_sm over the last connection; the id in decimal, as many centres write it."""
        number = str(int(taken.provider_id, 16)) if decimal else taken.provider_id
        text = f"id:{number} sub:001 dlvrd:001 submit date:2611241200 done date:2611241201 stat:{stat} err:000 text:...".encode()
        address = taken.address.lstrip("+").encode()
        body = (
            b"\0\x01\x01"
            + address
            + b"\0\x00\x00sla\0"
            + b"\x04\0\0"
            + b"\0\0"
            + b"\0\0\0\0"
            + bytes([len(text)])
            + text
        )
        self._reply(self._writers[-1], 5, 0, 7, body)
