"""A fake HTTP/2 server (prior knowledge), written apart from the client: its own frames, its own reading of literal header blocks.

It answers with an entry of the dynamic table and Huffman strings, as real servers do; it can refuse streams, go away,
and cut.
"""

from __future__ import annotations

import asyncio
import json
import struct

from tests.fakes.server import Answer, FakeProvider, Recorded

# The static entries our kinds of request use (RFC 7541, appendix A).
_STATIC = {
    1: ":authority",
    3: ":method",
    4: ":path",
    6: ":scheme",
    7: ":scheme",
    23: "authorization",
    31: "content-type",
}
_PAIRS = {3: (":method", "POST"), 6: (":scheme", "http"), 7: (":scheme", "https")}
# `server: fake`, its value as a Huffman string: f (100101) a (00011) k (1110101) e (00101), padded with ones.
_SERVER = b"\x76" + bytes([0x80 | 3]) + int("1001010001111101010010" + "1" + "1", 2).to_bytes(3, "big")


def read_block(block: bytes) -> dict[str, str]:
    """Indexed fields of a few static entries, and literals without indexing."""
    found: dict[str, str] = {}
    at = 0

    def integer(bits: int) -> int:
        nonlocal at
        limit = (1 << bits) - 1
        value = block[at] & limit
        at += 1
        if value < limit:
            return value
        shift = 0
        while True:
            byte = block[at]
            at += 1
            value += (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def string() -> str:
        nonlocal at
        assert not block[at] & 0x80, "our client sends no Huffman strings"
        size = integer(7)
        at += size
        return block[at - size : at].decode("latin-1")

    while at < len(block):
        if block[at] & 0x80:
            name, value = _PAIRS[integer(7)]
        else:
            assert block[at] & 0xE0 == 0, "our client indexes nothing"
            index = integer(4)
            name = _STATIC[index] if index else string()
            value = string()
        found[name] = value
    return found


class FakeHttp2(FakeProvider):
    """Base of the HTTP/2 fakes: `handle` as over HTTP/1.1."""

    max_streams = 50

    def __init__(self) -> None:
        super().__init__()
        self.refuse_streams = 0  # so many are refused unprocessed
        self.go_away_after = 0  # streams of a connection before it goes away; later ones are not processed
        self.most_streams = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        try:
            await _Connection(self, reader, writer).run()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class _Connection:
    def __init__(self, fake: FakeHttp2, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.fake, self.reader, self.writer = fake, reader, writer
        self.headers: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.active = 0
        self.seen = 0
        self.greeted = False
        self.tasks: set[asyncio.Task[None]] = set()

    def frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self.writer.write(len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload)

    async def run(self) -> None:
        assert await self.reader.readexactly(24) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        self.frame(4, 0, 0, struct.pack(">HI", 3, self.fake.max_streams))
        while True:
            head = await self.reader.readexactly(9)
            payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
            self.take(head[3], head[4], int.from_bytes(head[5:], "big"), payload)

    def take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == 4 and not flags & 1:
            self.frame(4, 1, 0, b"")
            self.frame(6, 0, 0, b"pingping")
        elif kind == 1:
            self.headers[stream] = read_block(payload)
            self.bodies[stream] = b""
        elif kind == 0:
            self.bodies[stream] += payload
            if payload:
                self.frame(8, 0, 0, struct.pack(">I", len(payload)))
        if kind in (0, 1) and flags & 1:
            self.begin(stream)

    def begin(self, stream: int) -> None:
        fake = self.fake
        self.seen += 1
        if fake.refuse_streams > 0:
            fake.refuse_streams -= 1
            self.frame(3, 0, stream, struct.pack(">I", 7))
            return
        if fake.go_away_after and self.seen > fake.go_away_after:
            if self.seen == fake.go_away_after + 1:
                self.frame(7, 0, 0, struct.pack(">II", stream - 2, 0))
            return
        self.active += 1
        fake.most_streams = max(fake.most_streams, self.active)
        task = asyncio.get_running_loop().create_task(self.answer(stream))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def answer(self, stream: int) -> None:
        fake, headers = self.fake, self.headers.pop(stream)
        path, _, query = headers[":path"].partition("?")
        request = Recorded(headers[":method"], path, query, headers, self.bodies.pop(stream))
        fake.recorded.append(request)
        answer = fake.scripted.popleft() if fake.scripted else fake.handle(request)
        await asyncio.sleep(fake.delay_seconds)
        self.active -= 1
        if fake.cut_after_body > 0:
            fake.cut_after_body -= 1
            self.writer.transport.abort()
            return
        self.reply(stream, answer)

    def reply(self, stream: int, answer: Answer) -> None:
        body = (
            answer.raw
            if answer.raw is not None
            else json.dumps(answer.body).encode()
            if answer.body is not None
            else b""
        )
        block = b"\x88" if answer.status == 200 else b"\x08\x03" + str(answer.status).encode()
        block += _SERVER if not self.greeted else b"\xbe"  # then the entry it made in the dynamic table
        self.greeted = True
        for name, value in answer.headers.items():
            block += b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        half = len(block) // 2
        self.frame(1, 0 if body else 1, stream, block[:half])  # in two pieces, as long blocks come
        self.frame(9, 4, stream, block[half:])
        if body:
            self.frame(0, 9, stream, b"\x03" + body + b"\0\0\0")  # padded
