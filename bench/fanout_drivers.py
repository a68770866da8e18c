"""What sending alone costs: each driver against the least a sink can do, CPU of this process for each, ratio to raw.

    python bench/fanout_drivers.py [--seconds 2] [--only smtp,wecom_app]

Sinks are those of bench/reference/notify_limits (own process). A row is: case, recipients sent, rate, ratio to the
raw client of the same run, client CPU each. Targets: at most 250 us a single delivery, 15 us a recipient of a batched
SMS. Quote the ratio and the CPU, not the rate.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from services.notifier.channels import registry
from services.notifier.channels.base import Content, Driver, Kind, Message, Net, Options
from services.notifier.channels.http import HttpClient
from tests.support.door import free_port

SINKS = Path(__file__).parent / "reference" / "notify_limits" / "sinks.py"
HTTP_PORT, SMTP_PORT, HTTP2_PORT, SMPP_PORT = (free_port() for _ in range(4))
SECRET = "whsec_" + base64.b64encode(b"0" * 32).decode()
OK = (
    '{"errcode":0,"code":0,"access_token":"t","tenant_access_token":"t","expires_in":7200,"msgid":"m","task_id":1,'
    '"Code":"OK","BizId":"b","data":{"token":"t","expire_time":"4000000000000"}}'
)
UNREAD = (
    "signed_http_sms",
    "tencent_sms",
    "twilio",
    "feishu_app",
    "getui",
)  # the sink's one answer is not theirs: a little is not read
HTML = "<p>Ticket T-1042</p>" * 100

Measured = tuple[int, float, float]


@contextmanager
def sink(kind: str, port: int, *extra: str) -> Iterator[None]:
    """A sink process on a port of 127.0.0.1."""
    command = [sys.executable, str(SINKS), kind, "--port", str(port), *extra]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        yield
    finally:
        process.terminate()
        process.wait(10)


def measure(run: Callable[[], Awaitable[int]]) -> Measured:
    """How many were sent, in which wall and CPU seconds of this process."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def timed() -> Measured:
            cpu, wall = time.process_time(), time.perf_counter()
            sent = await run()
            return sent, time.perf_counter() - wall, time.process_time() - cpu

        return runner.run(timed())


def row(name: str, measured: Measured, base: float | None = None) -> float:
    sent, wall, cpu = measured
    rate = sent / wall
    ratio = f"{rate / base:7.2f}" if base else "   1.00"
    print(f"{name:<52}{sent:>9}{rate:>10.0f}/s{ratio}{cpu / sent * 1e6:>9.1f} us", flush=True)
    return rate


class RawHttp(asyncio.Protocol):
    """One request in flight, nothing parsed: the ceiling."""

    request = b"POST /send HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 300\r\n\r\n" + b"x" * 300

    def __init__(self, end: float, done: asyncio.Future[int]) -> None:
        self.end, self.done, self.count = end, done, 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.count += 1
        if time.perf_counter() < self.end:
            self.transport.write(self.request)
        else:
            self.transport.close()
            self.done.set_result(self.count)


class RawSmtp(asyncio.Protocol):
    """Pipelined transactions of one ready-made mail: the ceiling."""

    envelope = b"MAIL FROM:<sla@example.com>\r\nRCPT TO:<u@example.com>\r\nDATA\r\n"
    mail = b"From: a@example.com\r\nSubject: T-1042\r\n\r\n" + HTML.encode() + b"\r\n.\r\n"

    def __init__(self, end: float, done: asyncio.Future[int]) -> None:
        self.end, self.done, self.count, self.want, self.state = end, done, 0, 1, 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.state < 2:
            self.transport.write((b"EHLO bench\r\n", self.envelope)[self.state])
            self.state, self.want = self.state + 1, 3
            return
        self.want -= data.count(b"\r\n")
        if self.want > 0:
            return
        self.count += self.state == 3
        if time.perf_counter() < self.end:
            self.transport.write(self.mail + self.envelope)
            self.state, self.want = 3, 4
        else:
            self.transport.close()
            self.done.set_result(self.count)


def raw(
    protocol: type[RawHttp] | type[RawSmtp], port: int, connections: int, seconds: float
) -> Callable[[], Awaitable[int]]:
    async def run() -> int:
        loop = asyncio.get_running_loop()
        end = time.perf_counter() + seconds

        async def one() -> int:
            done: asyncio.Future[int] = loop.create_future()
            await loop.create_connection(lambda: protocol(end, done), "127.0.0.1", port)
            return await done

        return sum(await asyncio.gather(*(one() for _ in range(connections))))

    return run


def content(text: str) -> Content:
    return Content(
        title="SLA 预警 T-1042",
        text=text,
        html=HTML,
        variables={"ticket": "T-1042", "minutes": "15"},
        payload=json.dumps({"type": "sla.warned", "data": {"id": "T-1042", "text": text}}).encode(),
    )


