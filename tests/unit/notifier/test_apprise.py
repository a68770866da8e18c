"""The way out through apprise: bounded, honest about what it does not know, closed to the schemes that lie."""

from __future__ import annotations

import asyncio
import threading

import pytest

from services.notifier.channels.apprise_pool import REFUSED, AppriseDriver
from services.notifier.channels.base import Content, Kind, Message, Options
from services.notifier.errors import ConfigError
from tests.conformance.cases import make_net
from tests.fakes.server import Answer, FakeProvider, Recorded


class FakeTarget(FakeProvider):
    """What apprise's `json://` posts to."""

    def handle(self, request: Recorded) -> Answer:
        return Answer(200, {})


def driver_for(url: str, timeout: float = 5.0, workers: int = 2) -> AppriseDriver:
    options = Options("other", secrets={"url": url}, settings={"workers": workers}, timeout_seconds=timeout)
    return AppriseDriver(options, make_net())


def texts(count: int) -> list[Message]:
    return [Message(f"m{n}", "ops", Content(title="T-1042", text=f"text {n}")) for n in range(count)]


def test_messages_arrive_and_refusals_are_transient() -> None:
    with FakeTarget().in_thread() as fake:

        async def run() -> list[Kind]:
            driver = driver_for(fake.url.replace("http://", "json://"))
            first = await driver.send(texts(3))
            fake.scripted.append(Answer(500, {}))
            second = await driver.send(texts(1))
            await driver.close()
            return [outcome.kind for outcome in first + second]

        assert asyncio.run(run()) == [Kind.ACCEPTED] * 3 + [Kind.TRANSIENT]
        assert {request.json()["message"] for request in fake.recorded} == {"text 0", "text 1", "text 2"}


def test_no_answer_in_time_is_unknown_and_a_full_pool_takes_nothing() -> None:
    with FakeTarget().in_thread() as fake:
        fake.delay_seconds = 1.0

        async def run() -> list[Kind]:
            driver = driver_for(fake.url.replace("http://", "json://"), timeout=0.2, workers=1)
            outcomes = await driver.send(texts(12))
            await driver.close()
            return [outcome.kind for outcome in outcomes]

        assert asyncio.run(run()) == [Kind.UNKNOWN] * 8 + [Kind.TRANSIENT] * 4
        assert sum(thread.name.startswith("apprise-other") for thread in threading.enumerate()) <= 1


@pytest.mark.parametrize("scheme", REFUSED)
def test_schemes_that_report_success_wrongly_are_refused_with_the_driver_to_use(scheme: str) -> None:
    with pytest.raises(ConfigError, match=REFUSED[scheme]):
        driver_for(f"{scheme}://abcdefghijklmnopqrstuvwxyz0123456789/")


def test_a_url_nobody_understands_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError) as caught:
        driver_for("nosuch://secret-token")
    assert "secret-token" not in str(caught.value)
