"""The HTTP client: what was written and what was not, kept connections, and answers of every shape."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.notifier.channels.http import MAX_ANSWER_BYTES, HttpClient, Origin, Response, render_request, split_url
from services.notifier.errors import BadReply, ConfigError, NoAnswer, NotWritten

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def ask(
    serve: Serve, *, times: int = 1, timeout: float | Sequence[float] = 2.0, limit: int = 4, together: bool = False
) -> tuple[list[Response | Exception], int]:
    """Send so many requests to a server that answers by `serve`; the answers, and how many connections it saw."""

    async def run() -> tuple[list[Response | Exception], int]:
        seen = 0
        open_writers: list[asyncio.StreamWriter] = []

        async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal seen
            seen += 1
            open_writers.append(writer)
            try:
                await serve(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                writer.close()

        server = await asyncio.start_server(counted, "127.0.0.1", 0)
        origin = Origin(False, "127.0.0.1", server.sockets[0].getsockname()[1])
        client = HttpClient(limit=limit, connect_seconds=1.0)

        async def one(index: int) -> Response | Exception:
            try:
                seconds = timeout if isinstance(timeout, float) else timeout[index]
                return await client.request(origin, "POST", "/x", (), b"body", seconds)
            except (NotWritten, NoAnswer) as error:
                return error

        answers = (
            list(await asyncio.gather(*(one(index) for index in range(times))))
            if together
            else [await one(index) for index in range(times)]
        )
        await client.close()
        for writer in open_writers:
            writer.close()
        server.close()
        return answers, seen

    return asyncio.run(run())


async def request_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(4)


def always(answer: bytes, *, close: bool = False) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request_of(reader)
            writer.write(answer)
            if close:
                await writer.drain()
                writer.close()
                return

    return serve


def test_one_connection_carries_many_requests() -> None:
    answers, connections = ask(always(OK), times=20)
    assert [answer.body for answer in answers if isinstance(answer, Response)] == [b"ok"] * 20
    assert connections == 1


def test_requests_together_use_no_more_connections_than_allowed() -> None:
    answers, connections = ask(always(OK), times=40, limit=4, together=True)
    assert all(isinstance(answer, Response) for answer in answers)
    assert connections <= 4


CLOSING = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
]


@pytest.mark.parametrize("answer", CLOSING)
def test_a_connection_that_cannot_be_trusted_again_is_not_reused(answer: bytes) -> None:
    answers, connections = ask(always(answer, close=b"evil" not in answer), times=3)
    assert [one.body if isinstance(one, Response) else one for one in answers] == [b"ok"] * 3
    assert connections == 3


FRAMINGS = [
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + OK,
]


@pytest.mark.parametrize("answer", FRAMINGS)
def test_chunks_and_interim_answers_are_understood(answer: bytes) -> None:
    answers, connections = ask(always(answer), times=2)
    assert [one.body if isinstance(one, Response) else one for one in answers] == [b"ok", b"ok"]
    assert connections == 1


UNREADABLE = {
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nConte",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok",
    "another protocol": b"220 smtp ready\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
    "too large": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_ANSWER_BYTES * 2)
    + b"x" * (MAX_ANSWER_BYTES + 9),
}


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_answer_that_cannot_be_read_is_no_answer(answer: bytes) -> None:
    [outcome], _ = ask(always(answer, close=True))
    assert isinstance(outcome, NoAnswer)


def test_silence_after_the_request_is_no_answer() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        await reader.read()

    [outcome], _ = ask(silent, timeout=0.1)
    assert isinstance(outcome, NoAnswer)


@pytest.mark.parametrize("first", [0.15, 30.0])
def test_every_request_of_a_connection_has_its_own_time(first: float) -> None:
    """Also where the one before had less, or more and was answered long before."""
    answered = 0

    async def slower(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        while True:
            await request_of(reader)
            if answered == 2:
                await reader.read()
            await asyncio.sleep(0.3 * answered)
            writer.write(OK)
            answered += 1

    began = monotonic()
    (quick, slow, none), connections = ask(slower, times=3, timeout=(first, 2.0, 0.2))
    assert (isinstance(quick, Response), isinstance(slow, Response), isinstance(none, NoAnswer)) == (True, True, True)
    assert connections == 1
    assert monotonic() - began < 2.0


def test_nobody_listening_means_nothing_was_written() -> None:
    async def run() -> None:
        with pytest.raises(NotWritten):
            await HttpClient(connect_seconds=1).request(Origin(False, "127.0.0.1", 1), "GET", "/", (), b"", 1.0)

    asyncio.run(run())


def test_no_free_connection_in_time_means_nothing_was_written() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        await reader.read()

    answers, connections = ask(silent, times=3, limit=1, timeout=0.1, together=True)
    kinds = sorted(type(answer).__name__ for answer in answers)
    assert connections <= 3
    assert "NoAnswer" in kinds
    assert "NotWritten" in kinds


def test_a_cancelled_request_gives_its_place_to_the_next() -> None:
    async def run() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if (await request_of(reader)).startswith(b"POST /slow"):
                await reader.read()
            writer.write(OK)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        origin = Origin(False, "127.0.0.1", server.sockets[0].getsockname()[1])
        client = HttpClient(limit=1)
        slow = asyncio.create_task(client.request(origin, "POST", "/slow", (), b"body", 30.0))
        waiting = asyncio.create_task(client.request(origin, "POST", "/x", (), b"body", 30.0))
        abandoned = asyncio.create_task(client.request(origin, "POST", "/x", (), b"body", 30.0))
        await asyncio.wait((slow,), timeout=0.05)
        abandoned.cancel()
        slow.cancel()
        assert (await waiting).body == b"ok"
        await client.close()
        server.close()

    asyncio.run(run())


INJECTIONS = [
    ("/a b", [], "x"),
    ("/a\r\nHost: evil", [], "x"),
    ("/ü", [], "x"),
    ("/a", [("x-id", "1\r\nevil: 1")], "x"),
    ("/a", [("x-id", "1\nevil: 1")], "x"),
    ("/a", [("x\r\nevil", "1")], "x"),
]


@pytest.mark.parametrize(("path", "headers", "host"), INJECTIONS)
def test_nothing_breaks_out_of_its_line(path: str, headers: list[tuple[str, str]], host: str) -> None:
    with pytest.raises(ConfigError):
        render_request(Origin(False, host, 80), "POST", path, headers, b"")


@settings(max_examples=100)
@given(name=st.text(max_size=8), value=st.text(max_size=12))
def test_no_header_adds_a_line(name: str, value: str) -> None:
    try:
        rendered = render_request(Origin(False, "h", 80), "GET", "/", [(name, value)], b"")
    except ConfigError:
        return
    assert rendered.count(b"\r\n") == 5
    assert rendered.count(b"\n") == 5


@pytest.mark.parametrize(
    "url",
    ["ftp://a/", "http://", "http://u:p@host/", "http://host:99999/", "//host/x", "http://[::1", "javascript:alert(1)"],
)
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        split_url(url)


def test_the_host_header_names_the_port_only_when_unusual() -> None:
    assert split_url("https://a.example/x?y=1") == (Origin(True, "a.example", 443), "/x?y=1")
    assert split_url("https://a.example")[0].authority == "a.example"
    assert split_url("http://[::1]:8080/")[0].authority == "[::1]:8080"


@pytest.mark.parametrize("body", [b"", b"[]", b"nul", b"\xff", b'"x"', b"1" * 5000])
def test_a_body_that_is_no_object_is_a_bad_reply(body: bytes) -> None:
    with pytest.raises(BadReply):
        Response(200, {}, body).json()