def driven(
    name: str, url: str, address: str, batch: int, flight: int, seconds: float, **extra: Any
) -> Callable[[], Awaitable[int]]:
    """`flight` tasks that each send batches of `batch`; every message is new, built outside the loop of sends as the
    sender would.
    """

    async def run() -> int:
        counter = itertools.count()
        net = Net(HttpClient(limit=flight), lambda: datetime.now(UTC), lambda: f"n{next(counter):031d}")
        options = Options(name, url, allow=("127.0.0.0/8",), concurrency=flight, **extra)
        driver: Driver = registry.driver_type(name)(options, net)
        same = content("T-1042 breaches in 15 minutes")
        end = time.perf_counter() + seconds

        async def one() -> int:
            sent = 0
            while time.perf_counter() < end:
                messages = [Message(f"m{next(counter)}", address % index, same) for index in range(batch)]
                outcomes = await driver.send(messages)
                if outcomes[0].kind is not Kind.ACCEPTED and name not in UNREAD:
                    raise RuntimeError(str(outcomes[0]))
                sent += len(outcomes)
            return sent

        total = sum(await asyncio.gather(*(one() for _ in range(flight))))
        await driver.close()
        await net.http.close()
        return total

    return run


def http_cases(seconds: float, wanted: set[str]) -> None:
    url = f"http://127.0.0.1:{HTTP_PORT}"
    aliyun = {"secrets": {"key_id": "k", "key_secret": "s"}, "settings": {"sign_name": "演示", "template": "SMS_1"}}
    tencent = {
        "secrets": {"secret_id": "k", "secret_key": "s"},
        "settings": {"app_id": "1", "sign_name": "Demo", "template": "1"},
    }
    ding = {"secrets": {"app_key": "k", "app_secret": "secret"}, "settings": {"agent_id": 1}}
    wecom = {"secrets": {"corp_id": "c", "corp_secret": "secret"}, "settings": {"agent_id": 1}}
    cases: list[tuple[str, str, int, dict[str, Any]]] = [
        ("webhook", f"{url}/hook?n=%d", 1, {"secrets": {"secret": SECRET}}),
        ("wecom_robot", "ops%d", 1, {"secrets": {"key": "k"}}),
        ("dingtalk_robot", "ops%d", 1, {"secrets": {"token": "t", "secret": "SECx"}}),
        ("feishu_bot", "ops%d", 1, {"secrets": {"hook": "h", "secret": "s"}}),
        ("wecom_app", "user%d", 1, wecom),
        ("wecom_app", "user%d", 1000, wecom),
        ("dingtalk_work", "user%d", 1, ding),
        ("dingtalk_work", "user%d", 100, ding),
        ("aliyun_sms", "185%08d", 1, aliyun),
        ("aliyun_sms", "185%08d", 100, aliyun),
        ("tencent_sms", "+86185%08d", 1, tencent),
        ("tencent_sms", "+86185%08d", 200, tencent),
        (
            "twilio",
            "+1500%07d",
            1,
            {"secrets": {"account_sid": "AC", "auth_token": "t"}, "settings": {"sender": "+15005550006"}},
        ),
        ("feishu_app", "ou_%d", 1, {"secrets": {"app_id": "a", "app_secret": "s"}}),
        ("getui", "cid%d", 1, {"secrets": {"app_key": "a", "master_secret": "s"}}),
        ("signed_http_sms", "+86185%08d", 1, {"secrets": {"secret": SECRET}}),
        ("signed_http_sms", "+86185%08d", 100, {"secrets": {"secret": SECRET}}),
    ]
    with sink("http", HTTP_PORT, "--body", OK):
        base = row("raw HTTP, 64 connections", measure(raw(RawHttp, HTTP_PORT, 64, seconds)))
        for name, address, batch, extra in cases:
            if not wanted or name in wanted:
                flight = 64 if batch == 1 else 8
                row(
                    f"{name}, {batch} a call",
                    measure(driven(name, url, address, batch, flight, seconds, **extra)),
                    base,
                )


def push_cases(seconds: float) -> None:
    key = base64.urlsafe_b64encode((11).to_bytes(32, "big")).decode()
    settings = {"key_id": "K", "team_id": "T", "topic": "com.example.desk"}
    with sink("http2", HTTP2_PORT):
        run = driven(
            "apns",
            f"http://127.0.0.1:{HTTP2_PORT}",
            "%064x",
            1,
            100,
            seconds,
            secrets={"private_key": key},
            settings=settings,
        )
        row("apns, 100 in flight over 2 connections", measure(run))
    with sink("smpp", SMPP_PORT):
        secrets = {"system_id": "e", "password": "p"}
        for window in (10, 50):
            extra = {"secrets": secrets, "settings": {"sender": "Desk", "window": window}}
            run = driven("smpp", f"smpp://127.0.0.1:{SMPP_PORT}", "+86185%08d", 1, 64, seconds, **extra)
            row(f"smpp, window {window}", measure(run))


def smtp_cases(seconds: float) -> None:
    settings = {"from_address": "sla@example.com", "from_name": "Desk"}
    with sink("smtp", SMTP_PORT):
        base = row("raw SMTP, 16 connections, pipelined", measure(raw(RawSmtp, SMTP_PORT, 16, seconds)))
        for batch in (1, 100):
            run = driven(
                "smtp", f"smtp://127.0.0.1:{SMTP_PORT}", "user%d@example.com", batch, 16, seconds, settings=settings
            )
            row(f"smtp, {batch} queued at a time, 16 connections", measure(run), base)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    wanted = {name for name in options.only.split(",") if name}
    print(f"{'case':<52}{'sent':>9}{'rate':>12}{'ratio':>7}{'CPU each':>12}")
    if not wanted or wanted - {"smtp", "apns", "smpp"}:
        http_cases(options.seconds, wanted)
    if not wanted or wanted & {"apns", "smpp"}:
        push_cases(options.seconds)
    if not wanted or "smtp" in wanted:
        smtp_cases(options.seconds)


if __name__ == "__main__":
    main()
