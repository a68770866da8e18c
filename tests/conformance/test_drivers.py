"""One suite for every driver and its fake: the promises of services/notifier/channels."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from services.notifier.channels.base import Driver, Kind, Message, Net
from services.notifier.channels.http import HttpClient
from tests.conformance.cases import CASES, Case, make_driver, make_message, make_net
from tests.fakes.server import Answer, Window

every_driver = pytest.mark.parametrize("case", CASES, ids=lambda case: case.label or case.driver)
over_http = pytest.mark.parametrize(
    "case", [case for case in CASES if case.driver not in ("smtp", "smpp")], ids=lambda case: case.driver
)

Story = Callable[[Driver, Any, Net], Awaitable[None]]


def play(case: Case, story: Story, **options: Any) -> None:
    """Run a story in a loop of its own, with the driver pointed at its running fake."""

    async def run() -> None:
        async with case.fake() as fake:
            net = make_net()
            driver = make_driver(case, fake, net, **options)
            try:
                await story(driver, fake, net)
            finally:
                await driver.close()
                await net.http.close()

    asyncio.run(run())


async def send_one(driver: Driver, message: Message) -> Any:
    [outcome] = await driver.send([message])
    return outcome


@every_driver
def test_a_message_is_accepted_and_reaches_its_address(case: Case) -> None:
    async def story(driver: Driver, fake: Any, net: Net) -> None:
        message = make_message(case, fake, 1)
        outcome = await send_one(driver, message)
        assert outcome.kind is Kind.ACCEPTED, outcome
        assert len(fake.taken) == 1
        if outcome.provider_id is not None:
            assert outcome.provider_id == fake.taken[0].provider_id

    play(case, story)


@every_driver
def test_a_wrong_secret_is_refused_and_never_shown(case: Case) -> None:
    async def story(driver: Driver, fake: Any, net: Net) -> None:
        outcome = await send_one(driver, make_message(case, fake, 1))
        assert outcome.kind == case.wrong_kind, outcome
        assert fake.refused_signatures + (fake.google.refused_signatures if case.driver == "fcm" else 0) == 1
        assert fake.taken == []
        assert not any(secret in outcome.detail for secret in case.wrong.values())

    play(case, story, secrets=case.wrong)


@every_driver
def test_every_documented_error_becomes_its_outcome(case: Case) -> None:
    async def story(driver: Driver, fake: Any, net: Net) -> None:
        for number, (code, kind) in enumerate(fake.errors.items()):
            fake.next_errors.append(code)
            outcome = await send_one(driver, make_message(case, fake, number))
            assert outcome.kind == kind, (code, outcome)
            assert not any(secret in outcome.detail for secret in case.secrets.values() if len(secret) > 3)
            if kind == "throttled":
                assert outcome.after is not None, code
            if kind == "capped_recipient":
                assert outcome.until is not None, code
                assert outcome.until > net.now(), code
        assert fake.taken == []

    play(case, story)


@every_driver
def test_a_real_throttle_is_reported_with_its_pause(case: Case) -> None:
    async def story(driver: Driver, fake: Any, net: Net) -> None:
        fake.window = Window(2, 60.0)
        kinds = [
            (await send_one(driver, make_message(case, fake, number, text=f"text {number}"))).kind
            for number in range(4)
        ]
        assert kinds == [Kind.ACCEPTED, Kind.ACCEPTED, case.throttle_kind, case.throttle_kind]
        assert len(fake.taken) == 2

    play(case, story)


@every_driver
def test_a_connection_cut_after_the_body_is_unknown_and_says_if_a_second_try_is_safe(case: Case) -> None:
    async def story(driver: Driver, fake: Any, net: Net) -> None:
        await send_one(driver, make_message(case, fake, 0, text="before"))  # tokens and connections are there
        fake.cut_after_body = 1
        message = make_message(case, fake, 1)
        outcome = await send_one(driver, message)
        assert outcome.kind is Kind.UNKNOWN, outcome
        assert outcome.resend_safe is driver.has_idempotency
        assert len(fake.taken) == 2
        if driver.has_idempotency:
            again = await send_one(driver, msgspec.structs.replace(message, provider_id=outcome.provider_id))
            assert again.kind is Kind.ACCEPTED
            assert len(fake.taken) == 2, "a second copy was made"
        if driver.has_lookup and driver.name not in ("dingtalk_work",):
            found = await driver.lookup(message)
            assert found is not None
            assert found.kind is Kind.ACCEPTED
            assert await driver.lookup(make_message(case, fake, 99)) is None

    play(case, story)


with_query = pytest.mark.parametrize(
    "case", [case for case in CASES if case.driver in ("signed_http_sms", "aliyun_sms")], ids=lambda case: case.driver
)


@with_query
def test_each_message_of_a_batch_whose_answer_was_lost_is_found_again(case: Case) -> None:
    async def story(driver: Driver, fake: Any, net: Net) -> None:
        fake.cut_after_body = 1
        batch = [make_message(case, fake, number) for number in range(3)]
        outcomes = await driver.send(batch)
        assert {outcome.kind for outcome in outcomes} == {Kind.UNKNOWN}
        for message, outcome in zip(batch, outcomes, strict=True):
            kept = msgspec.structs.replace(message, provider_id=outcome.provider_id, attempted_at=net.now())
            found = await driver.lookup(kept)
            assert found is not None
            assert found.kind is Kind.ACCEPTED
            forgotten = await driver.lookup(msgspec.structs.replace(message, attempted_at=net.now()))
            assert forgotten is not None, "a batch nobody remembers must not look as if it was never sent"

    play(case, story)


@every_driver
def test_an_answer_that_does_not_come_in_time_is_unknown(case: Case) -> None:
    async def story(driver: Driver, fake: Any, net: Net) -> None:
        await send_one(driver, make_message(case, fake, 0, text="before"))
        fake.delay_seconds = 5.0
        outcome = await send_one(driver, make_message(case, fake, 1))
        assert outcome.kind is Kind.UNKNOWN, outcome

    play(case, story, timeout=0.3)


@every_driver
def test_nobody_listening_is_transient(case: Case) -> None:
    async def run() -> None:
        async with case.fake() as fake:
            message = make_message(case, fake, 1)
            url = fake.url
        fake.url = url
        net = make_net()
        driver = make_driver(case, fake, net)
        assert (await send_one(driver, message)).kind is Kind.TRANSIENT
        await driver.close()

    asyncio.run(run())


@over_http
@pytest.mark.parametrize(
    "raw",
    [b"", b"<html>busy</html>", b"[1,2]", b"\xff\xfe", b'{"unexpected": true}'],
    ids=["empty", "html", "list", "bytes", "other"],
)
def test_an_unreadable_success_is_never_taken_for_success_or_failure(case: Case, raw: bytes) -> None:
    async def story(driver: Driver, fake: Any, net: Net) -> None:
        await send_one(driver, make_message(case, fake, 0, text="before"))
        fake.scripted.append(Answer(200, raw=raw))
        outcome = await send_one(driver, make_message(case, fake, 1))
        if case.by_status:
            assert outcome.kind is Kind.ACCEPTED
        else:
            assert outcome.kind is Kind.UNKNOWN, outcome

    play(case, story)


@over_http
@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_gateway_in_trouble_is_transient_or_asks_to_wait(case: Case, status: int) -> None:
    async def story(driver: Driver, fake: Any, net: Net) -> None:
        await send_one(driver, make_message(case, fake, 0, text="before"))
        fake.scripted.append(Answer(status, raw=b"<html>bad gateway</html>"))
        assert (await send_one(driver, make_message(case, fake, 1))).kind in (Kind.TRANSIENT, Kind.THROTTLED)

    play(case, story)


@every_driver
def test_a_batch_answers_each_message_in_order(case: Case) -> None:
    async def story(driver: Driver, fake: Any, net: Net) -> None:
        batch = [make_message(case, fake, number) for number in range(7)]
        outcomes = await driver.send(batch)
        assert [outcome.kind for outcome in outcomes] == [Kind.ACCEPTED] * 7
        by_address: dict[str, list[str]] = {}
        for taken in fake.taken:
            by_address.setdefault(taken.address, []).append(taken.provider_id)
        for message, outcome in zip(batch, outcomes, strict=True):
            if outcome.provider_id is not None and message.address in by_address:
                assert outcome.provider_id in by_address[message.address]
        assert len(fake.taken) == 7

    play(case, story)


@every_driver
def test_one_bad_recipient_in_a_batch_does_not_take_the_others_down(case: Case) -> None:
    async def story(driver: Driver, fake: Any, net: Net) -> None:
        if case.driver == "signed_http_sms":
            fake.error_of_address[case.address(3)] = "bad_recipient"
        elif case.driver == "smtp":
            fake.error_of_address[case.address(3)] = "550 5.1.1 no such user"
        elif case.driver in ("wecom_app", "dingtalk_work"):
            fake.known_users = {case.address(number) for number in range(5) if number != 3}
        else:
            return
        outcomes = await driver.send([make_message(case, fake, number) for number in range(5)])
        if case.driver == "dingtalk_work":  # told later, by the query
            message = make_message(case, fake, 3)
            late = await driver.lookup(
                type(message)(message.message_id, message.address, message.content, provider_id=outcomes[3].provider_id)
            )
            assert late is not None
            assert late.kind is Kind.BAD_RECIPIENT
        else:
            assert [outcome.kind for outcome in outcomes] == [Kind.ACCEPTED] * 3 + [Kind.BAD_RECIPIENT, Kind.ACCEPTED]
        assert len(fake.taken) == 4

    play(case, story)


@every_driver
def test_hundreds_at_once_all_arrive_exactly_once(case: Case) -> None:
    async def story(driver: Driver, fake: Any, net: Net) -> None:
        if case.driver == "wecom_app":
            batches = [[make_message(case, fake, number)] for number in range(200)]
        else:
            batches = [[make_message(case, fake, number, text=f"text {number}")] for number in range(200)]
        outcomes = [
            outcome for answer in await asyncio.gather(*(driver.send(batch) for batch in batches)) for outcome in answer
        ]
        assert {outcome.kind for outcome in outcomes} == {Kind.ACCEPTED}
        assert len(fake.taken) == 200

    play(case, story)


@over_http
def test_few_connections_carry_many_calls(case: Case) -> None:
    async def run() -> None:
        async with case.fake() as fake:
            http = HttpClient(limit=2)
            driver = make_driver(case, fake, make_net(http))
            outcomes = await asyncio.gather(
                *(send_one(driver, make_message(case, fake, n, text=f"text {n}")) for n in range(20))
            )
            assert {outcome.kind for outcome in outcomes} == {Kind.ACCEPTED}
            assert fake.connections <= 2
            await http.close()

    asyncio.run(run())


with_tokens = pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.driver in ("dingtalk_work", "wecom_app", "feishu_app", "getui")],
    ids=lambda case: case.driver,
)


@with_tokens
def test_a_token_is_fetched_once_for_all_who_wait_and_renewed_once_when_refused(case: Case) -> None:
    async def story(driver: Driver, fake: Any, net: Net) -> None:
        first = await asyncio.gather(
            *(send_one(driver, make_message(case, fake, n, text=f"text {n}")) for n in range(10))
        )
        assert {outcome.kind for outcome in first} == {Kind.ACCEPTED}
        assert fake.token_calls == 1
        fake.expire_tokens()
        assert (await send_one(driver, make_message(case, fake, 20, text="later"))).kind is Kind.ACCEPTED
        assert fake.token_calls == 2

    play(case, story)


@with_tokens
def test_a_token_call_that_fails_sends_nothing_and_is_transient(case: Case) -> None:
    async def story(driver: Driver, fake: Any, net: Net) -> None:
        fake.cut_after_body = 1
        assert (await send_one(driver, make_message(case, fake, 1))).kind is Kind.TRANSIENT
        fake.scripted.append(Answer(500, raw=b"<html>"))
        assert (await send_one(driver, make_message(case, fake, 1))).kind is Kind.TRANSIENT
        assert fake.taken == []
        assert (await send_one(driver, make_message(case, fake, 1))).kind is Kind.ACCEPTED

    play(case, story)
