"""The judge's proxy and sinks do what they say; a judge that is wrong would acquit everybody."""

from __future__ import annotations

import asyncio
import http.client
import smtplib
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
import redis

from tests.support.background import Background
from tests.support.http_sink import Answer, HttpSink
from tests.support.proxy import FaultProxy
from tests.support.smtp_sink import SmtpSink


class Echo(Background):
    """Sends back what comes; counts what came."""

    taken = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            self.taken += data
            writer.write(data)
            await writer.drain()


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        yield server


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy(f"{echo.host}:{echo.port}") as running:
        yield running


def connect(proxy: FaultProxy, timeout_seconds: float = 10.0) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout_seconds)


def ask(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    answer = b""
    while len(answer) < len(data):
        piece = client.recv(65_536)
        if not piece:
            return answer
        answer += piece
    return answer


# ---- proxy ----------------------------------------------------------------------------------------------------------------


def test_a_healthy_proxy_carries_every_byte_and_the_end_of_a_stream(proxy: FaultProxy) -> None:
    data = bytes(range(256)) * 4_000
    with connect(proxy) as client:
        assert ask(client, data) == data
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def test_latency_is_added_in_each_direction(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        ask(client, b"warm")
        proxy.latency_seconds = 0.1
        began = time.monotonic()
        ask(client, b"x")
        assert 0.2 <= time.monotonic() - began < 1.0


def test_a_rate_limits_the_bytes_of_a_second(proxy: FaultProxy) -> None:
    proxy.bytes_per_second = 100_000
    with connect(proxy) as client:
        began = time.monotonic()
        ask(client, b"x" * 20_000)
        assert time.monotonic() - began >= 0.4  # 0.2 s there and 0.2 s back


def test_a_black_hole_says_nothing_and_lets_everything_through_once_it_heals(proxy: FaultProxy, echo: Echo) -> None:
    with connect(proxy) as client:
        ask(client, b"warm")
        proxy.black_hole()
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            ask(client, b"lost?")
        assert echo.taken == b"warm"
        proxy.heal()
        client.settimeout(10)
        assert client.recv(100) == b"lost?"


def test_refusing_resets_old_connections_and_takes_no_new_one_until_it_heals(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        ask(client, b"warm")
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            ask(client, b"x")
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.heal()
    with connect(proxy) as client:
        assert ask(client, b"back") == b"back"


def test_a_reset_strikes_the_connections_of_the_moment_alone(proxy: FaultProxy) -> None:
    with connect(proxy) as old:
        ask(old, b"warm")
        proxy.reset_all()
        with connect(proxy) as fresh:
            assert ask(fresh, b"x") == b"x"
        with pytest.raises(ConnectionResetError):
            ask(old, b"x")


def test_a_connection_is_cut_after_exactly_so_many_bytes(proxy: FaultProxy) -> None:
    proxy.cut_after_bytes = 10
    with connect(proxy) as client:
        client.sendall(b"0123456789abcdef")
        assert client.recv(10, socket.MSG_WAITALL) == b"0123456789"
        with pytest.raises(ConnectionResetError):
            client.recv(1)


@pytest.mark.parametrize("pieces", [[b"say magic word"], [b"say ma", b"gic word"]], ids=["whole", "in two packets"])
def test_the_reply_to_a_matching_request_is_lost_after_it_took_effect(
    proxy: FaultProxy, echo: Echo, pieces: list[bytes]
) -> None:
    proxy.lose_reply(b"magic")
    with connect(proxy) as client:
        *first, last = pieces
        for piece in first:
            assert ask(client, piece) == piece
        with pytest.raises(ConnectionResetError):
            ask(client, last)
    assert echo.taken == b"".join(pieces)
    assert proxy.lost_replies == 1
    with connect(proxy) as client:
        assert ask(client, b"magic") == b"magic"  # only the first was to be struck


def test_a_lost_reply_to_commit_leaves_the_transaction_committed(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as direct, FaultProxy(database_url) as proxy:
        direct.execute("create table public.effect (n int)")
        client = psycopg.connect(proxy.url(database_url))
        client.execute("insert into public.effect values (1)")
        proxy.lose_reply(b"COMMIT")
        with pytest.raises(psycopg.OperationalError):
            client.commit()
        assert direct.execute("select count(*) from public.effect").fetchone() == (1,)


def test_an_url_is_rewritten_with_user_and_path_kept(proxy: FaultProxy) -> None:
    assert proxy.url("postgresql://me:secret@db:5432/signalbox") == (
        f"postgresql://me:secret@127.0.0.1:{proxy.port}/signalbox"
    )
    assert proxy.url("redis://cache:6379/3") == f"redis://127.0.0.1:{proxy.port}/3"


def test_redis_works_through_the_proxy(redis_url: str) -> None:
    with FaultProxy(redis_url) as proxy, redis.Redis.from_url(proxy.url(redis_url)) as client:
        assert client.set("key", b"v" * 200_000)
        assert client.get("key") == b"v" * 200_000
        assert proxy.connections == 1


def test_a_target_that_is_not_there_looks_like_a_reset() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as gone:
        port = gone.getsockname()[1]
    # the reset may come before the client's connect has returned
    with FaultProxy(f"127.0.0.1:{port}") as proxy, pytest.raises(ConnectionResetError), connect(proxy) as client:
        client.recv(1)


# ---- mail sink ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mail() -> Iterator[SmtpSink]:
    with SmtpSink() as sink:
        yield sink


LETTER = "Subject: one\r\nMessage-ID: <1@test>\r\n\r\n.a line that begins with a dot\r\nGrüße\r\n".encode()


def send(sink: SmtpSink, *recipients: str, letter: bytes = LETTER) -> dict[str, tuple[int, bytes]]:
    with smtplib.SMTP(sink.host, sink.port, timeout=10) as client:
        return client.sendmail("from@test", list(recipients), letter)


def test_a_message_is_recorded_byte_for_byte_with_its_envelope(mail: SmtpSink) -> None:
    send(mail, "to@test", "cc@test")
    [message] = mail.messages
    assert (message.sender, message.recipients) == ("from@test", ("to@test", "cc@test"))
    assert message.raw == LETTER.replace(b"\r\n.", b"\r\n..")
    assert message.content == LETTER
    assert message.parsed["Subject"] == "one"
    assert b"rcpt TO:<cc@test>\r\n" in message.envelope
    assert message.acknowledged


def test_the_same_message_twice_is_two_messages(mail: SmtpSink) -> None:
    send(mail, "to@test")
    send(mail, "to@test")
    assert [one.number for one in mail.messages] == [1, 2]
    assert mail.messages[0].arrived_monotonic < mail.messages[1].arrived_monotonic


def test_a_cut_after_the_dot_keeps_the_message_and_tells_nobody(mail: SmtpSink) -> None:
    mail.cut_after_dot = 1
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionResetError)):
        send(mail, "to@test")
    assert [(one.content, one.acknowledged) for one in mail.messages] == [(LETTER, False)]
    send(mail, "to@test")
    assert [one.acknowledged for one in mail.messages] == [False, True]


def test_a_recipient_may_be_refused_while_others_are_taken(mail: SmtpSink) -> None:
    mail.recipient_replies["no@test"] = "550 5.1.1 no such user"
    assert send(mail, "no@test", "yes@test") == {"no@test": (550, b"5.1.1 no such user")}
    assert [one.recipients for one in mail.messages] == [("yes@test",)]


@pytest.mark.parametrize("reply", ["451 4.3.0 try later", "554 5.6.0 refused"])
def test_a_message_refused_after_its_dot_is_recorded_as_not_taken(mail: SmtpSink, reply: str) -> None:
    mail.final_replies["to@test"] = reply
    with pytest.raises(smtplib.SMTPDataError, match=reply[:3]):
        send(mail, "to@test")
    assert [one.reply for one in mail.messages] == [reply]
    assert mail.acknowledged == []


def test_the_answer_to_the_dot_can_be_late(mail: SmtpSink) -> None:
    mail.delay_seconds = 0.2
    began = time.monotonic()
    send(mail, "to@test")
    assert time.monotonic() - began >= 0.2


# ---- HTTP sink ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def web() -> Iterator[HttpSink]:
    with HttpSink() as sink:
        yield sink


def post(sink: HttpSink, path: str, body: bytes = b"{}", **headers: str) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection(sink.host, sink.port, timeout=10)) as client:
        client.request("POST", path, body, headers)
        answer = client.getresponse()
        return answer.status, answer.read()


def test_a_request_is_recorded_byte_for_byte(web: HttpSink) -> None:
    assert post(web, "/hook?a=1", b'{"n": 1}\x00\xff', signature="v1,abc") == (200, b"{}")
    [request] = web.requests
    assert (request.method, request.path, request.body) == ("POST", "/hook?a=1", b'{"n": 1}\x00\xff')
    assert request.headers["signature"] == "v1,abc"
    assert request.head.startswith(b"POST /hook?a=1 HTTP/1.1\r\n")
    assert request.acknowledged


def test_a_chunked_body_is_kept_as_sent_and_as_meant(web: HttpSink) -> None:
    with closing(http.client.HTTPConnection(web.host, web.port, timeout=10)) as client:
        client.request("POST", "/", iter([b"first", b"second"]), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        assert client.getresponse().status == 200
    assert web.requests[0].body == b"firstsecond"
    assert web.requests[0].raw_body == b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n"


def test_several_requests_come_over_one_connection_and_equal_ones_are_all_kept(web: HttpSink) -> None:
    with closing(http.client.HTTPConnection(web.host, web.port, timeout=10)) as client:
        for _ in range(3):
            client.request("POST", "/same", b"x")
            client.getresponse().read()
    assert (len(web.to("/same")), web.connections) == (3, 1)


def test_answers_follow_the_script_of_the_longest_path_that_fits(web: HttpSink) -> None:
    web.script("/", then=Answer(404))
    web.script("/sms", Answer(503, headers={"Retry-After": "1"}), Answer(200), then=Answer(201, b"made"))
    assert [post(web, "/sms/x")[0] for _ in range(4)] == [503, 200, 201, 201]
    assert post(web, "/other")[0] == 404
    assert [one.status for one in web.requests] == [503, 200, 201, 201, 404]


def test_an_answer_may_depend_on_the_request(web: HttpSink) -> None:
    web.script("/", then=lambda request: Answer(422 if b"bad" in request.body else 200))
    assert [post(web, "/", body)[0] for body in (b"good", b"bad")] == [200, 422]


def test_a_cut_after_the_body_records_the_request_as_not_acknowledged(web: HttpSink) -> None:
    web.script("/", Answer(cut=True))
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        post(web, "/hook", b"took effect")
    assert [(one.body, one.acknowledged) for one in web.requests] == [(b"took effect", False)]


def test_an_answer_can_be_late(web: HttpSink) -> None:
    web.script("/", Answer(delay_seconds=0.2))
    began = time.monotonic()
    post(web, "/")
    assert time.monotonic() - began >= 0.2
