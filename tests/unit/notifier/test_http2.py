"""HTTP/2: header compression by the standard's own examples, and what becomes of streams when a server refuses, leaves
or breaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.channels import hpack
from services.notifier.channels.http import Response, split_url
from services.notifier.channels.http2 import Http2Client
from services.notifier.errors import NoAnswer, NotWritten
from tests.fakes.http2 import FakeHttp2, read_block
from tests.fakes.server import Answer, Recorded

REQUESTS = [  # RFC 7541, C.4: one connection, Huffman strings
    ("828684418cf1e3c2e5f23a6ba0ab90f4ff", {b":authority": b"www.example.com", b":path": b"/"}),
    ("828684be5886a8eb10649cbf", {b":authority": b"www.example.com", b"cache-control": b"no-cache"}),
    ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", {b":path": b"/index.html", b"custom-key": b"custom-value"}),
]
RESPONSES = [  # RFC 7541, C.6: a table of 256 bytes, with evictions
    (
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        {b":status": b"302", b"cache-control": b"private", b"location": b"https://www.example.com"},
    ),
    (
        "4883640effc1c0bf",
        {b":status": b"307", b"date": b"Mon, 21 Oct 2013 20:13:21 GMT", b"location": b"https://www.example.com"},
    ),
]


@pytest.mark.parametrize(("blocks", "size"), [(REQUESTS, 4096), (RESPONSES, 256)])
def test_header_blocks_are_read_as_in_the_standards_examples(
    blocks: list[tuple[str, dict[bytes, bytes]]], size: int
) -> None:
    decoder = hpack.Decoder(size)
    for block, expected in blocks:
        found = dict(decoder.decode(bytes.fromhex(block)))
        assert expected.items() <= found.items()


def test_there_are_61_static_entries_and_each_code_has_its_symbol() -> None:
    assert len(hpack.STATIC) == 61
    assert hpack.STATIC[22] == (b"authorization", b"")
    assert sorted(hpack._HUFFMAN.values()) == list(range(257))


names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12).map(str.encode)
values = st.binary(max_size=200)


@given(st.lists(st.tuples(names, values), max_size=8))
def test_what_is_encoded_is_decoded(headers: list[tuple[bytes, bytes]]) -> None:
    assert hpack.Decoder().decode(hpack.encode(headers)) == headers


@given(st.binary(max_size=100))
def test_no_block_makes_the_decoder_fail_otherwise_than_by_refusing(block: bytes) -> None:
    try:
        hpack.Decoder().decode(block)
    except hpack.HpackError:
        return


def test_credentials_are_marked_never_to_be_indexed() -> None:
    assert hpack.encode([(b"authorization", b"bearer x")])[0] & 0xF0 == 0x10
    assert read_block(hpack.encode([(b"authorization", b"bearer x")])) == {"authorization": "bearer x"}


class Echo(FakeHttp2):
    def handle(self, request: Recorded) -> Answer:
        return Answer(200, {"got": request.body.decode()})


def play(story: Callable[[Http2Client, Echo], Awaitable[None]], connections: int = 1) -> None:
    async def run() -> None:
        async with Echo() as fake:
            client = Http2Client(split_url(fake.url)[0], connections=connections)
            await story(client, fake)
            await client.close()

    asyncio.run(run())


async def post(client: Http2Client, number: int, timeout: float = 2.0) -> Response | Exception:
    try:
        return await client.post("/x", [("apns-topic", "t")], b"%d" % number, timeout)
    except (NotWritten, NoAnswer) as error:
        return error


def test_hundreds_of_streams_share_a_connection_within_the_servers_limit() -> None:
    async def story(client: Http2Client, fake: Echo) -> None:
        fake.max_streams = 20
        answers = await asyncio.gather(*(post(client, n) for n in range(300)))
        assert [answer.json()["got"] for answer in answers if isinstance(answer, Response)] == [
            str(n) for n in range(300)
        ]
        assert fake.connections == 1
        assert fake.most_streams <= 20

    play(story)


def test_a_refused_stream_was_not_processed() -> None:
    async def story(client: Http2Client, fake: Echo) -> None:
        fake.refuse_streams = 1
        assert isinstance(await post(client, 1), NotWritten)
        assert isinstance(await post(client, 2), Response)

    play(story)


def test_streams_above_the_last_of_a_goaway_were_not_processed_and_the_rest_goes_on_elsewhere() -> None:
    async def story(client: Http2Client, fake: Echo) -> None:
        fake.go_away_after = 5
        answers = await asyncio.gather(*(post(client, n) for n in range(8)))
        assert [type(answer) for answer in answers] == [Response] * 5 + [NotWritten] * 3
        fake.go_away_after = 0
        assert isinstance(await post(client, 9), Response)
        assert fake.connections == 2

    play(story)


def test_a_cut_connection_leaves_streams_without_answer_and_is_replaced() -> None:
    async def story(client: Http2Client, fake: Echo) -> None:
        fake.cut_after_body = 1
        assert isinstance(await post(client, 1), NoAnswer)
        assert isinstance(await post(client, 2), Response)
        assert fake.connections == 2

    play(story)


def test_silence_is_no_answer_and_the_connection_lives_on() -> None:
    async def story(client: Http2Client, fake: Echo) -> None:
        fake.delay_seconds = 0.3
        assert isinstance(await post(client, 1, timeout=0.05), NoAnswer)
        fake.delay_seconds = 0.0
        assert isinstance(await post(client, 2), Response)
        assert fake.connections == 1

    play(story)


def test_a_server_of_another_protocol_is_not_written_to() -> None:
    async def run() -> None:
        async def smtp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 smtp\r\n")
            writer.close()

        server = await asyncio.start_server(smtp, "127.0.0.1", 0)
        client = Http2Client(
            split_url(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")[0], connect_seconds=1.0
        )
        with pytest.raises(NotWritten):
            await client.post("/", (), b"", 1.0)
        server.close()

    asyncio.run(run())


@given(st.binary(max_size=120))
def test_no_bytes_of_a_server_leave_a_request_hanging(noise: bytes) -> None:
    async def run() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(24)
            writer.write(b"\0\0\0\x04\0\0\0\0\0" + noise)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = Http2Client(
            split_url(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")[0], connect_seconds=1.0
        )
        assert isinstance(await post(client, 1, timeout=1.0), Exception)
        server.close()

    asyncio.run(run())
